"""The official client, unmodified, against a server on a socket."""

import asyncio
from collections.abc import Callable

import openai
import pytest
from server.conftest import MODEL, SocketServer
from server.fake_engine import REPLY, FakeEngine
from server.fake_model import BOS

MESSAGES = [{"role": "user", "content": "Hi"}]


@pytest.fixture
def client(socket_server: SocketServer, openai_client: Callable[[str], openai.OpenAI]) -> openai.OpenAI:
    return openai_client(f"{socket_server.url}/v1")


def test_models(client: openai.OpenAI) -> None:
    assert [model.id for model in client.models.list()] == [MODEL]
    assert client.models.retrieve(MODEL).owned_by == "octavo"
    with pytest.raises(openai.NotFoundError) as raised:
        client.models.retrieve("other")
    assert raised.value.code == "model_not_found"


def test_chat(client: openai.OpenAI) -> None:
    answer = client.chat.completions.create(
        model=MODEL, messages=MESSAGES, n=2, logprobs=True, top_logprobs=2, seed=1, stop=["zzz"], user="me"
    )
    assert [choice.message.content for choice in answer.choices] == [REPLY, REPLY]
    assert answer.choices[0].finish_reason == "stop"
    content = answer.choices[0].logprobs.content
    assert b"".join(bytes(entry.bytes) for entry in content[:-1]).decode() == REPLY
    assert answer.usage.prompt_tokens_details.cached_tokens == 0
    assert answer.system_fingerprint.startswith("fp_")
    assert answer._request_id


def test_chat_stream(client: openai.OpenAI) -> None:
    stream = client.chat.completions.create(
        model=MODEL, messages=MESSAGES, stream=True, stream_options={"include_usage": True}
    )
    chunks = list(stream)
    assert chunks[0].choices[0].delta.role == "assistant"
    assert "".join(chunk.choices[0].delta.content or "" for chunk in chunks[:-1]) == REPLY
    assert chunks[-1].choices == [] and chunks[-1].usage.completion_tokens == len(REPLY.encode()) + 1


def test_chat_stream_helper_rebuilds_the_answer(client: openai.OpenAI) -> None:
    with client.chat.completions.stream(model=MODEL, messages=MESSAGES, n=2, logprobs=True) as stream:
        for _ in stream:
            pass
        answer = stream.get_final_completion()
    assert [choice.message.content for choice in answer.choices] == [REPLY, REPLY]
    assert len(answer.choices[1].logprobs.content) == len(REPLY.encode()) + 1


def test_completions(client: openai.OpenAI) -> None:
    answer = client.completions.create(
        model=MODEL, prompt=["a", "b"], max_tokens=100, echo=True, logprobs=1, extra_body={"top_k": 5, "min_p": 0.1}
    )
    assert [choice.text for choice in answer.choices] == ["a" + REPLY, "b" + REPLY]
    assert answer.choices[0].logprobs.token_logprobs[0] is None
    answer = client.completions.create(model=MODEL, prompt=[[BOS, 97], [98]], max_tokens=5)
    assert [choice.text for choice in answer.choices] == ["Hello", "Hello"]


def test_completion_stream(client: openai.OpenAI) -> None:
    chunks = list(client.completions.create(model=MODEL, prompt="a", max_tokens=100, stream=True))
    assert "".join(chunk.choices[0].text for chunk in chunks) == REPLY
    assert chunks[-1].choices[0].finish_reason == "stop"


def test_leaving_a_stream_aborts_it(client: openai.OpenAI, socket_server: SocketServer) -> None:
    engine: FakeEngine = socket_server.engine
    engine.hold_after, engine.is_held = 3, True
    try:
        with client.chat.completions.create(model=MODEL, messages=MESSAGES, stream=True) as stream:
            next(stream)
        future = asyncio.run_coroutine_threadsafe(asyncio.wait_for(engine.has_aborted.wait(), 5), socket_server._loop)
        assert future.result(6)
    finally:
        engine.is_held = False


def test_errors_have_their_classes(client: openai.OpenAI, socket_server: SocketServer) -> None:
    with pytest.raises(openai.BadRequestError) as raised:
        client.chat.completions.create(model=MODEL, messages=MESSAGES, temperature=-1)
    assert raised.value.param == "temperature"
    with pytest.raises(openai.BadRequestError) as raised:
        client.completions.create(model=MODEL, prompt="x" * 600)
    assert raised.value.code == "context_length_exceeded"
    engine: FakeEngine = socket_server.engine
    engine.fails_after = 5
    try:
        with pytest.raises(openai.InternalServerError):
            client.chat.completions.create(model=MODEL, messages=MESSAGES)
        with pytest.raises(openai.APIError, match="scripted"):
            list(client.chat.completions.create(model=MODEL, messages=MESSAGES, stream=True))
    finally:
        engine.fails_after = None


def test_key(openai_client: Callable[..., openai.OpenAI]) -> None:
    with SocketServer(FakeEngine, api_key=("sk-right",)) as server:
        url = f"{server.url}/v1"
        with pytest.raises(openai.AuthenticationError) as refused:
            openai_client(url, api_key="sk-wrong").models.list()
        assert refused.value.code == "invalid_api_key"
        assert openai_client(url, api_key="sk-right").models.list().data


def test_async_client(socket_server: SocketServer) -> None:
    async def main() -> None:
        async with openai.AsyncOpenAI(base_url=f"{socket_server.url}/v1", api_key="none") as client:

            async def streamed() -> str:
                stream = await client.chat.completions.create(model=MODEL, messages=MESSAGES, stream=True)
                return "".join([chunk.choices[0].delta.content or "" async for chunk in stream])

            async def whole() -> str:
                answer = await client.completions.create(model=MODEL, prompt="a", max_tokens=100)
                return answer.choices[0].text

            assert await asyncio.gather(*(streamed() for _ in range(4)), *(whole() for _ in range(4))) == [REPLY] * 8

    asyncio.run(main())
