"""The files of `static/`, read once and served from memory."""

import hashlib
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from starlette.requests import Request
from starlette.responses import Response

from octavo.server.errors import ApiError
from octavo.server.web.headers import ACTIVE_HEADERS
from octavo.server.web.paths import FILE_PREFIX

_STATIC = Path(__file__).parent / "static"
_MEDIA_TYPES = {
    "html": "text/html; charset=utf-8",
    "css": "text/css; charset=utf-8",
    "js": "text/javascript; charset=utf-8",
    "svg": "image/svg+xml",
}


@dataclass(frozen=True, slots=True)
class Asset:
    """A file, and by what it is known again."""

    body: bytes
    media_type: str
    etag: str

    def response(self, request: Request) -> Response:
        """The file; 304 where the browser has it. Browsers keep it, but ask each time: a newer server has newer files."""
        headers = {**ACTIVE_HEADERS, "cache-control": "no-cache", "etag": self.etag}
        known = {tag.strip().removeprefix("W/") for tag in request.headers.get("if-none-match", "").split(",")}
        if self.etag in known:
            return Response(status_code=304, headers=headers)
        return Response(self.body, headers={**headers, "content-type": self.media_type})


def make_asset(name: str, body: bytes) -> Asset:
    """Of a file called `name`, whose ending says what it is."""
    digest = hashlib.sha256(body).hexdigest()[:32]
    return Asset(body, _MEDIA_TYPES[name.rpartition(".")[2]], f'"{digest}"')


def read_static() -> Mapping[str, bytes]:
    """Every file of `static/` by its path there: «chat/main.js»."""
    found = {path.relative_to(_STATIC).as_posix(): path for path in sorted(_STATIC.rglob("*.*")) if path.is_file()}
    return {name: path.read_bytes() for name, path in found.items()}


def find_asset(assets: Mapping[str, Asset], path: str) -> Asset:
    """Raises `ApiError` (404)."""
    try:
        return assets[path]
    except KeyError:
        raise ApiError(404, f"there is no file {FILE_PREFIX}{path[:200]}; reload the page", code="not_found") from None
