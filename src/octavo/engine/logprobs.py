"""Log-probabilities as callers read them: by token id, with ranks and the tokens' texts."""

from collections.abc import Sequence

from octavo.core.messages import TokenLogprobs
from octavo.core.outputs import Logprob
from octavo.tokenizer.tokenizer import Tokenizer


def readable(tokenizer: Tokenizer | None, entry: TokenLogprobs) -> dict[int, Logprob]:
    """Token id → log-probability: the token itself first, then the top ones."""
    found = {entry.token_id: Logprob(entry.logprob, entry.rank, _text(tokenizer, entry.token_id))}
    for rank, (token, logprob) in enumerate(zip(entry.top_token_ids, entry.top_logprobs, strict=True), start=1):
        if token not in found:
            found[token] = Logprob(logprob, rank, _text(tokenizer, token))
    return found


def readable_prompt(tokenizer: Tokenizer | None, entries: Sequence[TokenLogprobs]) -> list[dict[int, Logprob] | None]:
    """One entry a prompt token; the first is None: nothing comes before it. Not for an event loop: there may be many."""
    return [None, *(readable(tokenizer, entry) for entry in entries)]


def _text(tokenizer: Tokenizer | None, token_id: int) -> str | None:
    return None if tokenizer is None else tokenizer.token_bytes(token_id).decode("utf-8", "replace")
