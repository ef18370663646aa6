"""A browser that has the key sends it with whatever another site's page asks of this server: none of that may do a thing."""

import base64
import json

import pytest
from server.conftest import InProcess, chat_body
from server.envelopes import check_envelope
from server.fake_engine import FakeEngine

KEY = "sk-octavo-123"
AMBIENT = {
    "authorization": f"Basic {base64.b64encode(f'octavo:{KEY}'.encode()).decode()}",
    "origin": "https://evil.example",
}
POSTS = sorted(
    path for path, methods in InProcess(FakeEngine()).get("/openapi.json").json()["paths"].items() if "post" in methods
)
WITHOUT_PREFLIGHT = [None, "text/plain", "application/x-www-form-urlencoded", "multipart/form-data; boundary=x"]
"""Kinds of bodies that a page may post to any site without asking it first (Fetch, CORS-safelisted request headers)."""


@pytest.fixture
def locked() -> InProcess:
    return InProcess(FakeEngine(), api_key=(KEY,))


@pytest.mark.parametrize("path", POSTS)
@pytest.mark.parametrize("kind", WITHOUT_PREFLIGHT)
def test_what_needs_no_preflight_is_refused(locked: InProcess, path: str, kind: str | None) -> None:
    headers = AMBIENT if kind is None else {**AMBIENT, "content-type": kind}
    reply = locked.request("POST", path, content=json.dumps(chat_body()).encode(), headers=headers)
    assert reply.status_code == 415
    assert not locked.engine.calls


@pytest.mark.parametrize("path", [*POSTS, "/", "/v1/models", "/v1/responses/resp_1"])
@pytest.mark.parametrize("credentials", [{}, AMBIENT])
def test_no_preflight_succeeds(locked: InProcess, path: str, credentials: dict[str, str]) -> None:
    asked = {"origin": "https://evil.example", "access-control-request-method": "POST"}
    reply = locked.request("OPTIONS", path, headers={**credentials, **asked})
    assert reply.status_code in (401, 405)
    assert not [name for name in reply.headers if name.startswith("access-control-")]


@pytest.mark.parametrize("site", ["cross-site", "same-site"])
def test_no_other_page_takes_a_viewers_place(locked: InProcess, site: str) -> None:
    """A GET needs no preflight, and what it opens would stay open for as long as that page does."""
    reply = locked.get("/dashboard/events", headers={**AMBIENT, "sec-fetch-site": site, "sec-fetch-mode": "no-cors"})
    check_envelope(reply, 403, code="cross_site")
    assert locked.context.live.viewers.num_open == 0


def test_what_is_declared_is_answered_but_not_to_others(locked: InProcess) -> None:
    """The page's own requests look so; another site's were stopped by the preflight, and can read no answer."""
    reply = locked.post("/v1/chat/completions", chat_body(), headers=AMBIENT)
    assert reply.status_code == 200
    assert not [name for name in reply.headers if name.startswith("access-control-")]
    check_envelope(locked.post("/v1/chat/completions", chat_body()), 401, code="invalid_api_key")
