"""Grammars tried in a process of their own, which can be ended: a few lines of a schema may take for ever to compile.

parent ── a line of JSON: StructuredOutputs ──▶ child
       ◀── a line of JSON: null, or what is wrong ──
"""

import asyncio
import hashlib
import resource
import signal
import sys
from collections import OrderedDict

import msgspec

from octavo.core.errors import InvalidRequestError
from octavo.core.structured_outputs import StructuredOutputs
from octavo.engine.child import child_command
from octavo.tokenizer.grammar import check_grammar

TIME_LIMIT_S = 2.0
MEMORY_LIMIT_BYTES = 2 << 30
"""Of address space, most of which is never touched."""
MAX_REMEMBERED = 1024


class GrammarChecker:
    """Checks grammars within `TIME_LIMIT_S` and `MEMORY_LIMIT_BYTES`, off the event loop. Used from one event loop."""

    def __init__(self) -> None:
        self._process: asyncio.subprocess.Process | None = None
        self._lock = asyncio.Lock()
        self._sound: OrderedDict[bytes, None] = OrderedDict()

    async def check(self, outputs: StructuredOutputs) -> None:
        """Raises `InvalidRequestError` for what no answer can follow, or what takes too much work."""
        line = msgspec.json.encode(outputs) + b"\n"
        key = hashlib.sha256(line).digest()
        async with self._lock:
            if key not in self._sound:
                await self._try(line)
                if len(self._sound) >= MAX_REMEMBERED:
                    self._sound.popitem(last=False)
            self._sound[key] = None
            self._sound.move_to_end(key)

    async def close(self) -> None:
        """End the process."""
        process, self._process = self._process, None
        if process is not None and process.returncode is None:
            process.kill()
            await process.wait()

    async def _try(self, line: bytes) -> None:
        if self._process is None or self._process.returncode is not None:
            self._process = await _start()
        assert self._process.stdin is not None
        assert self._process.stdout is not None
        try:
            self._process.stdin.write(line)
            answer = await self._process.stdout.readline()
        except BaseException:  # cancelled: an answer that nobody read must not become the next one's
            await self.close()
            raise
        if not answer:
            ended_by = -await self._process.wait()
            too_much = f"more than {TIME_LIMIT_S:g} s" if ended_by == signal.SIGALRM else "too much memory"
            raise InvalidRequestError(
                f"structured_outputs took {too_much} to compile; simplify them", param="structured_outputs"
            )
        reason = msgspec.json.decode(answer, type=str | None)
        if reason is not None:
            raise InvalidRequestError(reason, param="structured_outputs")


async def _start() -> asyncio.subprocess.Process:
    """Returns when it has begun: its start does not count as a grammar's time."""
    process = await asyncio.create_subprocess_exec(
        *child_command("octavo.engine.grammar_check"),
        stdin=asyncio.subprocess.PIPE,
        stdout=asyncio.subprocess.PIPE,
    )
    assert process.stdout is not None
    await process.stdout.readline()
    return process


def main() -> None:
    """The child: answers until its standard input ends."""
    resource.setrlimit(resource.RLIMIT_AS, (MEMORY_LIMIT_BYTES, MEMORY_LIMIT_BYTES))
    print("null", flush=True)
    for line in sys.stdin.buffer:
        signal.setitimer(signal.ITIMER_REAL, TIME_LIMIT_S)  # nobody handles it: it ends the process
        try:
            check_grammar(msgspec.json.decode(line, type=StructuredOutputs))
            reason = None
        except InvalidRequestError as error:
            reason = error.message
        signal.setitimer(signal.ITIMER_REAL, 0)
        print(msgspec.json.encode(reason).decode(), flush=True)
