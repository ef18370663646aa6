"""Attack classes, of who comes in and how: keys, floods, tenants.

One test a class, at its strongest point, named after it.
"""

import asyncio
from typing import Any

import pytest
from cache.prompts import make_request
from cache.prompts import run as run_prompt
from scheduler.traffic import full
from server.attack_classes.limits import HANG_S
from server.conftest import InProcess, serving
from server.fake_engine import FakeEngine

from octavo.cache import KVCacheManager, plan_layout
from octavo.config.server_config import ServerConfig
from octavo.core.json_limits import MAX_JSON_DEPTH

# ── auth gaps ────────────────────────────────────────────────────────────────────────────────────


def test_auth_gaps(monkeypatch: pytest.MonkeyPatch) -> None:
    """Every route and method there is, whatever is written for the key; compared in constant time; loopback."""
    locked = InProcess(FakeEngine(), api_key=("sk-right",))
    paths = {route.path.replace("{model:path}", "m").replace("{rest:path}", "r") for route in locked.app.routes}
    assert len(paths) > 20
    for path in sorted(paths | {"/nowhere", "/health/", "//health", "/health/../v1/models", "/health%2f"}):
        if path in ("/health", "/health/ready"):
            assert locked.get(path).status_code == 200
            continue
        for method in ("GET", "POST", "OPTIONS", "HEAD"):
            for headers in ({}, {"authorization": "Bearer sk-wrong"}, {"authorization": "Bearer sk-right\x00"}):
                assert locked.request(method, path, headers=headers).status_code == 401, (method, path)
    compared: list[bytes] = []
    monkeypatch.setattr(
        "octavo.server.auth.hmac.compare_digest", lambda given, own: compared.append(own) or given == own
    )
    assert locked.get("/version", headers={"authorization": "Bearer sk-right"}).status_code == 200
    assert compared
    assert ServerConfig().host == "127.0.0.1"


# ── header / body floods ─────────────────────────────────────────────────────────────────────────


async def raw(url: str, data: bytes) -> bytes:
    reader, writer = await asyncio.open_connection("127.0.0.1", int(url.rpartition(":")[2]))
    try:
        writer.write(data)
        return await asyncio.wait_for(reader.read(), HANG_S)
    finally:
        writer.close()


def test_header_and_body_floods() -> None:
    async def test(url: str, engine: FakeEngine, stop: Any, task: Any, context: Any) -> None:
        head = b"POST /v1/completions HTTP/1.1\r\nhost: localhost\r\ncontent-type: application/json\r\n"
        deep = b"[" * (MAX_JSON_DEPTH + 1)
        for data, status in (
            (b"GET /health HTTP/1.1\r\n" + b"x: y\r\n" * 20_000, b"400"),
            (b"GET /health HTTP/1.1\r\nx: " + b"y" * 100_000, b"400"),
            (head + b"content-length: 99999999999\r\n\r\n", b"413"),
            (head + b"connection: close\r\ncontent-length: %d\r\n\r\n" % len(deep) + deep, b"400"),
            (head + b"transfer-encoding: chunked\r\n\r\n" + (b"1000\r\n" + b" " * 4096 + b"\r\n") * 5, b"413"),
            (head + b"connection: close\r\ncontent-length: 9\r\n\r\n{", b"408"),
            (b"GET /health HT", b""),
        ):
            reply = await raw(url, data)
            assert reply.startswith(b"HTTP/1.1 " + status) if status else not reply, (data[:40], reply[:100])
        assert not engine.calls and not context.gate.num_inside

    serving(test, max_body_bytes=16_384, header_timeout_s=0.2, body_timeout_s=0.2)


# ── prefix-cache side channel ────────────────────────────────────────────────────────────────────


def test_prefix_cache_side_channel(server: InProcess) -> None:
    """A tenant's salt keeps its prefixes to itself, from the request's field down to keys of SHA-256."""
    manager = KVCacheManager(plan_layout([full(4)]), 64)
    tokens = list(range(12))
    mine = make_request(tokens, "a", "mine")
    assert run_prompt(manager, mine) == 0
    for number, salt in enumerate(("", "min", "mine ", "mine\0", "other")):
        assert run_prompt(manager, make_request(tokens, f"b{number}", salt)) == 0, salt
    assert run_prompt(manager, make_request(tokens, "c", "mine")) == 8
    assert run_prompt(manager, make_request([9, *tokens[1:]], "d", "mine")) == 0
    assert all(len(key) == 32 for key in mine.block_keys) and mine.block_keys
    server.chat(cache_salt="mine")
    server.complete()
    assert [salt for _, _, _, salt in server.engine.calls] == ["mine", ""]
