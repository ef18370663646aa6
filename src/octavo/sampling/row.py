"""What the sampler is told of a row of logits, and what it answers."""

from collections.abc import Sequence
from dataclasses import dataclass

from octavo.core.messages import TokenLogprobs
from octavo.core.request import RequestFailure
from octavo.core.sampling_params import SamplingParams
from octavo.sampling.grammar import GrammarState


@dataclass(slots=True, kw_only=True)
class SamplingRow:
    """One sequence whose next token is to be chosen. The sampler keeps nothing of it, and changes its `grammar` alone.

    The token ids may be any sequence of integers; int64 arrays are used without a copy.
    """

    params: SamplingParams
    seed: int
    position: int
    """Index, in the sequence, of the token being chosen: the number of tokens before it."""
    prompt_token_ids: Sequence[int]
    output_token_ids: Sequence[int]
    stop_token_ids: Sequence[int] = ()
    """EOS and stop ids, forbidden while fewer than `params.min_tokens` tokens have been output."""
    allowed_token_ids: Sequence[int] | None = None
    """Those of `params`: there they are a tuple, which takes milliseconds to read, and here they may be an array."""
    grammar: GrammarState | None = None
    """What `params.structured_outputs` allows; it is told of the token that is chosen."""


@dataclass(slots=True, kw_only=True)
class SampledToken:
    """The choice for one row: a token id, or the reason there is none. Exactly one of the two is set."""

    token_id: int | None = None
    logprobs: TokenLogprobs | None = None
    """Of the raw logits; set where the row's `params.logprobs` asks for it."""
    is_complete: bool = False
    """The row's grammar allows nothing behind it."""
    error: RequestFailure | None = None
