"""Grammars are tried in a process of their own, which does not outlive its time."""

import asyncio
import os
import signal
import time
from collections.abc import Awaitable, Callable
from pathlib import Path
from typing import Any

import msgspec
import pytest

from octavo.core.errors import EngineStalledError, InvalidRequestError, OctavoError, ShuttingDownError
from octavo.core.structured_outputs import StructuredOutputs
from octavo.engine import grammar_check
from octavo.engine.grammar_check import GrammarChecker, Verdict
from octavo.tokenizer.grammar import lark_text

BOMB: dict[str, Any] = {"allOf": [{"type": "string", "pattern": f"(a|b)*a(a|b){{{count}}}"} for count in range(1, 40)]}
MANY_TOKENS = StructuredOutputs(grammar='start: <[131071]> "x"')
"""Sound, and tried with a vocabulary of 2¹⁸ tokens."""


def run(scenario: Callable[[GrammarChecker], Awaitable[None]]) -> None:
    async def main() -> None:
        checker = GrammarChecker()
        try:
            await scenario(checker)
        finally:
            await checker.close()

    asyncio.run(asyncio.wait_for(main(), 60))


def process_id(checker: GrammarChecker) -> int:
    assert checker._process is not None
    return checker._process.pid


def regex(expression: str) -> StructuredOutputs:
    return StructuredOutputs(regex=expression)


def test_a_bomb_ends_with_its_process() -> None:
    async def scenario(checker: GrammarChecker) -> None:
        await checker.check(regex("a"))
        first = process_id(checker)
        with pytest.raises(InvalidRequestError, match="more than 2 s"):
            await checker.check(StructuredOutputs(json=BOMB))
        with pytest.raises(InvalidRequestError, match="unclosed group"):
            await checker.check(regex("("))
        second = process_id(checker)
        assert second != first
        await checker.close()
        assert not Path(f"/proc/{second}").exists()

    run(scenario)


def test_a_grammar_takes_no_more_memory_than_is_allowed(monkeypatch: pytest.MonkeyPatch) -> None:
    async def scenario(checker: GrammarChecker) -> None:
        await checker.check(regex("a"))
        status = Path(f"/proc/{process_id(checker)}/status").read_text()
        await checker.check(MANY_TOKENS)
        [begun_kib] = [line.split()[1] for line in status.splitlines() if line.startswith("VmPeak")]
        monkeypatch.setattr(grammar_check, "MEMORY_LIMIT_BYTES", (int(begun_kib) << 10) + (4 << 20))
        narrow = GrammarChecker()
        try:
            await narrow.check(regex("a"))
            with pytest.raises(InvalidRequestError, match="too much memory"):
                await narrow.check(MANY_TOKENS)
            await narrow.check(regex("b"))
        finally:
            await narrow.close()

    run(scenario)


def test_time_in_which_others_have_the_machine_does_not_count(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(grammar_check, "TIME_LIMIT_S", 0.5)

    async def scenario(checker: GrammarChecker) -> None:
        await checker.check(regex("a"))
        await asyncio.gather(checker.check(MANY_TOKENS), hold(process_id(checker), 0.7))

    run(scenario)


def test_a_machine_that_is_too_busy_is_not_the_grammars_fault(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(grammar_check, "WALL_LIMIT_S", 0.2)

    async def scenario(checker: GrammarChecker) -> None:
        await checker.check(regex("a"))
        with pytest.raises(EngineStalledError, match="again later"):
            await asyncio.gather(checker.check(StructuredOutputs(json=BOMB)), hold(process_id(checker), 0.5))
        monkeypatch.setattr(grammar_check, "WALL_LIMIT_S", 20.0)
        with pytest.raises(InvalidRequestError, match="more than 2 s"):
            await checker.check(StructuredOutputs(json=BOMB))  # tried again

    run(scenario)


async def hold(process: int, seconds: float) -> None:
    """Keep it from running, as soon as it has begun with what it was sent."""
    await asyncio.sleep(0)
    used_s = cpu_s(process)
    while cpu_s(process) == used_s:
        await asyncio.sleep(0)
    os.kill(process, signal.SIGSTOP)
    await asyncio.sleep(seconds)
    os.kill(process, signal.SIGCONT)


def cpu_s(process: int) -> int:
    """In the kernel's ticks."""
    fields = Path(f"/proc/{process}/stat").read_text().rpartition(")")[2].split()
    return int(fields[11]) + int(fields[12])


def test_a_check_that_nobody_waits_for_leaves_no_answer_to_the_next() -> None:
    async def scenario(checker: GrammarChecker) -> None:
        for has_begun in (False, True):
            if has_begun:
                await checker.check(regex("a"))
            waiting = asyncio.create_task(checker.check(StructuredOutputs(json=BOMB)))
            while not checker._is_trying or checker._process is None:
                await asyncio.sleep(0)
            waiting.cancel()
            with pytest.raises(asyncio.CancelledError):
                await waiting
            await checker.check(regex("b" if has_begun else "c"))
            with pytest.raises(InvalidRequestError, match="unclosed group"):
                await checker.check(regex("((" if has_begun else "("))

    run(scenario)


def test_what_was_found_is_remembered(monkeypatch: pytest.MonkeyPatch) -> None:
    tried: list[bytes] = []
    attempt = GrammarChecker._try

    def counted(self: GrammarChecker, line: bytes) -> Any:
        tried.append(line)
        return attempt(self, line)

    async def scenario(checker: GrammarChecker) -> None:
        for _ in range(2):
            await checker.check(regex("a"))
            with pytest.raises(InvalidRequestError, match="unclosed group"):
                await checker.check(regex("("))
        assert len(tried) == 2
        for number in range(3):
            await checker.check(regex(f"b{{{number + 1}}}"))
        assert len(checker._verdicts) == 2

    monkeypatch.setattr(GrammarChecker, "_try", counted)
    monkeypatch.setattr(grammar_check, "MAX_REMEMBERED", 2)
    run(scenario)


def test_what_is_known_waits_for_nobody() -> None:
    async def scenario(checker: GrammarChecker) -> None:
        await checker.check(regex("a"))
        bombs = [asyncio.create_task(checker.check(StructuredOutputs(json=BOMB))) for _ in range(5)]
        while not checker._is_trying:
            await asyncio.sleep(0)
        await checker.check(regex("a"))
        assert not any(bomb.done() for bomb in bombs)
        begin = time.monotonic()
        for bomb in bombs:
            with pytest.raises(InvalidRequestError, match="more than 2 s"):
                await bomb
        assert time.monotonic() - begin < 10, "the same bomb was tried again and again"

    run(scenario)


def test_clients_take_turns_and_who_has_left_loses_its_turn(monkeypatch: pytest.MonkeyPatch) -> None:
    tried: list[bytes] = []
    may_go_on: list[asyncio.Event] = []

    async def hold_up(self: GrammarChecker, line: bytes) -> Verdict:
        tried.append(msgspec.json.decode(line)["regex"])
        await may_go_on[0].wait()
        return Verdict()

    monkeypatch.setattr(GrammarChecker, "_try", hold_up)

    async def scenario(checker: GrammarChecker) -> None:
        may_go_on.append(asyncio.Event())
        asked = [("A", "A0"), ("A", "A1"), ("A", "gone"), ("A", "A2"), ("B", "B0"), ("C", "C0"), ("B", "B1")]
        tasks = {name: asyncio.create_task(checker.check(regex(name), client)) for client, name in asked}
        await asyncio.sleep(0)
        await checker.check(StructuredOutputs(choice=("yes", "no")), "B")
        await checker.check(StructuredOutputs(json_object=True), "B")
        tasks.pop("gone").cancel()
        may_go_on[0].set()
        await asyncio.gather(*tasks.values())
        assert tried == ["A0", "B0", "C0", "A1", "B1", "A2"]
        assert not checker._is_trying

    run(scenario)


def test_who_leaves_as_it_gets_its_turn_passes_it_on(monkeypatch: pytest.MonkeyPatch) -> None:
    tried: list[str] = []

    async def attempt(self: GrammarChecker, line: bytes) -> Verdict:
        tried.append(msgspec.json.decode(line)["regex"])
        await asyncio.sleep(0)
        return Verdict()

    monkeypatch.setattr(GrammarChecker, "_try", attempt)

    async def scenario(checker: GrammarChecker) -> None:
        first, second, third = (asyncio.create_task(checker.check(regex(name))) for name in ("1", "2", "3"))
        give_turn = checker._give_turn

        def give_turn_and_leave() -> None:
            give_turn()
            if tried == ["1"]:
                second.cancel()

        monkeypatch.setattr(checker, "_give_turn", give_turn_and_leave)
        await asyncio.gather(first, third)
        assert second.cancelled()
        assert tried == ["1", "3"]
        assert not checker._is_trying

    run(scenario)


def test_signals_to_the_whole_group_leave_it_to_its_parent() -> None:
    async def scenario(checker: GrammarChecker) -> None:
        await checker.check(regex("a"))
        process = process_id(checker)
        for number in (signal.SIGINT, signal.SIGTERM):
            os.kill(process, number)
        await checker.check(regex("b"))
        assert process_id(checker) == process

    run(scenario)


def test_who_waits_at_its_end_is_told_so_and_nothing_is_started_any_more() -> None:
    async def scenario(checker: GrammarChecker) -> None:
        await checker.check(regex("a"))
        shapes = (StructuredOutputs(json=BOMB), regex("waits for the lock"))
        waiting = [asyncio.create_task(checker.check(shape)) for shape in shapes]
        while not checker._is_trying:
            await asyncio.sleep(0)
        await checker.close()
        for result in await asyncio.gather(*waiting, return_exceptions=True):
            assert isinstance(result, ShuttingDownError)
        with pytest.raises(ShuttingDownError):
            await checker.check(regex("late"))
        assert checker._process is None

    run(scenario)


def test_a_process_that_breaks_is_not_the_grammars_fault(monkeypatch: pytest.MonkeyPatch) -> None:
    async def scenario(checker: GrammarChecker) -> None:
        await checker.check(regex("a"))
        os.kill(process_id(checker), signal.SIGKILL)  # while it has nothing to do
        assert checker._process is not None
        await checker._process.wait()
        await checker.check(regex("b"))
        await checker._end()
        monkeypatch.setattr(grammar_check, "MEMORY_LIMIT_BYTES", "no number")
        with pytest.raises(OctavoError, match="ended with code 1") as caught:
            await checker.check(regex("c"))
        assert not isinstance(caught.value, InvalidRequestError)
        monkeypatch.undo()
        await checker.check(regex("c"))

    run(scenario)


def test_gbnf_comes_back_as_lark_and_all_else_as_it_was(monkeypatch: pytest.MonkeyPatch) -> None:
    """So that the engine, whose step loop shares an interpreter with what it compiles, has nothing to convert."""
    gbnf = [StructuredOutputs(grammar=f'root ::= "{number}"' + "# é" * 40_000) for number in range(3)]
    others = [regex("a"), StructuredOutputs(choice=("a", "b")), StructuredOutputs(grammar='start: "a"')]

    async def scenario(checker: GrammarChecker) -> None:
        for outputs in gbnf * 2:
            read = await checker.check(outputs)
            assert read.grammar is not None
            assert read.grammar == lark_text(str(outputs.grammar)) == lark_text(read.grammar)
        assert [await checker.check(outputs) for outputs in others] == others
        kept = [verdict.lark for verdict in checker._verdicts.values()]
        assert 100_000 < sum(map(len, kept)) == checker._num_chars <= 200_000

    monkeypatch.setattr(grammar_check, "MAX_REMEMBERED_CHARS", 200_000)
    run(scenario)
