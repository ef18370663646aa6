"""Log-probabilities in the two forms that the OpenAI API has for them."""

import codecs
from collections.abc import Iterator, Sequence

from octavo.core.messages import TokenLogprobs
from octavo.core.outputs import Logprob
from octavo.engine.logprobs import readable, readable_prompt
from octavo.server.replies import ChatLogprobs, CompletionLogprobs, TokenLogprob, TopLogprob, Written
from octavo.server.wire import written
from octavo.tokenizer.tokenizer import Tokenizer

LOWEST_LOGPROB = -9999.0
"""What OpenAI sends for «all but impossible»: JSON has no −∞."""

Entry = dict[int, Logprob]
"""Token id → log-probability: the token itself first, then the top ones, best first."""


def finite(logprob: float) -> float:
    return max(logprob, LOWEST_LOGPROB)


def written_prompt_logprobs(tokenizer: Tokenizer, entries: Sequence[TokenLogprobs]) -> Written:
    """Not for the event loop: there may be a hundred thousand."""
    return written([None, *(_written_entry(readable(tokenizer, entry)) for entry in entries)])


def _written_entry(entry: Entry) -> Written:
    for logprob in entry.values():
        logprob.logprob = finite(logprob.logprob)
    return written(entry)


def chat_logprobs(
    tokenizer: Tokenizer, token_ids: Sequence[int], entries: Sequence[Entry], num_top: int
) -> ChatLogprobs:
    """One entry a token, with its `num_top` likeliest."""
    content = []
    for token, entry in zip(token_ids, entries, strict=True):
        own = _described(tokenizer, token, entry[token])
        top = [_described(tokenizer, other, logprob) for other, logprob in _likeliest(token, entry, num_top)]
        content.append(written(TokenLogprob(token=own.token, logprob=own.logprob, bytes=own.bytes, top_logprobs=top)))
    return ChatLogprobs(content=content)


def _described(tokenizer: Tokenizer, token: int, logprob: Logprob) -> TopLogprob:
    data = tokenizer.token_bytes(token)
    return TopLogprob(token=data.decode("utf-8", "replace"), logprob=finite(logprob.logprob), bytes=list(data))


def _likeliest(token: int, entry: Entry, num_top: int) -> list[tuple[int, Logprob]]:
    """The engine's top tokens, best first. `token` is one of them just where leaving it out leaves too few."""
    others = [(other, logprob) for other, logprob in entry.items() if other != token]
    if len(others) < num_top:
        others.append((token, entry[token]))
    return sorted(others, key=lambda item: -item[1].logprob)[:num_top]


class CompletionLogprobsWriter:
    """One choice's `logprobs`, piece by piece: `text_offset` goes on where the last piece ended.

    A token's offset is the number of characters that are complete before its first byte.
    """

    def __init__(self, tokenizer: Tokenizer, num_top: int, *, skip_special_tokens: bool) -> None:
        self._tokenizer = tokenizer
        self._num_top = num_top
        self._skipped: frozenset[int] = tokenizer.special_token_ids if skip_special_tokens else frozenset()
        self._decoder = codecs.getincrementaldecoder("utf-8")("replace")
        self._offset = 0

    def prompt(self, token_ids: Sequence[int], entries: Sequence[TokenLogprobs], text: str) -> CompletionLogprobs:
        """The entries of an echoed prompt, whose text is `text`. Not for the event loop: there may be many."""
        read = readable_prompt(self._tokenizer, entries)
        return self._piece(token_ids, read, list(self._prompt_offsets(token_ids, text)))

    def begin_behind(self, text: str) -> None:
        """The answer's offsets go on behind the echoed prompt."""
        self._offset = len(text)

    def write(self, token_ids: Sequence[int], entries: Sequence[Entry]) -> CompletionLogprobs:
        """The entries of the next sampled tokens."""
        offsets = []
        for token in token_ids:
            offsets.append(self._offset)
            if token not in self._skipped:
                self._offset += len(self._decoder.decode(self._tokenizer.token_bytes(token)))
        return self._piece(token_ids, entries, offsets)

    def _prompt_offsets(self, token_ids: Sequence[int], text: str) -> Iterator[int]:
        """Where the text has no special token that the ids have (BOS), it takes no width; nor does an added space."""
        decoder = codecs.getincrementaldecoder("utf-8")("replace")
        offset = 0
        for token in token_ids:
            yield min(offset, len(text))
            piece = decoder.decode(self._tokenizer.token_bytes(token))
            if token in self._tokenizer.special_token_ids and not text.startswith(piece, offset):
                continue
            if offset == 0 and piece.startswith(" ") and not text.startswith(" "):
                piece = piece[1:]
            offset += len(piece)

    def _piece(
        self, token_ids: Sequence[int], entries: Sequence[Entry | None], offsets: list[int]
    ) -> CompletionLogprobs:
        chosen = list(zip(token_ids, entries, strict=True))
        return CompletionLogprobs(
            tokens=[self._tokenizer.token_bytes(token).decode("utf-8", "replace") for token in token_ids],
            token_logprobs=[None if entry is None else finite(entry[token].logprob) for token, entry in chosen],
            top_logprobs=[None if entry is None else written(self._top(token, entry)) for token, entry in chosen],
            text_offset=offsets,
        )

    def _top(self, token: int, entry: Entry) -> dict[str, float]:
        """Text → log-probability: the token's own and the top ones; of two tokens with one text, the likelier."""
        top: dict[str, float] = {}
        for other, logprob in [(token, entry[token]), *_likeliest(token, entry, self._num_top)]:
            top.setdefault(self._tokenizer.token_bytes(other).decode("utf-8", "replace"), finite(logprob.logprob))
        return top


def joined(pieces: Sequence[CompletionLogprobs]) -> CompletionLogprobs:
    """The pieces of a stream as one."""
    return CompletionLogprobs(
        tokens=[token for piece in pieces for token in piece.tokens],
        token_logprobs=[logprob for piece in pieces for logprob in piece.token_logprobs],
        top_logprobs=[top for piece in pieces for top in piece.top_logprobs],
        text_offset=[offset for piece in pieces for offset in piece.text_offset],
    )
