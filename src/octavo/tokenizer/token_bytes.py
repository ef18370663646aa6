"""From a token's spelling to the exact bytes it contributes to the text.

Two spellings exist. Byte-level BPE writes every byte as one printable letter (GPT-2's table).
SentencePiece writes text as it is, a space as «▁», and a byte that no piece covers as «<0xNN>».
"""

import json
import re
from dataclasses import dataclass
from functools import lru_cache
from typing import Any

from tokenizers.decoders import Decoder

from octavo.core.errors import UnsupportedModelError

_BYTE_TOKEN = re.compile(r"<0x([0-9A-Fa-f]{2})>")


@lru_cache(maxsize=1)
def byte_letters() -> dict[str, int]:
    """GPT-2's table, letter → byte: printable Latin-1 stands for itself, other bytes for U+0100 onward."""
    printable = [*range(0x21, 0x7F), *range(0xA1, 0xAD), *range(0xAE, 0x100)]
    letters = {chr(byte): byte for byte in printable}
    others = (byte for byte in range(256) if byte not in set(printable))
    letters.update({chr(0x100 + index): byte for index, byte in enumerate(others)})
    return letters


@dataclass(frozen=True, slots=True, kw_only=True)
class TokenSpelling:
    """How a tokenizer's tokens spell bytes, read from its decoder."""

    is_byte_level: bool
    replacements: tuple[tuple[str, str], ...] = ()
    """Text → text, applied in order to each token; SentencePiece's «▁» → space."""
    has_byte_tokens: bool = False
    strips_first_space: bool = False
    """Encoding puts a space before the text, so decoding a whole text takes one away."""

    def to_bytes(self, token: str, *, is_added: bool) -> bytes:
        """The bytes of `token`; an added token of a byte-level tokenizer stands for its own text."""
        if self.is_byte_level:
            letters = byte_letters()
            if is_added or not all(letter in letters for letter in token):
                return token.encode("utf-8", "replace")
            return bytes(letters[letter] for letter in token)
        if self.has_byte_tokens and (match := _BYTE_TOKEN.fullmatch(token)):
            return bytes.fromhex(match[1])
        for old, new in self.replacements:
            token = token.replace(old, new)
        return token.encode("utf-8", "replace")


def read_spelling(decoder: Decoder | None) -> TokenSpelling:
    """The spelling that a tokenizer's decoder implies.

    Raises `UnsupportedModelError` for a decoder whose text is not the tokens' bytes joined.
    """
    if decoder is None:
        raise UnsupportedModelError("tokenizer.json has no decoder, so its tokens cannot be turned into text")
    return _spelling(json.loads(decoder.__getstate__()))


def _spelling(decoder: dict[str, Any]) -> TokenSpelling:
    steps = decoder["decoders"] if decoder["type"] == "Sequence" else [decoder]
    if any(step["type"] == "ByteLevel" for step in steps):
        _require(steps, {"ByteLevel", "Fuse"})
        return TokenSpelling(is_byte_level=True)
    _require(steps, {"Replace", "ByteFallback", "Fuse", "Strip", "Metaspace"})
    metaspaces = [step for step in steps if step["type"] == "Metaspace"]
    strips = [step for step in steps if step["type"] == "Strip"]
    return TokenSpelling(
        is_byte_level=False,
        replacements=tuple((step["pattern"]["String"], step["content"]) for step in steps if step["type"] == "Replace")
        + tuple((step["replacement"], " ") for step in metaspaces),
        has_byte_tokens=any(step["type"] == "ByteFallback" for step in steps),
        strips_first_space=any(step["start"] for step in strips)
        or any(step.get("prepend_scheme", "always") != "never" for step in metaspaces),
    )


def _require(steps: list[dict[str, Any]], known: set[str]) -> None:
    for step in steps:
        kind = step["type"]
        is_plain = kind != "Replace" or "String" in step["pattern"]
        is_left_space = kind != "Strip" or (step["content"] == " " and step["start"] <= 1 and step["stop"] == 0)
        if kind not in known or not is_plain or not is_left_space:
            listed = ", ".join(each["type"] for each in steps)
            raise UnsupportedModelError(
                f"tokenizer.json has the decoder {listed}, of which {kind} does not fit the rest token by token; known are "
                "ByteLevel with Fuse, or Replace, ByteFallback, Fuse, Strip (one leading space) and Metaspace; use the "
                "model's original tokenizer.json, or --skip-tokenizer-init and token ids"
            )
