"""The official client, unmodified, against /v1/messages."""

from collections.abc import Iterator

import anthropic
import pytest
from server.conftest import MODEL, SocketServer
from server.fake_engine import REPLY
from server.messages.requests import PLACE, TIME, WEATHER
from server.scripted import Place, answering_engine, failing_engine

MESSAGES = [{"role": "user", "content": "Hi"}]
KEY = "sk-ant-1"


@pytest.fixture(scope="module")
def server() -> Iterator[SocketServer]:
    with SocketServer(answering_engine, api_key=(KEY,)) as running:
        yield running


@pytest.fixture(params=["api_key", "auth_token"])
def client(server: SocketServer, request: pytest.FixtureRequest) -> Iterator[anthropic.Anthropic]:
    """With the key in `x-api-key`, and as a bearer's."""
    with anthropic.Anthropic(base_url=server.url, max_retries=0, **{request.param: KEY}) as client:
        yield client


def test_create(client: anthropic.Anthropic) -> None:
    answer = client.messages.create(model=MODEL, max_tokens=100, messages=MESSAGES, system="Be brief.")
    assert [block.text for block in answer.content] == [REPLY]
    assert answer.stop_reason == "end_turn" and answer._request_id
    stopped = client.messages.create(model=MODEL, max_tokens=100, messages=MESSAGES, stop_sequences=["wör"])
    assert (stopped.stop_reason, stopped.stop_sequence) == ("stop_sequence", "wör")


def test_stream(client: anthropic.Anthropic) -> None:
    events = list(client.messages.create(model=MODEL, max_tokens=100, messages=MESSAGES, stream=True))
    assert events[0].type == "message_start" and events[-1].type == "message_stop"
    assert "".join(event.delta.text for event in events if event.type == "content_block_delta") == REPLY
    with client.messages.stream(model=MODEL, max_tokens=100, messages=MESSAGES) as stream:
        assert "".join(stream.text_stream) == REPLY
        built = stream.get_final_message()
    whole = client.messages.create(model=MODEL, max_tokens=100, messages=MESSAGES)
    assert built.content[0].text == whole.content[0].text == REPLY
    assert built.usage.output_tokens == whole.usage.output_tokens


@pytest.mark.parametrize("is_streamed", [False, True])
def test_the_loop_of_an_agent(client: anthropic.Anthropic, is_streamed: bool) -> None:
    messages = [{"role": "user", "content": "Weather?"}]
    fields = {"model": MODEL, "max_tokens": 1000, "tools": [WEATHER, TIME]}
    if is_streamed:
        with client.messages.stream(messages=messages, **fields) as stream:
            answer = stream.get_final_message()
    else:
        answer = client.messages.create(messages=messages, **fields)
    assert answer.stop_reason == "tool_use"
    assert [block.type for block in answer.content] == ["thinking", "tool_use", "tool_use"]
    calls = [block for block in answer.content if block.type == "tool_use"]
    assert [(call.name, call.input) for call in calls] == [("get_weather", PLACE), ("get_time", {})]
    results = [{"type": "tool_result", "tool_use_id": call.id, "content": "Rain"} for call in calls]
    messages += [{"role": "assistant", "content": answer.content}, {"role": "user", "content": results}]
    last = client.messages.create(messages=messages, **fields)
    assert [block.text for block in last.content if block.type == "text"] == ["Rain."]
    assert last.stop_reason == "end_turn"


def test_counted_is_used(client: anthropic.Anthropic) -> None:
    fields = {"model": MODEL, "messages": MESSAGES, "system": "S", "tools": [WEATHER], "tool_choice": {"type": "any"}}
    counted = client.messages.count_tokens(**fields).input_tokens
    assert counted == client.messages.create(max_tokens=1000, **fields).usage.input_tokens > 0


def test_parse(client: anthropic.Anthropic) -> None:
    messages = [{"role": "user", "content": "Place?"}]
    answer = client.messages.parse(model=MODEL, max_tokens=100, messages=messages, output_format=Place)
    assert answer.parsed_output == Place(name="Köln", days=[1, 2])


def test_errors(client: anthropic.Anthropic, server: SocketServer) -> None:
    with pytest.raises(anthropic.NotFoundError) as raised:
        client.messages.create(model="other", max_tokens=1, messages=MESSAGES)
    assert raised.value.body["error"]["type"] == "not_found_error" and raised.value.request_id
    with pytest.raises(anthropic.BadRequestError) as refused:
        client.messages.create(model=MODEL, max_tokens=0, messages=MESSAGES)
    assert "max_tokens" in refused.value.body["error"]["message"]
    stranger = anthropic.Anthropic(base_url=server.url, api_key="wrong", max_retries=0)
    with stranger, pytest.raises(anthropic.AuthenticationError):
        stranger.messages.create(model=MODEL, max_tokens=1, messages=MESSAGES)


def test_a_failure_in_the_stream_is_raised() -> None:
    with SocketServer(failing_engine) as server, anthropic.Anthropic(base_url=server.url, api_key="none") as client:
        stream = client.messages.create(model=MODEL, max_tokens=100, messages=MESSAGES, stream=True)
        with pytest.raises(anthropic.APIStatusError) as raised:
            list(stream)
        assert raised.value.body["error"]["type"] == "api_error"
