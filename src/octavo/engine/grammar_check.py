"""Grammars tried in a process of their own, which can be ended: a few lines of a schema may take for ever to compile.

parent ── a line of JSON: StructuredOutputs ──▶ child
       ◀── a line of JSON: Verdict ──
"""

import asyncio
import contextlib
import hashlib
import resource
import signal
import sys
from collections import OrderedDict
from collections.abc import AsyncIterator

import msgspec

from octavo.core.errors import EngineStalledError, InvalidRequestError, OctavoError, ShuttingDownError
from octavo.core.structured_outputs import StructuredOutputs
from octavo.core.turns import Turns
from octavo.engine.child import child_command, leave_signals_to_parent
from octavo.tokenizer.grammar import check_grammar, lark_text

TIME_LIMIT_S = 2.0
"""Of processor time: others that keep the machine busy do not count."""
WALL_LIMIT_S = 20.0
"""Of any time: who gets so little of the machine is told to come again."""
MEMORY_LIMIT_BYTES = 2 << 30
"""Of address space, most of which is never touched."""
MAX_REMEMBERED = 1024
MAX_REMEMBERED_CHARS = 16 << 20
"""Of grammars that were given as GBNF, written as Lark."""
MAX_ANSWER_BYTES = 1 << 20
"""Of a verdict's line: a grammar's characters, each of which JSON may write with six."""
_OUT_OF_MEMORY = (signal.SIGABRT, signal.SIGSEGV, signal.SIGKILL)
"""By which a process ends whose allocations fail, or that the system ends for them."""


class Verdict(msgspec.Struct, frozen=True, omit_defaults=True):
    """What came of trying a grammar."""

    reason: str | None = None
    """What is wrong with it."""
    lark: str = ""
    """What was given as GBNF."""


class GrammarChecker:
    """Checks grammars, each alone and within the limits above, off the event loop. Used from one event loop."""

    def __init__(self) -> None:
        self._process: asyncio.subprocess.Process | None = None
        self._is_closed = False
        self._is_trying = False
        self._turns: Turns[asyncio.Future[None]] = Turns()
        self._verdicts: OrderedDict[bytes, Verdict] = OrderedDict()
        """On what was checked last."""
        self._num_chars = 0
        """Of Lark in them."""

    async def check(self, outputs: StructuredOutputs, client: str = "") -> StructuredOutputs:
        """What an engine can compile at once: the same, or where it is GBNF, its Lark.

        Raises `InvalidRequestError` for what no answer can follow, or what takes too much work.
        What was checked before is answered at once, and so are choices and plain JSON, of which all can be followed;
        else clients take turns. Raises `EngineStalledError` where the machine is too busy, and `ShuttingDownError`
        after `close`.
        """
        if outputs.choice is not None or outputs.json_object is not None:
            return outputs
        line = msgspec.json.encode(outputs) + b"\n"
        key = hashlib.sha256(line).digest()
        if key not in self._verdicts:
            async with self._turn(client):
                if key not in self._verdicts:  # nor checked for another one meanwhile
                    self._remember(key, await self._try(line))
        self._verdicts.move_to_end(key)
        verdict = self._verdicts[key]
        if verdict.reason is not None:
            raise InvalidRequestError(verdict.reason, param="structured_outputs")
        return StructuredOutputs(grammar=verdict.lark) if verdict.lark else outputs

    async def close(self) -> None:
        """End the process, and start none any more. Idempotent."""
        self._is_closed = True
        await self._end()

    @contextlib.asynccontextmanager
    async def _turn(self, client: str) -> AsyncIterator[None]:
        """One at a time."""
        turn = asyncio.get_running_loop().create_future()
        self._turns.put(client, turn)
        if not self._is_trying:
            self._give_turn()
        try:
            await turn
        except asyncio.CancelledError:
            if not turn.cancelled():  # it had just been given
                self._give_turn()
            raise
        try:
            yield
        finally:
            self._give_turn()

    def _give_turn(self) -> None:
        """To the next one who has not left."""
        self._is_trying = False
        while self._turns and not self._is_trying:
            turn = self._turns.take()
            if not turn.done():
                turn.set_result(None)
                self._is_trying = True

    def _remember(self, key: bytes, verdict: Verdict) -> None:
        self._verdicts[key] = verdict
        self._num_chars += len(verdict.lark)
        while len(self._verdicts) > MAX_REMEMBERED or self._num_chars > MAX_REMEMBERED_CHARS:
            _, oldest = self._verdicts.popitem(last=False)
            self._num_chars -= len(oldest.lark)

    async def _try(self, line: bytes) -> Verdict:
        try:
            process = await self._running()
            assert process.stdin is not None
            assert process.stdout is not None
            process.stdin.write(line)
            answer = await process.stdout.readline()
        except BaseException:  # cancelled: an answer that nobody read must not become the next one's
            await self._end()
            raise
        if answer:
            return msgspec.json.decode(answer, type=Verdict)
        return Verdict(self._why_ended(await process.wait()))

    async def _running(self) -> asyncio.subprocess.Process:
        """The process, ready for a line: its start does not count as a grammar's time."""
        self._refuse_if_closed()
        process = self._process
        if process is None or process.returncode is not None:
            limits = (str(limit) for limit in (TIME_LIMIT_S, WALL_LIMIT_S, MEMORY_LIMIT_BYTES))
            process = self._process = await asyncio.create_subprocess_exec(
                *child_command("octavo.engine.grammar_check", *limits),
                stdin=asyncio.subprocess.PIPE,
                stdout=asyncio.subprocess.PIPE,
                limit=MAX_ANSWER_BYTES,
            )
            assert process.stdout is not None
            has_begun = await process.stdout.readline()
            self._refuse_if_closed()
            if not has_begun:
                raise _broken(await process.wait())
        return process

    def _why_ended(self, code: int) -> str:
        """What is wrong with the grammar that the process ended of; raises where the grammar is not to blame."""
        self._refuse_if_closed()
        if code == -signal.SIGPROF:
            return _too_much(f"more than {TIME_LIMIT_S:g} s")
        if code == -signal.SIGALRM:
            raise EngineStalledError(
                f"structured_outputs could not be tried within {WALL_LIMIT_S:g} s, so busy is the machine; "
                "send the request again later"
            )
        if -code in _OUT_OF_MEMORY:
            return _too_much("too much memory")
        raise _broken(code)

    def _refuse_if_closed(self) -> None:
        if self._is_closed:
            raise ShuttingDownError

    async def _end(self) -> None:
        process, self._process = self._process, None
        if process is not None and process.returncode is None:
            process.kill()
            await process.wait()


def _too_much(what: str) -> str:
    return f"structured_outputs took {what} to compile; simplify them"


def _broken(code: int) -> OctavoError:
    return OctavoError(f"the process that tries grammars ended with code {code}; it said why on standard error")


def main() -> None:
    """The child: answers until its standard input ends. Arguments: the limits, in the order above."""
    leave_signals_to_parent()
    timers = tuple(zip((signal.ITIMER_PROF, signal.ITIMER_REAL), map(float, sys.argv[1:3]), strict=True))
    resource.setrlimit(resource.RLIMIT_AS, (int(sys.argv[3]), int(sys.argv[3])))
    print("null", flush=True)
    for line in sys.stdin.buffer:
        for timer, seconds in timers:
            signal.setitimer(timer, seconds)  # nobody handles them: they end the process
        verdict = _verdict(line)
        for timer, _ in timers:
            signal.setitimer(timer, 0)
        print(msgspec.json.encode(verdict).decode(), flush=True)


def _verdict(line: bytes) -> Verdict:
    outputs = msgspec.json.decode(line, type=StructuredOutputs)
    try:
        lark = "" if outputs.grammar is None else lark_text(outputs.grammar)
        check_grammar(StructuredOutputs(grammar=lark) if lark else outputs)
    except InvalidRequestError as error:
        return Verdict(error.message)
    except MemoryError:
        return Verdict(_too_much("too much memory"))
    return Verdict(lark="" if lark == outputs.grammar else lark)
