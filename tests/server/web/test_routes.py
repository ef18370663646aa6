"""The pages and their files: what comes with them, what the browser is told, and what they may not hold."""

import contextlib
import json
import re
from http.client import HTTPConnection
from importlib.resources import files
from urllib.parse import urlsplit

import pytest
from server.conftest import InProcess, SocketServer
from server.envelopes import check_envelope

from octavo.server.web.assets import read_static

STATIC = read_static()
ASSETS = sorted(name for name in STATIC if not name.endswith(".html"))
PAGES = ["/", "/dashboard"]


@pytest.mark.parametrize("path", [*PAGES, *(f"/web/{name}" for name in ASSETS)])
def test_a_file_is_typed_guarded_and_known_again(server: InProcess, path: str) -> None:
    reply = server.get(path)
    kind = {"css": "text/css", "js": "text/javascript", "svg": "image/svg+xml"}.get(
        path.rpartition(".")[2], "text/html"
    )
    assert reply.status_code == 200 and reply.headers["content-type"].partition(";")[0] == kind
    policy = dict(part.strip().partition(" ")[::2] for part in reply.headers["content-security-policy"].split(";"))
    assert policy == {
        "default-src": "'none'",
        "script-src": "'self'",
        "style-src": "'self'",
        "connect-src": "'self'",
        "img-src": "'self'",
        "base-uri": "'none'",
        "form-action": "'none'",
        "frame-ancestors": "'none'",
    }
    assert reply.headers["x-content-type-options"] == "nosniff"
    assert reply.headers["referrer-policy"] == "no-referrer"
    assert reply.headers["cache-control"] == "no-cache"
    etag = reply.headers["etag"]
    for known in (etag, f"W/{etag}", f'"other", {etag}'):
        again = server.get(path, headers={"if-none-match": known})
        assert (again.status_code, again.content, again.headers["etag"]) == (304, b"", etag)
    assert server.get(path, headers={"if-none-match": '"other"'}).status_code == 200


@pytest.mark.parametrize("name", sorted(STATIC))
def test_nothing_is_inline_and_nothing_from_outside(name: str) -> None:
    text = STATIC[name].decode()
    namespace = 'xmlns="http://www.w3.org/2000/svg"'
    assert not re.search(r"""(?:src|href|url\(|from|import)\W{1,3}(?:https?:)?//""", text.replace(namespace, ""))
    if name.endswith(".html"):
        assert "<style" not in text and " style=" not in text and not re.search(r"\son\w+=", text)
        assert all("src=" in tag for tag in re.findall(r"<script[^>]*>", text))
    if name.endswith(".js"):
        assert not re.search(r"innerHTML|outerHTML|insertAdjacentHTML|document\.write|\beval\b|new Function", text)


def test_every_file_is_in_the_package() -> None:
    found = files("octavo.server.web") / "static"
    assert {"base.css", "chat.html", "octavo.svg"} <= {entry.name for entry in found.iterdir()}


@pytest.mark.parametrize("path", ["/web/", "/web/nowhere.js", "/web/chat.html", "/web/chat"])
def test_no_other_file_is_served(server: InProcess, path: str) -> None:
    check_envelope(server.get(path), 404, code="not_found")


@pytest.mark.parametrize(
    "target",
    [
        "/web/../assets.py",
        "/web/chat/../../assets.py",
        "/web/%2e%2e/assets.py",
        "/web/..%2fassets.py",
        "/web/..%5cassets.py",
        "/web//etc/passwd",
        "/web/%2fetc%2fpasswd",
        "/web/chat/../base.css",
        "/web/./base.css",
        "/web/base.css%00",
        "/web/static/base.css",
    ],
)
def test_a_path_is_not_resolved(socket_server: SocketServer, target: str) -> None:
    """As it is written to the socket: clients tidy a path up before they send it."""
    address = urlsplit(socket_server.url)
    with contextlib.closing(HTTPConnection(address.hostname or "", address.port, timeout=10)) as connection:
        connection.putrequest("GET", target)
        connection.endheaders()
        reply = connection.getresponse()
        error = json.loads(reply.read())["error"]
    assert (reply.status, error["code"]) == (404, "not_found")


@pytest.mark.parametrize("path", PAGES)
def test_a_page_is_only_read(server: InProcess, path: str) -> None:
    reply = server.post(path, {})
    assert reply.status_code == 405 and reply.headers["allow"] == "GET"
    assert server.request("HEAD", path).status_code == 200
