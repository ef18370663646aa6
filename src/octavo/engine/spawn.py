"""How the engine's process is started, and followed until it is ready."""

import asyncio
import tempfile
from asyncio.subprocess import PIPE, Process
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import msgspec
import zmq.asyncio

from octavo.core.errors import EngineDeadError
from octavo.engine.child import child_command
from octavo.engine.info import EngineInfo, OnFound, OnPhase
from octavo.engine.wire import Found, Phase, Ready, StartFailed, from_engine_decoder

MAX_SOCKET_PATH = 90
"""Bytes that a socket's path may have, less the name in it; the system allows 107."""
PROCESS_PHASE = "start process"
_LAST_WORDS_MS = 100


def socket_directory() -> "tempfile.TemporaryDirectory[str]":
    """A private directory whose path is short enough for a socket in it."""
    directory = tempfile.TemporaryDirectory(prefix="octavo-")
    if len(directory.name.encode()) <= MAX_SOCKET_PATH:
        return directory
    directory.cleanup()
    return tempfile.TemporaryDirectory(prefix="octavo-", dir="/tmp")


async def spawn_engine(addresses: Sequence[str]) -> Process:
    """A process that waits for its options on standard input; see `octavo.engine.process`."""
    return await asyncio.create_subprocess_exec(*child_command("octavo.engine.process", *addresses), stdin=PIPE)


async def give_options(process: Process, options: dict[str, Any]) -> None:
    assert process.stdin is not None
    process.stdin.write(msgspec.json.encode(options) + b"\n")
    await process.stdin.drain()


async def until_ready(process: Process, inbox: zmq.asyncio.Socket, on_phase: OnPhase, on_found: OnFound) -> EngineInfo:
    """What the engine tells of itself. Its phases are passed on, after one for the process's own start.

    Raises what `build_engine` raised there, and `EngineDeadError` if the process ends without a word.
    """
    on_phase(PROCESS_PHASE, 0.0)
    is_first = True
    exited = asyncio.create_task(process.wait())
    try:
        while True:
            received = asyncio.ensure_future(inbox.recv())
            await asyncio.wait((received, exited), return_when=asyncio.FIRST_COMPLETED)
            if not received.done() and not await inbox.poll(_LAST_WORDS_MS):  # they may still be on the way
                received.cancel()
                raise EngineDeadError(f"the engine process ended with code {exited.result()} while starting")
            message = from_engine_decoder.decode(await received)
            if is_first:
                on_phase(PROCESS_PHASE, 1.0)
                is_first = False
            if isinstance(message, Phase):
                on_phase(message.name, message.share)
            elif isinstance(message, Found):
                on_found(Path(message.path))
            elif isinstance(message, StartFailed):
                raise message.error()
            elif isinstance(message, Ready):
                return message.info
    finally:
        exited.cancel()
