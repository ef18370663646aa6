"""Read a JSON object from a file nobody vouches for."""

import json
import os
from pathlib import Path
from typing import Any

from octavo.core.errors import ModelFileError

MAX_JSON_BYTES = 16 << 20
"""The index of a model of 90,000 tensors takes 9 MiB."""
_MAX_JSON_VALUES = 2_000_000  # «[[],[],…» becomes twenty times its size in memory


def read_json_object(path: Path) -> dict[str, Any]:
    """The file's one object. Raises `ModelFileError` for anything else, a key that appears twice included."""
    try:
        if not path.is_file():  # opening a pipe would block
            raise ModelFileError(f"{path} is not a regular file that exists", param=path.name)
        with path.open("rb") as file:
            num_bytes = os.fstat(file.fileno()).st_size
            if num_bytes > MAX_JSON_BYTES:
                raise ModelFileError(
                    f"{path} has {num_bytes} bytes, at most {MAX_JSON_BYTES} are allowed; download it again",
                    param=path.name,
                )
            text = file.read(num_bytes)
    except OSError as error:
        raise ModelFileError(f"{path} cannot be read: {error.strerror or error}", param=path.name) from error
    return parse_json_object(text, what=str(path), param=path.name)


def parse_json_object(text: bytes, *, what: str, param: str) -> dict[str, Any]:
    """`text` as one JSON object; `what` names it in a `ModelFileError`."""
    if sum(map(text.count, (b",", b"[", b"{"))) > _MAX_JSON_VALUES:
        raise ModelFileError(f"{what} has more than {_MAX_JSON_VALUES} values; download it again", param=param)
    try:
        value = json.loads(text, object_pairs_hook=_unique)
    except (ValueError, RecursionError) as error:  # UnicodeDecodeError and JSONDecodeError are ValueErrors
        raise ModelFileError(f"{what} is not sound JSON: {error}; download it again", param=param) from error
    if not isinstance(value, dict):
        raise ModelFileError(f"{what} holds a {type(value).__name__}, a JSON object was expected", param=param)
    return value


def _unique(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    result = dict(pairs)
    if len(result) != len(pairs):
        seen: set[str] = set()
        twice = next(key for key, _ in pairs if key in seen or seen.add(key))  # type: ignore[func-returns-value]
        raise ValueError(f"the key {twice!r:.120} appears twice")
    return result
