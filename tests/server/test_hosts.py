"""Names that a server on loopback answers to: what keeps web pages out."""

import socket
from typing import Any

import pytest
from server.conftest import InProcess, chat_body
from server.envelopes import check_envelope
from server.fake_engine import FakeEngine

HOME = ["localhost", "localhost:8000", "LOCALHOST", "a.localhost", "127.0.0.1:8000", "[::1]:8000", "192.168.1.7"]
FOREIGN = ["evil.example", "evil.example:8000", "localhost.evil.example", "127.0.0.1.evil.example", "", "[evil]"]
FOREIGN += ["[::1].evil", "[127.0.0.1]evil", "localhost:80@evil", "localhost:evil", "127.0.0.1 evil"]


@pytest.mark.parametrize("host", [*HOME, socket.gethostname()])
def test_own_names_and_addresses_are_answered(server: InProcess, host: str) -> None:
    assert server.get("/v1/models", headers={"host": host}).status_code == 200


@pytest.mark.parametrize("host", FOREIGN)
def test_dns_rebinding_is_refused_on_every_route(server: InProcess, host: str) -> None:
    for path in ("/v1/models", "/health", "/metrics"):
        check_envelope(server.get(path, headers={"host": host}), 421, "Host", "host_not_allowed")
    refused = server.post("/v1/chat/completions", chat_body(), headers={"host": host})
    check_envelope(refused, 421, "Host", "host_not_allowed")
    assert not server.engine.calls


@pytest.mark.parametrize("options", [{"api_key": ("k",)}, {"host": "0.0.0.0"}])
def test_a_key_or_an_address_for_others_lets_any_name_in(options: dict[str, Any]) -> None:
    server = InProcess(FakeEngine(), **options)
    assert server.get("/health", headers={"host": "llm.example.org"}).status_code == 200


@pytest.mark.parametrize("address", ["127.0.0.1", "0.0.0.0"])
def test_names_can_be_given(address: str) -> None:
    server = InProcess(FakeEngine(), host=address, allowed_hosts=("LLM.example.org",))
    assert server.get("/health", headers={"host": "llm.example.org:443"}).status_code == 200
    assert server.get("/health", headers={"host": "other.example.org"}).status_code == 421
