"""What a GGUF file says of its tokenizer (`tokenizer.*` metadata), checked and typed.

Keys as the GGUF specification names them (https://github.com/ggml-org/ggml/blob/master/docs/gguf.md).
"""

from collections.abc import Mapping
from dataclasses import dataclass
from enum import IntEnum
from typing import Any

import numpy as np
import numpy.typing as npt

from octavo.core.errors import ModelFileError

_PREFIX = "tokenizer.ggml."
_MAX_TOKENS = 1 << 22


class TokenType(IntEnum):
    """`tokenizer.ggml.token_type`. UNDEFINED is treated as NORMAL."""

    UNDEFINED = 0
    NORMAL = 1
    UNKNOWN = 2
    CONTROL = 3
    USER_DEFINED = 4
    UNUSED = 5
    BYTE = 6


@dataclass(frozen=True, slots=True, kw_only=True)
class GGUFVocabulary:
    """A checked vocabulary: `scores` and `token_types`, where present, are as long as `tokens`.

    `add_bos`, `add_eos`, `add_space_prefix` are None where the file is silent; the default then
    depends on `model`. `eot_token_ids` are further ids that the file says end a turn or message.
    """

    model: str
    pre: str | None
    name: str
    architecture: str | None
    tokens: list[str]
    scores: npt.NDArray[np.float64] | None
    token_types: npt.NDArray[np.int64]
    merges: list[str] | None
    bos_token_id: int | None
    eos_token_id: int | None
    unknown_token_id: int | None
    eot_token_ids: tuple[int, ...]
    add_bos: bool | None
    add_eos: bool | None
    add_space_prefix: bool | None
    remove_extra_whitespaces: bool
    precompiled_charsmap: bytes
    chat_template: str | None

    def ids_of(self, *types: TokenType) -> list[int]:
        """Ids of the tokens of the given types, ascending. O(vocabulary)."""
        found: list[int] = np.flatnonzero(np.isin(self.token_types, types)).tolist()
        return found


def read_vocabulary(metadata: Mapping[str, Any]) -> GGUFVocabulary:
    """The vocabulary in `metadata`. Raises `ModelFileError` where it is missing or contradicts itself."""
    model = _text(metadata, _PREFIX + "model")
    if model is None:
        raise ModelFileError(f"{_PREFIX}model is missing: the GGUF file holds no tokenizer; convert the model again")
    tokens = _tokens(metadata)
    eot = (_token_id(metadata, key, len(tokens)) for key in ("eot_token_id", "eom_token_id"))
    return GGUFVocabulary(
        model=model,
        pre=_text(metadata, _PREFIX + "pre"),
        name=_text(metadata, "general.name") or f"gguf:{model}",
        architecture=_text(metadata, "general.architecture"),
        tokens=tokens,
        scores=_scores(metadata, len(tokens)),
        token_types=_token_types(metadata, len(tokens)),
        merges=_strings(metadata, _PREFIX + "merges"),
        bos_token_id=_token_id(metadata, "bos_token_id", len(tokens)),
        eos_token_id=_token_id(metadata, "eos_token_id", len(tokens)),
        unknown_token_id=_token_id(metadata, "unknown_token_id", len(tokens)),
        eot_token_ids=tuple(token_id for token_id in eot if token_id is not None),
        add_bos=_flag(metadata, _PREFIX + "add_bos_token"),
        add_eos=_flag(metadata, _PREFIX + "add_eos_token"),
        add_space_prefix=_flag(metadata, _PREFIX + "add_space_prefix"),
        remove_extra_whitespaces=_flag(metadata, _PREFIX + "remove_extra_whitespaces") or False,
        precompiled_charsmap=_bytes(metadata, _PREFIX + "precompiled_charsmap"),
        chat_template=_text(metadata, "tokenizer.chat_template") or _text(metadata, "tokenizer.chat_template.default"),
    )


def _tokens(metadata: Mapping[str, Any]) -> list[str]:
    tokens = _strings(metadata, _PREFIX + "tokens")
    if not tokens:
        raise ModelFileError(f"{_PREFIX}tokens is missing or empty: the GGUF file holds no vocabulary")
    if len(tokens) > _MAX_TOKENS:
        raise ModelFileError(f"{_PREFIX}tokens has {len(tokens)} entries; at most {_MAX_TOKENS} are allowed")
    if len(set(tokens)) != len(tokens):
        seen: set[str] = set()
        twice = next(token for token in tokens if token in seen or seen.add(token))  # type: ignore[func-returns-value]
        raise ModelFileError(f"{_PREFIX}tokens holds {twice!r} twice; a token has one id")
    return tokens


def _strings(metadata: Mapping[str, Any], key: str) -> list[str] | None:
    values = metadata.get(key)
    if values is None:
        return None
    if isinstance(values, np.ndarray):
        values = values.tolist()
    if not isinstance(values, (list, tuple)):
        raise ModelFileError(f"{key} is a {type(values).__name__}, not an array")
    if not set(map(type, values)) <= {str}:
        wrong = next(value for value in values if type(value) is not str)
        raise ModelFileError(f"{key} holds {wrong!r}, not only strings")
    return list(values)


def _numbers(metadata: Mapping[str, Any], key: str, kinds: str) -> npt.NDArray[Any] | None:
    """The array at `key`, of a dtype kind in `kinds` («iu» or «iuf»)."""
    values = metadata.get(key)
    if values is None:
        return None
    if not isinstance(values, (list, tuple, np.ndarray)):
        raise ModelFileError(f"{key} is a {type(values).__name__}, not an array")
    try:
        array = np.asarray(values)
    except (ValueError, OverflowError) as error:
        raise ModelFileError(f"{key} is not an array of numbers: {error}") from error
    if array.ndim != 1 or (array.size and array.dtype.kind not in kinds):
        raise ModelFileError(f"{key} is not an array of {'integers' if kinds == 'iu' else 'numbers'}")
    return array


def _same_length(key: str, array: npt.NDArray[Any], num_tokens: int) -> None:
    if len(array) != num_tokens:
        raise ModelFileError(f"{key} has {len(array)} entries but {_PREFIX}tokens has {num_tokens}; they must agree")


def _token_types(metadata: Mapping[str, Any], num_tokens: int) -> npt.NDArray[np.int64]:
    key = _PREFIX + "token_type"
    types = _numbers(metadata, key, "iu")
    if types is None:
        return np.full(num_tokens, TokenType.NORMAL, dtype=np.int64)
    _same_length(key, types, num_tokens)
    if types.min() < TokenType.UNDEFINED or types.max() > TokenType.BYTE:
        raise ModelFileError(f"{key} holds {types.min()} … {types.max()}; allowed are 0 to 6")
    return types.astype(np.int64)


def _scores(metadata: Mapping[str, Any], num_tokens: int) -> npt.NDArray[np.float64] | None:
    key = _PREFIX + "scores"
    scores = _numbers(metadata, key, "iuf")
    if scores is None:
        return None
    _same_length(key, scores, num_tokens)
    if not np.isfinite(scores).all():
        raise ModelFileError(f"{key} holds a score that is not finite")
    return scores.astype(np.float64)


def _bytes(metadata: Mapping[str, Any], key: str) -> bytes:
    """An array of int8 or uint8."""
    if isinstance(metadata.get(key), (bytes, bytearray)):
        return bytes(metadata[key])
    array = _numbers(metadata, key, "iu")
    if array is None:
        return b""
    if array.size and (array.min() < -128 or array.max() > 255):
        raise ModelFileError(f"{key} is not an array of bytes")
    return (array & 0xFF).astype(np.uint8).tobytes()


def _text(metadata: Mapping[str, Any], key: str) -> str | None:
    value = metadata.get(key)
    if value is None or isinstance(value, str):
        return value
    raise ModelFileError(f"{key} is {value!r}, not a string")


def _flag(metadata: Mapping[str, Any], key: str) -> bool | None:
    value = metadata.get(key)
    if value is None or isinstance(value, bool):
        return value
    raise ModelFileError(f"{key} is {value!r}, not true or false")


def _token_id(metadata: Mapping[str, Any], name: str, num_tokens: int) -> int | None:
    value = metadata.get(_PREFIX + name)
    if value is None:
        return None
    if isinstance(value, (int, np.integer)) and not isinstance(value, bool) and 0 <= value < num_tokens:
        return int(value)
    raise ModelFileError(f"{_PREFIX}{name}={value!r} is not a token id; ids run from 0 to {num_tokens - 1}")
