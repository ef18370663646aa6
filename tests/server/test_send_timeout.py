"""Replies that are not read, on a real socket whose client has little room."""

import asyncio
import socket
from typing import Any

import pytest
from server.conftest import serving, soon
from server.fake_engine import FakeEngine
from server.raw_requests import ask

from octavo.server.send_timeout import SendTimeoutProtocol


async def read_all(asking: socket.socket, num_bytes: int) -> int:
    num_read = 0
    while num_read < num_bytes:
        data = await asyncio.get_running_loop().sock_recv(asking, 1 << 16)
        if not data:
            break
        num_read += len(data)
    return num_read


def test_who_reads_nothing_is_cut_off(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(SendTimeoutProtocol, "send_timeout_s", 0.2)
    aborted = asyncio.Event()
    end = SendTimeoutProtocol._end_unless_taken

    def watched(self: SendTimeoutProtocol, num_waiting: int) -> None:
        end(self, num_waiting)
        if self.transport.is_closing():
            assert self.transport.get_write_buffer_size() == 0
            aborted.set()

    monkeypatch.setattr(SendTimeoutProtocol, "_end_unless_taken", watched)

    async def test(url: str, engine: FakeEngine, stop: Any, task: Any, context: Any) -> None:
        with await ask(url) as asking:
            await asyncio.wait_for(aborted.wait(), 20)
            await soon(lambda: not context.gate.num_inside)
            with pytest.raises(ConnectionResetError):
                while await asyncio.get_running_loop().sock_recv(asking, 1 << 16):
                    pass
                raise ConnectionResetError  # all that was on its way came before the end

    serving(test)


def test_who_reads_slowly_is_served(monkeypatch: pytest.MonkeyPatch) -> None:
    """What is taken between two looks is enough, however little."""
    looks: list[bool] = []
    end = SendTimeoutProtocol._end_unless_taken

    def watched(self: SendTimeoutProtocol, num_waiting: int) -> None:
        end(self, num_waiting + 1)  # as if a byte had been taken
        looks.append(self.transport.is_closing())

    monkeypatch.setattr(SendTimeoutProtocol, "_end_unless_taken", watched)
    monkeypatch.setattr(SendTimeoutProtocol, "send_timeout_s", 0.05)

    async def test(url: str, engine: FakeEngine, stop: Any, task: Any, context: Any) -> None:
        with await ask(url) as asking:
            await soon(lambda: len(looks) > 3)
            assert await read_all(asking, 900_000 * 6) >= 900_000 * 6
        assert not any(looks)

    serving(test)
