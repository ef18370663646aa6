"""Whether the server is there, its model, and the form of prompts it takes."""

import asyncio
import json
from collections.abc import Callable
from typing import Any

import pytest

from octavo.bench.serve.client import BenchClient
from octavo.bench.serve.http import Address
from octavo.bench.serve.load import RunClock
from octavo.bench.serve.request_form import Endpoint, PromptForm
from octavo.bench.serve.target import TakenForm, TargetError, find_form, find_model, is_local

from .conftest import DONE, HEAD, LAST, Asked, answering, options, part, text


def reply(status: int, body: Any) -> bytes:
    encoded = json.dumps(body).encode()
    return b"HTTP/1.1 %d X\r\ncontent-length: %d\r\n\r\n%b" % (status, len(encoded), encoded)


def model(answer: bytes, *, key: str | None = None, wanted: str | None = None) -> tuple[str, Asked]:
    seen: list[Asked] = []

    async def respond(asked: Asked, writer: asyncio.StreamWriter) -> None:
        seen.append(asked)
        writer.write(answer)

    async def main() -> str:
        async with answering(respond) as address:
            return await find_model(address, key, wanted)

    name = asyncio.run(main())
    return name, seen[0]


def test_the_first_model_is_taken() -> None:
    name, asked = model(reply(200, {"data": [{"id": "a"}, {"id": "b"}]}), key="k")
    assert name == "a"
    assert asked.line == "GET /v1/models HTTP/1.1"
    assert asked.headers["authorization"] == "bearer k"


def test_a_model_that_is_named_needs_no_list() -> None:
    assert model(reply(404, {}), wanted="mine")[0] == "mine"


@pytest.mark.parametrize(
    ("answer", "message"),
    [
        (reply(401, {}), "answers 401: it wants a key; give it with --api-key"),
        (reply(404, {}), "answers 404 and names no model; give one with --model"),
        (reply(200, {"data": []}), "names no model"),
        (reply(200, [1]), "is not a list of models"),
        (b"", "there is no server at http://127.0.0.1:.*octavo serve"),
    ],
)
def test_servers_that_cannot_be_measured(answer: bytes, message: str) -> None:
    with pytest.raises(TargetError, match=message):
        model(answer)


def test_no_server() -> None:
    with pytest.raises(
        TargetError, match=r"there is no server at http://127\.0\.0\.1:1: .*start one with «octavo serve»"
    ):
        asyncio.run(find_model(Address.parse("127.0.0.1:1"), None, None))


ANSWER = HEAD + part(text("a", "length")) + part(DONE) + LAST
REFUSAL = reply(400, {"error": {"message": "prompt must be text"}})


def form(
    respond: Callable[[Any], bytes], wanted: PromptForm | None = None, endpoint: Endpoint = Endpoint.COMPLETIONS
) -> tuple[TakenForm, list[Any]]:
    seen: list[Any] = []

    async def answer(asked: Asked, writer: asyncio.StreamWriter) -> None:
        seen.append(asked.body)
        writer.write(respond(asked.body))

    async def main() -> TakenForm:
        async with answering(answer) as address:
            client = BenchClient(address, api_key=None, timeout_s=30, clock=RunClock())
            return await find_form(client, options(endpoint=endpoint), wanted)

    return asyncio.run(main()), seen


def test_token_ids_where_they_are_taken() -> None:
    taken, [body] = form(lambda body: ANSWER)
    assert taken == TakenForm(form=PromptForm.TOKEN_IDS)
    assert isinstance(body["prompt"], list)
    assert body["max_tokens"] == 1


def test_text_where_token_ids_are_refused_and_the_reason_is_kept() -> None:
    taken, bodies = form(lambda body: REFUSAL if isinstance(body["prompt"], list) else ANSWER)
    assert taken == TakenForm(form=PromptForm.TEXT, why_text="HTTP 400: prompt must be text")
    assert len(bodies) == 2


def test_a_chat_has_text() -> None:
    taken, [body] = form(lambda body: ANSWER, endpoint=Endpoint.CHAT)
    assert taken == TakenForm(form=PromptForm.TEXT)
    assert "messages" in body


def test_token_ids_that_were_asked_for_are_not_replaced() -> None:
    with pytest.raises(TargetError, match="refuses a first request of one token: HTTP 400, prompt must be text"):
        form(lambda body: REFUSAL if isinstance(body["prompt"], list) else ANSWER, PromptForm.TOKEN_IDS)


def test_a_server_that_refuses_everything() -> None:
    with pytest.raises(TargetError, match="HTTP 400, prompt must be text"):
        form(lambda body: REFUSAL)


def test_an_answer_without_tokens_is_an_answer() -> None:
    assert form(lambda body: HEAD + part(DONE) + LAST)[0].form is PromptForm.TOKEN_IDS


@pytest.mark.parametrize(
    ("url", "expected"),
    [("localhost", True), ("127.0.0.1", True), ("http://[::1]:1", True), ("10.0.0.1", False), ("example.org", False)],
)
def test_which_servers_are_on_this_machine(url: str, expected: bool) -> None:
    assert is_local(Address.parse(url)) is expected
