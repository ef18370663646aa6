"""The official client's typed functions and answers; what else it does is in `server/test_openai_client.py`."""

from collections.abc import Callable

import openai
import pytest
from clients.conftest import Script
from clients.weather import PARIS, QUESTION, Weather, call
from server.conftest import MODEL

WEATHER = openai.pydantic_function_tool(Weather)
MESSAGES = [{"role": "user", "content": QUESTION}]
EXAMPLE = [
    {"role": "user", "content": "What is the weather in Rome for 2 days?"},
    {
        "role": "assistant",
        "content": None,
        "tool_calls": [
            {"id": "a", "type": "function", "function": {"name": "Weather", "arguments": '{"city": "Rome", "days": 2}'}}
        ],
    },
    {"role": "tool", "tool_call_id": "a", "content": "Sun"},
    {"role": "assistant", "content": "It is sunny."},
    *MESSAGES,
]


@pytest.fixture
def client(script: Script, openai_client: Callable[[str], openai.OpenAI]) -> openai.OpenAI:
    return openai_client(script.url)


@pytest.fixture
def of_small_model(smollm2: str, openai_client: Callable[[str], openai.OpenAI]) -> openai.OpenAI:
    return openai_client(smollm2)


def test_a_typed_function_is_strict(client: openai.OpenAI, script: Script) -> None:
    script.say(call(PARIS), f"So: {call(PARIS)}", "No.")
    answer = client.chat.completions.parse(model=MODEL, messages=MESSAGES, tools=[WEATHER])
    [called] = answer.choices[0].message.tool_calls
    assert called.function.parsed_arguments == Weather(city="Paris", days=3)
    assert (
        script.params.structured_outputs is not None
        and '"enum": ["Paris", "Rome"]' in script.params.structured_outputs.grammar
    )
    with client.chat.completions.stream(model=MODEL, messages=MESSAGES, tools=[WEATHER]) as stream:
        done = [event for event in stream if event.type == "tool_calls.function.arguments.done"]
    assert [event.parsed_arguments for event in done] == [Weather(city="Paris", days=3)]
    answer = client.chat.completions.parse(model=MODEL, messages=MESSAGES, tools=[WEATHER])
    assert answer.choices[0].message.content == "No." and answer.choices[0].finish_reason == "stop"


def test_a_typed_answer(client: openai.OpenAI, script: Script) -> None:
    script.say(PARIS)
    answer = client.chat.completions.parse(model=MODEL, messages=MESSAGES, response_format=Weather)
    assert answer.choices[0].message.parsed == Weather(city="Paris", days=3)
    assert script.params.structured_outputs is not None and script.params.structured_outputs.json


def test_a_small_model_calls_a_typed_function_when_it_wants_to(of_small_model: openai.OpenAI) -> None:
    options = {"model": "smollm2", "tools": [WEATHER], "parallel_tool_calls": False, "temperature": 0}
    called = of_small_model.chat.completions.parse(messages=EXAMPLE, max_tokens=80, **options).choices[0]
    assert called.finish_reason == "tool_calls" and called.message.content is None
    [made] = called.message.tool_calls
    assert made.function.parsed_arguments == Weather(city="Paris", days=3)
    hello = [{"role": "user", "content": "What is the capital of France?"}]
    spoken = of_small_model.chat.completions.parse(messages=hello, **options).choices[0]
    assert "Paris" in spoken.message.content and spoken.finish_reason == "stop" and not spoken.message.tool_calls
    hot = of_small_model.chat.completions.create(
        **{**options, "temperature": 1}, messages=EXAMPLE, n=4, seed=1, max_tokens=80
    )
    arguments = [each.function.arguments for choice in hot.choices for each in choice.message.tool_calls or ()]
    assert arguments and all(Weather.model_validate_json(each) for each in arguments)


def test_a_small_model_gives_a_typed_answer(of_small_model: openai.OpenAI) -> None:
    answer = of_small_model.chat.completions.parse(
        model="smollm2", messages=MESSAGES, response_format=Weather, temperature=1, seed=1
    )
    assert isinstance(answer.choices[0].message.parsed, Weather)


def test_a_strict_function_that_calls_cannot_be_held_to_is_refused(of_small_model: openai.OpenAI) -> None:
    function = {
        "name": "f",
        "strict": True,
        "parameters": {"properties": {"day": {"type": "string", "format": "dawn"}}},
    }
    with pytest.raises(openai.BadRequestError, match="Unknown format: dawn") as raised:
        of_small_model.chat.completions.create(
            model="smollm2", messages=MESSAGES, tools=[{"type": "function", "function": function}]
        )
    assert raised.value.param == "tools"
