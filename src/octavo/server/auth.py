"""The API key."""

import hashlib
import hmac

from starlette.datastructures import Headers

from octavo.server.errors import ApiError


class KeyCheck:
    """Lets in who has the key; everyone, where there is none. Compares in constant time."""

    def __init__(self, api_key: str | None) -> None:
        self._digest = None if api_key is None else _digest(api_key.encode())

    def require(self, headers: Headers) -> None:
        """Raises `ApiError` (401)."""
        if self._digest is None:
            return
        given = headers.getlist("authorization")
        scheme, _, key = given[0].partition(" ") if len(given) == 1 else ("", "", "")
        is_right = hmac.compare_digest(_digest(key.strip().encode("latin-1", "replace")), self._digest)
        if not is_right or scheme.lower() != "bearer":
            what = "wrong" if given else "missing"
            raise ApiError(
                401,
                f"the API key is {what}; send it as «Authorization: Bearer KEY»",
                code="invalid_api_key",
                type="authentication_error",
                headers={"WWW-Authenticate": "Bearer"},
            )


def _digest(key: bytes) -> bytes:
    """Of one length, whatever the key's."""
    return hashlib.sha256(key).digest()
