"""The API keys."""

import base64
import hashlib
import hmac
from collections.abc import Sequence
from pathlib import Path

from starlette.datastructures import Headers

from octavo.config.server_config import ServerConfig, check_keys, is_key
from octavo.core.errors import ConfigError
from octavo.server.errors import ApiError

MAX_KEY_FILE_BYTES = 1 << 20
BEARER = "Bearer"
BASIC = 'Basic realm="Octavo", charset="UTF-8"'
"""A browser that is told this asks the person for a name and a password, and sends them with all that follows."""


def load_keys(config: ServerConfig) -> tuple[str, ...]:
    """The keys of the options and of the file; none: everyone is let in. Raises `ConfigError`."""
    if config.api_key_file is None:
        return config.api_key
    file = Path(config.api_key_file)
    try:
        if file.stat().st_size > MAX_KEY_FILE_BYTES:
            raise ConfigError(f"api_key_file={file} is larger than {MAX_KEY_FILE_BYTES} bytes", param="api_key_file")
        lines = file.read_text(encoding="utf-8").splitlines()
    except (OSError, UnicodeDecodeError) as error:
        reason = error.strerror if isinstance(error, OSError) else "it is not UTF-8"
        raise ConfigError(
            f"api_key_file={file} cannot be read: {reason}; name a text file with one key a line", param="api_key_file"
        ) from None
    numbered = {number: line.strip() for number, line in enumerate(lines, start=1) if line.strip()}
    for number, key in numbered.items():
        if not is_key(key):
            raise ConfigError(
                f"api_key_file={file}: line {number} is not a key of 1 … 1024 visible ASCII characters without spaces; "
                "write one a line, and no comments",
                param="api_key_file",
            )
    if not numbered:
        raise ConfigError(f"api_key_file={file} has no key; write one a line", param="api_key_file")
    keys = (*config.api_key, *numbered.values())
    check_keys("api_key_file", keys)
    return keys


class KeyCheck:
    """Lets in who has one of the keys; everyone, where there is none. Compares with all, each in constant time."""

    def __init__(self, keys: Sequence[str]) -> None:
        self._digests = [_digest(key.encode()) for key in keys]

    def require(self, headers: Headers, challenge: str = BEARER) -> int | None:
        """The number of the key that was given; None where none is needed. Raises `ApiError` (401) with `challenge`."""
        if not self._digests:
            return None
        given = _given_keys(headers)
        digest = _digest((next(iter(given)) if len(given) == 1 else "").encode("latin-1", "replace"))
        matches = [number for number, own in enumerate(self._digests) if hmac.compare_digest(digest, own)]
        if not matches:
            raise ApiError(
                401,
                f"the API key {_fault(given)}; send it as «Authorization: Bearer KEY» or as «x-api-key: KEY»",
                code="invalid_api_key",
                type="authentication_error",
                headers={"WWW-Authenticate": challenge},
            )
        return matches[0]


def _given_keys(headers: Headers) -> set[str]:
    """As OpenAI's clients send a key, as Anthropic's do, which may send it both ways, and as browsers do; "" for what is
    no key.
    """
    keys = [_authorized(value) for value in headers.getlist("authorization")]
    return {key.strip() for key in (*keys, *headers.getlist("x-api-key"))}


def _authorized(value: str) -> str:
    """The key in an Authorization header: a bearer's, or a password, whatever the name that goes with it."""
    scheme, _, credentials = value.partition(" ")
    if scheme.lower() == "bearer":
        return credentials
    if scheme.lower() == "basic":
        try:
            return base64.b64decode(credentials, validate=True).decode("latin-1").partition(":")[2]
        except ValueError:
            return ""
    return ""


def _fault(given: set[str]) -> str:
    if not given:
        return "is missing"
    if len(given) > 1:
        return "is there twice, and differs"
    return "is wrong" if given != {""} else "is empty, or lacks the word Bearer before it"


def _digest(key: bytes) -> bytes:
    """Of one length, whatever the key's."""
    return hashlib.sha256(key).digest()
