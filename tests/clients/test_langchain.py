"""langchain-openai, unmodified."""

import asyncio
from typing import Any

import pytest
from clients.conftest import Script
from clients.weather import ATLANTIS, PARIS, QUESTION, Weather, call
from langchain_core.exceptions import OutputParserException
from langchain_core.messages import AIMessage, HumanMessage, ToolMessage
from langchain_openai import ChatOpenAI
from server.conftest import MODEL


def chat(url: str, model: str = MODEL, **options: Any) -> ChatOpenAI:
    return ChatOpenAI(model=model, base_url=url, api_key="none", max_retries=0, timeout=60, **options)


def test_invoke(script: Script) -> None:
    script.say("Rain. 👋🏽")
    answer = chat(script.url, temperature=0.3, max_tokens=50, stop=["zzz"], seed=1).invoke(QUESTION)
    assert answer.content == "Rain. 👋🏽" and answer.response_metadata["finish_reason"] == "stop"
    assert (
        answer.usage_metadata is not None and answer.usage_metadata["output_tokens"] == len("Rain. 👋🏽".encode()) + 1
    )
    assert script.params.temperature == 0.3 and script.params.max_tokens == 50


def test_stream(script: Script) -> None:
    script.say("Rain. 👋🏽", "Rain. 👋🏽")
    model = chat(script.url, stream_usage=True)
    chunks = list(model.stream(QUESTION))
    assert "".join(str(chunk.content) for chunk in chunks) == "Rain. 👋🏽" and len(chunks) > 5
    whole = chunks[0]
    for chunk in chunks[1:]:
        whole += chunk
    assert whole.usage_metadata is not None and whole.usage_metadata["output_tokens"] > 5

    async def streamed() -> str:
        return "".join([str(chunk.content) async for chunk in model.astream(QUESTION)])

    assert asyncio.run(streamed()) == "Rain. 👋🏽"


@pytest.mark.parametrize("strict", [None, True])
def test_the_loop_of_an_agent(script: Script, strict: bool | None) -> None:
    script.say(call(PARIS), "Rain.", call(PARIS))
    model = chat(script.url).bind_tools([Weather], strict=strict)
    answer = model.invoke(QUESTION)
    assert isinstance(answer, AIMessage)
    [called] = answer.tool_calls
    assert (called["name"], called["args"]) == ("Weather", {"city": "Paris", "days": 3})
    assert (script.params.structured_outputs is not None) is bool(strict)
    result = ToolMessage("Rain", tool_call_id=called["id"])
    assert model.invoke([HumanMessage(QUESTION), answer, result]).content == "Rain."
    assert "<tool_response>\nRain" in script.prompts[-1] and '"city": "Paris"' in script.prompts[-1]
    chunks = list(model.stream(QUESTION))
    whole = chunks[0]
    for chunk in chunks[1:]:
        whole += chunk
    assert [made["args"] for made in whole.tool_calls] == [{"city": "Paris", "days": 3}]


@pytest.mark.parametrize("choice", ["required", "any", "Weather"])
def test_forced_tools(script: Script, choice: str) -> None:
    script.say(call(PARIS))
    answer = chat(script.url).bind_tools([Weather], tool_choice=choice).invoke(QUESTION)
    assert isinstance(answer, AIMessage) and len(answer.tool_calls) == 1
    assert script.params.structured_outputs is not None


@pytest.mark.parametrize(("method", "wrap"), [("json_schema", str), ("function_calling", call), ("json_mode", str)])
def test_structured_output(script: Script, method: Any, wrap: Any) -> None:
    script.say(wrap(PARIS), wrap(PARIS), wrap(ATLANTIS))
    model = chat(script.url).with_structured_output(Weather, method=method)
    assert model.invoke(QUESTION) == Weather(city="Paris", days=3)
    assert script.params.structured_outputs is not None
    assert list(model.stream(QUESTION))[-1] == Weather(city="Paris", days=3)
    with pytest.raises((OutputParserException, ValueError)):
        model.invoke(QUESTION)


@pytest.mark.parametrize(
    ("method", "options"),
    [
        ("json_schema", {}),
        ("json_schema", {"strict": True}),
        ("function_calling", {}),
        ("function_calling", {"strict": True}),
    ],
)
def test_structured_output_of_a_small_model(smollm2: str, method: Any, options: Any) -> None:
    model = chat(smollm2, "smollm2", temperature=1, seed=7)
    assert isinstance(model.with_structured_output(Weather, method=method, **options).invoke(QUESTION), Weather)
