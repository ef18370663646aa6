"""Grammars are tried in a process of their own, which does not outlive its time."""

import asyncio
from pathlib import Path
from typing import Any

import pytest

from octavo.core.errors import InvalidRequestError
from octavo.core.structured_outputs import StructuredOutputs
from octavo.engine import grammar_check
from octavo.engine.grammar_check import GrammarChecker

BOMB: dict[str, Any] = {"allOf": [{"type": "string", "pattern": f"(a|b)*a(a|b){{{count}}}"} for count in range(1, 40)]}


def process_id(checker: GrammarChecker) -> int:
    assert checker._process is not None
    return checker._process.pid


def test_a_bomb_ends_with_its_process(monkeypatch: pytest.MonkeyPatch) -> None:
    async def run() -> None:
        checker = GrammarChecker()
        await checker.check(StructuredOutputs(regex="a"))
        first = process_id(checker)
        with pytest.raises(InvalidRequestError, match="more than 2 s"):
            await checker.check(StructuredOutputs(json=BOMB))
        with pytest.raises(InvalidRequestError, match="unclosed group"):
            await checker.check(StructuredOutputs(regex="("))
        second = process_id(checker)
        assert second != first
        await checker.close()
        assert not Path(f"/proc/{second}").exists()

    asyncio.run(run())


def test_a_check_that_nobody_waits_for_leaves_no_answer_to_the_next() -> None:
    async def run() -> None:
        checker = GrammarChecker()
        await checker.check(StructuredOutputs(regex="a"))
        waiting = asyncio.create_task(checker.check(StructuredOutputs(json=BOMB)))
        while not checker._lock.locked():
            await asyncio.sleep(0)
        waiting.cancel()
        with pytest.raises(asyncio.CancelledError):
            await waiting
        await checker.check(StructuredOutputs(regex="b"))
        with pytest.raises(InvalidRequestError, match="unclosed group"):
            await checker.check(StructuredOutputs(regex="("))
        await checker.close()

    asyncio.run(run())


def test_what_was_found_sound_is_remembered(monkeypatch: pytest.MonkeyPatch) -> None:
    async def run() -> None:
        checker = GrammarChecker()
        await checker.check(StructuredOutputs(regex="a"))
        await checker.close()
        await checker.check(StructuredOutputs(regex="a"))
        assert checker._process is None
        for number in range(3):
            await checker.check(StructuredOutputs(regex=f"b{{{number + 1}}}"))
        assert len(checker._sound) == 2
        await checker.close()

    monkeypatch.setattr(grammar_check, "MAX_REMEMBERED", 2)
    asyncio.run(run())
