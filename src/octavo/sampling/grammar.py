"""Answers held to a grammar, token by token.

    matcher ──┬─▶ which tokens may come next (a bit a token)
       ▲      └─▶ whether any may
       └── the tokens that came

Shapes: V vocabulary.
"""

from collections.abc import Sequence

import llguidance
import numpy as np
import torch
from torch import Tensor

from octavo.tokenizer.grammar import bad_grammar


class GrammarState:
    """How far one sequence has come in its grammar."""

    def __init__(self, matcher: llguidance.LLMatcher) -> None:
        self._matcher = matcher
        self._num_taken = 0

    def forbid_others(self, logits_V: Tensor, output_token_ids: Sequence[int]) -> None:
        """−∞ for the logits of all tokens that cannot follow the output, in place.

        Raises `InvalidRequestError` where the grammar takes more work than is allowed.
        """
        # Those that came before this state was made, where a sequence goes on that had begun elsewhere.
        self._take(output_token_ids[self._num_taken :])
        bits = np.frombuffer(self._matcher.compute_bitmask(), np.uint8)
        if self._matcher.is_error():
            raise bad_grammar(self._matcher.get_error())
        is_allowed = np.unpackbits(bits, count=len(logits_V), bitorder="little").view(np.bool_)
        logits_V.masked_fill_(torch.from_numpy(~is_allowed).to(logits_V.device), -torch.inf)

    def is_complete_with(self, token_id: int) -> bool:
        """Take the next token; whether nothing can follow it but an end of the text. Raises as `forbid_others` does."""
        self._take([token_id])
        return self._matcher.is_stopped()

    def _take(self, token_ids: Sequence[int]) -> None:
        self._num_taken += len(token_ids)
        if not self._matcher.consume_tokens([int(token) for token in token_ids]):
            raise bad_grammar(self._matcher.get_error())
