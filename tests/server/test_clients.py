"""Whose a request is: nothing that a client writes as it likes makes it many."""

import asyncio
from typing import Any

import httpx
import pytest
from server.conftest import InProcess, chat_body, serving, soon
from server.fake_engine import FakeEngine
from starlette.datastructures import Headers

from octavo.config import EngineConfig
from octavo.config.server_config import ServerConfig
from octavo.core.errors import ConfigError
from octavo.server.clients import MAX_NAME_CHARS, ClientNames, check_client_header

CHAT = "/v1/chat/completions"


def test_keys_where_there_are_several() -> None:
    names = ClientNames(2, None)
    assert names.name(0, Headers({}), "1.2.3.4") == names.name(0, Headers({}), "5.6.7.8")
    assert names.name(0, Headers({}), "1.2.3.4") != names.name(1, Headers({}), "1.2.3.4")


def test_the_header_that_a_proxy_writes() -> None:
    names = ClientNames(1, "X-Forwarded-For")
    forged = [Headers({"x-forwarded-for": f"{index}, 9.9.9.9"}) for index in range(3)]
    assert len({names.name(0, headers, "127.0.0.1") for headers in forged}) == 1
    twice = Headers(raw=[(b"x-forwarded-for", b"a"), (b"x-forwarded-for", b"9.9.9.9")])
    assert names.name(0, twice, "127.0.0.1") == names.name(0, forged[0], "127.0.0.1")
    assert names.name(0, Headers({"x-forwarded-for": "8.8.8.8"}), "127.0.0.1") != names.name(0, twice, "127.0.0.1")
    assert names.name(0, Headers({}), "127.0.0.1") == "address 127.0.0.1"
    assert len(names.name(0, Headers({"x-forwarded-for": "x" * 5000}), "")) < MAX_NAME_CHARS + 10


def test_else_the_address_and_a_network_of_ipv6() -> None:
    names = ClientNames(0, None)
    assert names.name(None, Headers({}), "1.2.3.4") != names.name(None, Headers({}), "1.2.3.5")
    assert names.name(None, Headers({}), "2001:db8::1") == names.name(None, Headers({}), "2001:db8::ffff:2")
    assert names.name(None, Headers({}), "2001:db8:0:1::1") != names.name(None, Headers({}), "2001:db8::1")
    assert names.name(None, Headers({}), "::1") == "address ::1"
    assert names.name(None, Headers({}), "") == "address "


def test_the_engine_is_told() -> None:
    server = InProcess(FakeEngine(), api_key=("key-a", "key-b"))
    for key in ("key-a", "key-b"):
        for user in ("x", "y"):
            body = chat_body(user=user, safety_identifier=user)
            assert server.post(CHAT, body, headers={"authorization": f"Bearer {key}"}).status_code == 200
    assert server.engine.clients == ["key 0", "key 0", "key 1", "key 1"]


@pytest.mark.parametrize(
    ("path", "body"),
    [
        ("/v1/completions", {"model": "fake-model", "prompt": ["a", "b"]}),
        (CHAT, chat_body()),
        ("/tokenize", {"prompt": "a"}),
        ("/tokenize", chat_body()),
        ("/detokenize", {"tokens": [1]}),
        ("/v1/messages/count_tokens", chat_body()),
    ],
)
def test_the_tokenizers_threads_know_whose_text_it_is(path: str, body: dict[str, Any]) -> None:
    server = InProcess(FakeEngine(), api_key=("a", "b"))
    assert server.post(path, body, headers={"authorization": "Bearer b"}).status_code == 200
    assert set(server.engine.texts.clients) == {"key 1"}


def test_a_client_that_floods_the_queue_leaves_places_to_others() -> None:
    async def test(url: str, engine: FakeEngine, stop: Any, task: Any, context: Any) -> None:
        engine.is_held = True
        async with httpx.AsyncClient() as http:

            def ask(key: str) -> "asyncio.Task[httpx.Response]":
                headers = {"authorization": f"Bearer {key}"}
                return asyncio.create_task(http.post(url + CHAT, json=chat_body(), headers=headers))

            flood = [ask("greedy") for _ in range(16)]
            await soon(lambda: len(engine.open_ids) + sum(task.done() for task in flood) == 16)
            refused = [task.result() for task in flood if task.done()]
            assert len(refused) == 8 and all(reply.json()["error"]["code"] == "queue_full" for reply in refused)
            assert all(reply.headers["retry-after"] for reply in refused)
            modest = ask("modest")
            await soon(lambda: len(engine.open_ids) == 9)
            engine.is_held = False
            assert (await modest).status_code == 200

    engine = FakeEngine(max_num_seqs=8, max_num_queued_reqs=8, options={"scheduling_policy": "fair"})
    serving(test, engine, api_key=("greedy", "modest"))


@pytest.mark.parametrize(("policy", "num_keys"), [("fcfs", 0), ("priority", 1), ("fair", 2)])
def test_a_header_that_would_be_ignored_is_refused(policy: str, num_keys: int) -> None:
    config = EngineConfig(scheduling_policy=policy)
    check_client_header(config, ServerConfig(), num_keys)
    with pytest.raises(ConfigError) as raised:
        check_client_header(config, ServerConfig(client_header="X-Client"), num_keys)
    assert raised.value.param == "client_header"


def test_a_header_that_is_used_is_accepted() -> None:
    check_client_header(EngineConfig(scheduling_policy="fair"), ServerConfig(client_header="X-Client"), 1)
