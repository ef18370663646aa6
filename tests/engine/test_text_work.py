"""Which threads do what: nothing of a long request is done by those for short ones, from its messages to its ids."""

import asyncio
import threading
from types import SimpleNamespace
from typing import Any

import pytest

from octavo.core.sampling_params import SamplingParams
from octavo.engine.text_work import LONG_TEXT_LEN, TextWork

MESSAGE = {"role": "user", "content": "x" * 100}
LONG = "x" * LONG_TEXT_LEN


def thread(*args: object, **options: object) -> str:
    return threading.current_thread().name


def texts() -> TextWork:
    """Whatever it does, the thread's name comes of it."""
    processor = SimpleNamespace(tokenize=thread, list_tokens=thread, count_tokens=thread, process=thread)
    front_end: Any = SimpleNamespace(render_chat=thread, input_processor=lambda info: processor)
    info: Any = None
    return TextWork(front_end, info, lambda: None)


@pytest.mark.parametrize(
    ("messages", "is_long"),
    [
        ([{"role": "user", "content": LONG}], True),
        ([MESSAGE] * 1000, True),
        ([{}] * LONG_TEXT_LEN, True),
        ([{"role": "user", "content": [{"type": "text", "text": LONG}]}], True),
        ([MESSAGE, {"role": "assistant", "tool_calls": [{"function": {"name": "f", "arguments": LONG}}]}], True),
        ([MESSAGE] * 20, False),
        (7, False),
    ],
    ids=["one long message", "many", "many empty ones", "a long part", "a long call", "short", "none at all"],
)
def test_a_conversation(messages: Any, is_long: bool) -> None:
    async def main() -> None:
        work = texts()
        for ran in (work.read_chat(thread, messages), work.render_chat(messages)):
            assert (await ran).startswith("octavo-long-texts" if is_long else "octavo-texts")
        work.close()

    asyncio.run(main())


def test_tools_are_part_of_it() -> None:
    async def main() -> None:
        work = texts()
        assert (await work.render_chat([MESSAGE], tools=[MESSAGE] * 1000)).startswith("octavo-long-texts")
        work.close()

    asyncio.run(main())


def test_a_prompt() -> None:
    async def main() -> None:
        work = texts()
        short, long = [1] * (LONG_TEXT_LEN - 1), [1] * LONG_TEXT_LEN
        works: list[Any] = [work.tokenize, lambda ids: work.process("a", ids, SamplingParams())]
        for run in works:
            assert (await run(short)).startswith("octavo-texts")
            assert (await run(long)).startswith("octavo-long-texts")
        for run in (work.tokenize, work.list_tokens, work.count_tokens):
            assert str(await run(LONG)).startswith("octavo-long-texts")
        work.close()

    asyncio.run(main())
