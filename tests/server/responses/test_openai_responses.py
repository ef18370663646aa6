"""The official client, unmodified, against /v1/responses."""

from collections.abc import Callable, Iterator

import openai
import pytest
from server.conftest import MODEL, SocketServer
from server.fake_engine import REPLY
from server.responses.requests import TIME, WEATHER
from server.scripted import PLACE, Place, answering_engine, failing_engine
from server.tool_calls import ARGUMENTS


@pytest.fixture(scope="module")
def server() -> Iterator[SocketServer]:
    with SocketServer(answering_engine) as running:
        yield running


@pytest.fixture
def client(server: SocketServer, openai_client: Callable[[str], openai.OpenAI]) -> openai.OpenAI:
    return openai_client(f"{server.url}/v1")


def test_create(client: openai.OpenAI) -> None:
    answer = client.responses.create(model=MODEL, input="Hi", instructions="Be brief.", metadata={"a": "b"})
    assert answer.output_text == REPLY and answer.status == "completed" and answer.metadata == {"a": "b"}
    assert answer.usage.total_tokens == answer.usage.input_tokens + answer.usage.output_tokens
    assert answer._request_id
    cut_off = client.responses.create(model=MODEL, input="Hi", max_output_tokens=3)
    assert cut_off.status == "incomplete" and cut_off.incomplete_details.reason == "max_output_tokens"


def test_kept_gone_on_from_and_deleted(client: openai.OpenAI, server: SocketServer) -> None:
    first = client.responses.create(model=MODEL, input="One")
    second = client.responses.create(model=MODEL, input="Two", previous_response_id=first.id)
    prompt = bytes(server.engine.calls[-1][0]).decode()
    assert prompt.index("One") < prompt.index(REPLY) < prompt.index("Two")
    assert client.responses.retrieve(second.id).output_text == REPLY
    client.responses.delete(second.id)
    for missing in (
        lambda: client.responses.retrieve(second.id),
        lambda: client.responses.create(model=MODEL, input="Three", previous_response_id=second.id),
    ):
        with pytest.raises(openai.NotFoundError) as raised:
            missing()
        assert raised.value.code == "response_not_found"
    with pytest.raises(openai.APIStatusError) as refused:
        client.responses.cancel(first.id)
    assert refused.value.code == "not_built"


def test_stream(client: openai.OpenAI) -> None:
    events = list(client.responses.create(model=MODEL, input="Hi", stream=True))
    assert "".join(event.delta for event in events if event.type == "response.output_text.delta") == REPLY
    assert events[-1].type == "response.completed" and events[-1].response.output_text == REPLY


def test_stream_helper_rebuilds_the_answer(client: openai.OpenAI) -> None:
    with client.responses.stream(model=MODEL, input="Hi", tools=[WEATHER, TIME]) as stream:
        done = [event for event in stream if event.type == "response.function_call_arguments.done"]
        built = stream.get_final_response()
    assert [event.arguments for event in done] == [ARGUMENTS, "{}"]
    assert [item.type for item in built.output] == ["reasoning", "function_call", "function_call"]
    assert built.output[0].content[0].text == "Hm"


@pytest.mark.filterwarnings("ignore:Pydantic serializer warnings")
@pytest.mark.parametrize("is_streamed", [False, True])
def test_parse(client: openai.OpenAI, is_streamed: bool) -> None:
    if is_streamed:
        with client.responses.stream(model=MODEL, input="Place?", text_format=Place) as stream:
            answer = stream.get_final_response()
    else:
        answer = client.responses.parse(model=MODEL, input="Place?", text_format=Place)
    assert answer.output_parsed == Place(name="Köln", days=[1, 2])
    again = [{"role": "user", "content": "Place?"}, *answer.output, {"role": "user", "content": "Sure?"}]
    assert client.responses.create(model=MODEL, input=again).output_text == PLACE


def test_the_loop_of_an_agent(client: openai.OpenAI) -> None:
    items = [{"role": "user", "content": "Weather?"}]
    answer = client.responses.create(model=MODEL, input=items, tools=[WEATHER, TIME])
    calls = [item for item in answer.output if item.type == "function_call"]
    assert [(call.name, call.arguments) for call in calls] == [("get_weather", ARGUMENTS), ("get_time", "{}")]
    assert answer.usage.output_tokens_details.reasoning_tokens > 0
    results = [{"type": "function_call_output", "call_id": call.call_id, "output": "Rain"} for call in calls]
    by_items = client.responses.create(model=MODEL, input=[*items, *answer.output, *results], tools=[WEATHER, TIME])
    by_id = client.responses.create(model=MODEL, input=results, previous_response_id=answer.id, tools=[WEATHER, TIME])
    assert by_items.output_text == by_id.output_text == "Rain."


def test_errors(client: openai.OpenAI) -> None:
    with pytest.raises(openai.BadRequestError) as raised:
        client.responses.create(model=MODEL, input="Hi", background=True)
    assert raised.value.param == "background" and raised.value.code == "not_built"
    with pytest.raises(openai.BadRequestError) as raised:
        client.responses.create(model=MODEL, input="Hi", tools=[{"type": "web_search"}])
    assert "web_search" in raised.value.message


def test_a_failure_in_the_stream_is_seen(openai_client: Callable[[str], openai.OpenAI]) -> None:
    with SocketServer(failing_engine) as server:
        with openai_client(f"{server.url}/v1").responses.stream(model=MODEL, input="Hi") as stream:
            kinds = [event.type for event in stream]
        assert kinds[0] == "response.created" and kinds[-2:] == ["error", "response.failed"]
