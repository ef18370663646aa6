"""instructor, unmodified, in its modes for servers of this kind."""

from collections.abc import Callable, Iterable
from typing import Any

import instructor
import openai
import pytest
from clients.conftest import Script
from clients.weather import ATLANTIS, PARIS, QUESTION, Weather, call
from instructor import Mode
from server.conftest import MODEL

MESSAGES: Any = [{"role": "user", "content": QUESTION}]
WRITTEN: dict[Mode, Callable[[str], str]] = {
    Mode.TOOLS: call,
    Mode.TOOLS_STRICT: call,
    Mode.JSON: str,
    Mode.JSON_SCHEMA: str,
    Mode.MD_JSON: "```json\n{}\n```".format,
}
each_mode = pytest.mark.parametrize("mode", WRITTEN, ids=lambda mode: mode.name)


@pytest.fixture
def plain(script: Script, openai_client: Callable[[str], openai.OpenAI]) -> openai.OpenAI:
    return openai_client(script.url)


@each_mode
def test_a_typed_answer(script: Script, plain: openai.OpenAI, mode: Mode) -> None:
    script.say(WRITTEN[mode](PARIS))
    answer = instructor.from_openai(plain, mode=mode).chat.completions.create(
        model=MODEL, response_model=Weather, messages=MESSAGES, max_retries=0
    )
    assert isinstance(answer, Weather) and answer.model_dump() == {"city": "Paris", "days": 3}
    assert (script.params.structured_outputs is not None) is (mode is not Mode.MD_JSON)


@each_mode
def test_what_does_not_fit_is_asked_again(script: Script, plain: openai.OpenAI, mode: Mode) -> None:
    script.say(WRITTEN[mode](ATLANTIS), WRITTEN[mode](PARIS))
    answer = instructor.from_openai(plain, mode=mode).chat.completions.create(
        model=MODEL, response_model=Weather, messages=MESSAGES, max_retries=1
    )
    assert isinstance(answer, Weather) and answer.model_dump() == {"city": "Paris", "days": 3}
    first, second = script.prompts
    assert "Atlantis" not in first and "Atlantis" in second and "Input should be 'Paris' or 'Rome'" in second


@each_mode
def test_a_typed_stream(script: Script, plain: openai.OpenAI, mode: Mode) -> None:
    script.say(WRITTEN[mode](PARIS))
    partial = instructor.from_openai(plain, mode=mode).chat.completions.create_partial(
        model=MODEL, response_model=Weather, messages=MESSAGES
    )
    *_, last = partial
    assert last.model_dump() == {"city": "Paris", "days": 3}


def test_parallel_calls(script: Script, plain: openai.OpenAI) -> None:
    script.say(f"{call(PARIS)}\n{call(PARIS.replace('Paris', 'Rome'))}")
    client = instructor.from_openai(plain, mode=Mode.PARALLEL_TOOLS)
    answers: Any = client.chat.completions.create(
        model=MODEL, response_model=Iterable[Weather], messages=MESSAGES, max_retries=0
    )
    assert [answer.city for answer in answers] == ["Paris", "Rome"]


@pytest.mark.parametrize("mode", [Mode.TOOLS, Mode.TOOLS_STRICT, Mode.JSON_SCHEMA], ids=lambda mode: mode.name)
def test_a_small_model(smollm2: str, openai_client: Callable[[str], openai.OpenAI], mode: Mode) -> None:
    answer = instructor.from_openai(openai_client(smollm2), mode=mode).chat.completions.create(
        model="smollm2", response_model=Weather, messages=MESSAGES, max_retries=0, temperature=1, seed=7
    )
    assert isinstance(answer, Weather)
