"""The official client, unmodified, with tools and reasoning."""

from collections.abc import Callable, Iterator

import openai
import pytest
from server.conftest import MODEL, SocketServer
from server.scripted import answering_engine
from server.tool_calls import ARGUMENTS, TIME, WEATHER

MESSAGES = [{"role": "user", "content": "Weather?"}]


@pytest.fixture(scope="module")
def server() -> Iterator[SocketServer]:
    with SocketServer(answering_engine) as running:
        yield running


@pytest.fixture
def client(server: SocketServer, openai_client: Callable[[str], openai.OpenAI]) -> openai.OpenAI:
    return openai_client(f"{server.url}/v1")


def test_the_loop_of_an_agent(client: openai.OpenAI) -> None:
    answer = client.chat.completions.create(model=MODEL, messages=MESSAGES, tools=[WEATHER, TIME], tool_choice="auto")
    [choice] = answer.choices
    assert choice.finish_reason == "tool_calls" and choice.message.content is None
    assert [(call.function.name, call.function.arguments) for call in choice.message.tool_calls] == [
        ("get_weather", ARGUMENTS),
        ("get_time", "{}"),
    ]
    assert choice.message.reasoning == choice.message.reasoning_content == "Hm"
    results = [{"role": "tool", "tool_call_id": call.id, "content": "Rain"} for call in choice.message.tool_calls]
    sent_back = choice.message.model_dump(exclude_none=True)
    answer = client.chat.completions.create(
        model=MODEL, messages=[*MESSAGES, sent_back, *results], tools=[WEATHER, TIME]
    )
    assert answer.choices[0].message.content == "Rain." and answer.choices[0].finish_reason == "stop"


def test_the_loop_of_an_agent_that_parses(client: openai.OpenAI) -> None:
    """`parse` adds fields to the message that the client then sends back as it is."""
    strict = {"type": "function", "function": {**WEATHER["function"], "strict": True}}
    answer = client.chat.completions.parse(model=MODEL, messages=MESSAGES, tools=[strict])
    message = answer.choices[0].message
    assert message.parsed is None and message.tool_calls[0].function.parsed_arguments["place"]
    results = [{"role": "tool", "tool_call_id": call.id, "content": "Rain"} for call in message.tool_calls]
    again = client.chat.completions.parse(model=MODEL, messages=[*MESSAGES, message, *results], tools=[strict])
    assert again.choices[0].message.content == "Rain."


def test_stream(client: openai.OpenAI) -> None:
    calls: list[list[str]] = []
    for chunk in client.chat.completions.create(model=MODEL, messages=MESSAGES, tools=[WEATHER, TIME], stream=True):
        for call in chunk.choices[0].delta.tool_calls or ():
            if call.id is not None:
                calls.append([call.function.name, ""])
            calls[call.index][1] += call.function.arguments
    assert calls == [["get_weather", ARGUMENTS], ["get_time", "{}"]]


def test_stream_helper_rebuilds_the_answer(client: openai.OpenAI) -> None:
    whole = client.chat.completions.create(model=MODEL, messages=MESSAGES, tools=[WEATHER], n=2, logprobs=True)
    with client.chat.completions.stream(model=MODEL, messages=MESSAGES, tools=[WEATHER], n=2, logprobs=True) as stream:
        done = [event for event in stream if event.type == "tool_calls.function.arguments.done"]
        built = stream.get_final_completion()
    assert [event.arguments for event in done] == [ARGUMENTS, ARGUMENTS, "{}", "{}"]
    for a, b in zip(built.choices, whole.choices, strict=True):
        assert [call.function.arguments for call in a.message.tool_calls] == [
            call.function.arguments for call in b.message.tool_calls
        ]
        assert a.message.content == b.message.content
        assert a.finish_reason == b.finish_reason == "tool_calls"
        assert len(a.logprobs.content) == len(b.logprobs.content)


def test_forced_calls(client: openai.OpenAI, server: SocketServer) -> None:
    named = {"type": "function", "function": {"name": "get_weather"}}
    for choice, names in (("required", ["get_weather", "get_time"]), (named, ["get_weather"])):
        answer = client.chat.completions.create(
            model=MODEL, messages=MESSAGES, tools=[WEATHER, TIME], tool_choice=choice
        )
        assert answer.choices[0].finish_reason == "tool_calls"
        assert [call.function.name for call in answer.choices[0].message.tool_calls] == names
        asked = server.engine.calls[-1][1].structured_outputs
        assert ("get_time" in asked.grammar) is (choice == "required")
