"""Servers for clients that are not ours: one whose answers are scripted, and one with a small model."""

from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from server import tool_templates
from server.conftest import SocketServer
from server.fake_engine import REPLY
from server.served import MODEL, Served
from server.tool_calls import make_engine

from octavo.core.sampling_params import SamplingParams


@pytest.fixture(autouse=True)
def no_tracking(monkeypatch: pytest.MonkeyPatch) -> None:
    """Of the clients' own makers."""
    for name, value in (("LANGSMITH_TRACING", "false"), ("LANGCHAIN_TRACING_V2", "false"), ("DO_NOT_TRACK", "1")):
        monkeypatch.setenv(name, value)


class Script:
    """What the model of a server says, and what it was asked."""

    def __init__(self, server: SocketServer) -> None:
        self._engine = server.engine
        self.url = f"{server.url}/v1"
        self.num_calls_before = len(self._engine.calls)

    def say(self, *answers: str) -> None:
        """One answer a request, in this order."""
        rest = list(answers)
        self._engine.reply = lambda prompt, sample: rest.pop(0)

    @property
    def prompts(self) -> list[str]:
        """As the chat template wrote them."""
        return [bytes(call[0]).decode() for call in self._engine.calls[self.num_calls_before :]]

    @property
    def params(self) -> SamplingParams:
        """Of the last request."""
        asked: SamplingParams = self._engine.calls[-1][1]
        return asked


@pytest.fixture(scope="session")
def scripted_server() -> Iterator[SocketServer]:
    with SocketServer(lambda: make_engine(tool_templates.QWEN3)) as running:
        yield running


@pytest.fixture
def script(scripted_server: SocketServer) -> Iterator[Script]:
    yield Script(scripted_server)
    scripted_server.engine.reply = lambda prompt, sample: REPLY


@pytest.fixture(scope="session")
def smollm2(real_model: Callable[[str], Path]) -> Iterator[str]:
    """The base URL of a server with the model."""
    real_model(MODEL)
    running = Served()
    yield f"{running.url}/v1"
    assert running.end() == 0, "".join(running.lines)
