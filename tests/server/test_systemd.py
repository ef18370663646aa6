"""What a server tells the socket that systemd gives it."""

import asyncio
import socket
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from server.conftest import serving
from server.fake_engine import FakeEngine
from server.run_in_process import nothing_of_this_process_is_changed, serve

from octavo import AsyncEngine
from octavo.config import EngineConfig
from octavo.config.server_config import ServerConfig
from octavo.server import run
from octavo.server.drain import StopSignals
from octavo.server.startup import Console, StartProgress
from octavo.server.systemd import tell_systemd

__all__ = ["nothing_of_this_process_is_changed"]


@pytest.fixture(params=["file", "abstract"])
def systemd(request: pytest.FixtureRequest, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[socket.socket]:
    """The socket; reading it does not wait."""
    name = str(tmp_path / "notify")
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as listener:
        listener.setblocking(False)
        listener.bind(name if request.param == "file" else f"\0{name}")
        monkeypatch.setenv("NOTIFY_SOCKET", name if request.param == "file" else f"@{name}")
        yield listener


def test_it_is_told_when_the_server_is_ready(monkeypatch: pytest.MonkeyPatch, systemd: socket.socket) -> None:
    said: list[bytes] = []

    def loaded() -> FakeEngine:
        with pytest.raises(BlockingIOError):
            systemd.recv(100)
        return FakeEngine()

    async def ask(*args: Any) -> None:
        said.append(systemd.recv(100))

    serve(monkeypatch, loaded, ask)
    assert said == [b"READY=1"]


def test_it_is_told_when_the_server_ends(systemd: socket.socket) -> None:
    async def test(url: str, engine: FakeEngine, stop: Any, task: Any, context: Any) -> None:
        with pytest.raises(BlockingIOError):
            systemd.recv(100)
        stop.ask()
        await task
        assert systemd.recv(100) == b"STOPPING=1"

    serving(test)


def test_it_is_told_when_the_server_ends_while_it_loads(
    monkeypatch: pytest.MonkeyPatch, systemd: socket.socket
) -> None:
    async def main() -> None:
        stop, console = StopSignals(), Console(is_json=True)

        async def start(*args: Any, **options: Any) -> Any:
            stop.ask()
            await asyncio.Event().wait()

        monkeypatch.setattr(AsyncEngine, "start", start)
        progress = StartProgress(console)
        assert await run._start_engine(EngineConfig(), ServerConfig(), stop, progress, console) is None
        assert systemd.recv(100) == b"STOPPING=1"

    asyncio.run(main())


def test_a_socket_that_nobody_reads_is_told_of_once(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setenv("NOTIFY_SOCKET", str(tmp_path / "absent"))
    tell_systemd("READY=1")
    [record] = caplog.records
    assert "READY=1" in record.message
