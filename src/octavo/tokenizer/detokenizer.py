"""Output tokens to text as they are sampled, with nothing sent that might have to be taken back.

The text of an output is its tokens' bytes joined, decoded as UTF-8 with U+FFFD for what is invalid:
the output continues the prompt, so a leading space stays. This is `Tokenizer.decode(ids,
is_continuation=True)`, and the pieces pushed here join to exactly that, however the tokens were
grouped into pushes.
"""

import codecs
from collections.abc import Sequence
from dataclasses import dataclass

from octavo.tokenizer.stop_strings import StopMatcher
from octavo.tokenizer.tokenizer import Tokenizer


@dataclass(frozen=True, slots=True)
class Piece:
    """Text that is now certain. After a stop string nothing more comes.

    `num_tokens_used` counts the pushed tokens up to and including the one that completed
    `stop_string`; without one, all of them.
    """

    text: str
    stop_string: str | None
    num_tokens_used: int


class IncrementalDetokenizer:
    """The text of one output, token by token; O(1) amortised per byte.

    Held back are the bytes of an unfinished character, and characters that may begin a stop string.
    The output ends with the first token after which its text holds a stop string; of several, the
    one that starts first counts, and of those starting together the first listed. The text ends
    before that string, or after it with `include_stop_str_in_output`. In the text of the first
    `min_tokens` tokens no stop string counts, not even its beginning. Special tokens are skipped, but for
    `shown_special_token_ids`.
    """

    def __init__(
        self,
        tokenizer: Tokenizer,
        *,
        skip_special_tokens: bool = True,
        shown_special_token_ids: Sequence[int] = (),
        stop: Sequence[str] = (),
        include_stop_str_in_output: bool = False,
        min_tokens: int = 0,
    ) -> None:
        self._tokenizer = tokenizer
        skipped = tokenizer.special_token_ids if skip_special_tokens else frozenset()
        self._skipped: frozenset[int] = skipped.difference(shown_special_token_ids)
        self._decoder = codecs.getincrementaldecoder("utf-8")("replace")
        self._stop = tuple(stop)
        self._matcher = StopMatcher(self._stop) if self._stop else None
        self._includes_stop = include_stop_str_in_output
        self._held = ""
        self._num_emitted = 0
        self._num_exempt = min_tokens
        self._is_finished = False

    def push(self, token_ids: Sequence[int]) -> Piece:
        """Take the next sampled tokens; the text they make certain. Not to be called once stopped or finished."""
        assert not self._is_finished, "push after the output ended"
        if self._matcher is None:
            data = b"".join(map(self._bytes, token_ids))
            return Piece(self._decoder.decode(data), None, len(token_ids))
        texts: list[str] = []
        for num_used, token_id in enumerate(token_ids, start=1):
            if self._num_exempt > 0:
                self._num_exempt -= 1
                texts.append(self._decoder.decode(self._bytes(token_id)))
                continue
            text, stop_string = self._read(self._matcher, self._decoder.decode(self._bytes(token_id)))
            texts.append(text)
            if stop_string is not None:
                return Piece("".join(texts), stop_string, num_used)
        return Piece("".join(texts), None, len(token_ids))

    def finish(self) -> str:
        """The text still held back: no further token comes. An unfinished character becomes U+FFFD."""
        if self._is_finished:
            return ""
        self._is_finished = True
        return self._held + self._decoder.decode(b"", final=True)

    def _bytes(self, token_id: int) -> bytes:
        return b"" if token_id in self._skipped else self._tokenizer.token_bytes(token_id)

    def _read(self, matcher: StopMatcher, text: str) -> tuple[str, str | None]:
        """Add `text`; the part of the held text that is now certain, and the stop string found."""
        match = matcher.read(text)
        self._held += text
        if match is not None:
            self._is_finished = True
            end = match.start + (match.length if self._includes_stop else 0) - self._num_emitted
            return self._held[:end], self._stop[match.index]
        num_certain = len(self._held) - matcher.num_held
        certain, self._held = self._held[:num_certain], self._held[num_certain:]
        self._num_emitted += num_certain
        return certain, None
