"""What is said of the start: phases with times, to whoever started the server and to whoever asks."""

import asyncio
import json
import logging

import httpx
import pytest
from server.conftest import serving

from octavo.config.server_config import ServerConfig
from octavo.core.logs import JsonFormatter
from octavo.server import startup
from octavo.server.app import build_app
from octavo.server.context import ServerContext
from octavo.server.listener import HttpServer, bound_sockets
from octavo.server.run import _announce, _loading_app
from octavo.server.startup import Console, StartProgress


def report_all(progress: StartProgress) -> None:
    for share in (0.0, 1.0):
        progress.report("open model", share)
    for share in (0.5, 1.0, 1.0):
        progress.report("load weights", share)


def test_phases_are_printed_once_with_their_times(capsys: pytest.CaptureFixture[str]) -> None:
    report_all(StartProgress(Console()))
    lines = capsys.readouterr().err.splitlines()
    assert [line.split()[:2] for line in lines] == [["open", "model"], ["load", "weights"]]
    assert all(line.endswith(" s") for line in lines)


def test_a_terminal_sees_progress(capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("sys.stderr.isatty", lambda: True)
    report_all(StartProgress(Console()))
    shown = capsys.readouterr().err.replace("\r", "\n").splitlines()
    assert "  load weights       50%" in shown


def test_what_follows_the_progress_on_a_terminal_covers_it(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    """An entry of a log, of this process or the engine's, begins where the cursor is: at the line's begin."""
    monkeypatch.setattr("sys.stderr.isatty", lambda: True)
    console = Console()
    console.show_progress("make KV cache", 0.5)
    progress = capsys.readouterr().err
    assert progress.endswith("50%\r")
    console.say("Ended.")
    assert capsys.readouterr().err == "Ended.".ljust(len(progress) - 1) + "\n"


def test_a_long_phase_says_now_and_then_how_far_it_is(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(startup, "_PLAIN_PROGRESS_S", 0.0)
    StartProgress(Console()).report("load weights", 0.5)
    assert capsys.readouterr().err == "  load weights       50%\n"


def test_phases_are_log_entries_where_logs_are_json(
    caplog: pytest.LogCaptureFixture, capsys: pytest.CaptureFixture[str]
) -> None:
    caplog.set_level(logging.INFO)
    report_all(StartProgress(Console(is_json=True)))
    entries = [json.loads(JsonFormatter().format(record)) for record in caplog.records]
    assert [entry["phase"] for entry in entries] == ["open model", "load weights"]
    assert all(entry["seconds"] >= 0.0 for entry in entries)
    assert capsys.readouterr().err == ""


def test_while_loading_every_route_is_503_and_says_how_far_it_is() -> None:
    async def main() -> None:
        config = ServerConfig(api_key=("secret",))
        progress = StartProgress(Console())
        progress.report("load weights", 0.25)
        with bound_sockets("127.0.0.1", 0) as listeners:
            http = HttpServer(_loading_app(config, progress), config, listeners)
            await http.start()
            async with httpx.AsyncClient(base_url=http.url) as client:
                for path in ("/health", "/health/ready", "/v1/models"):
                    reply = await client.get(path, headers={"authorization": "Bearer secret"})
                    assert reply.status_code == 503 and reply.headers["retry-after"]
                    assert reply.json()["error"]["code"] == "loading"
                    assert reply.json()["start"]["phase"] == "load weights"
                    assert reply.json()["start"]["progress"] == 0.25
                reply = await client.post("/v1/messages", headers={"x-api-key": "secret"})
                assert reply.json()["error"]["type"] == "overloaded_error" and reply.json()["start"]["progress"] == 0.25
                assert (await client.get("/health")).status_code == 503
                assert (await client.get("/v1/models")).status_code == 401
                await http.stop()

    asyncio.run(main())


def test_the_ready_line_has_the_url_and_a_command(
    capsys: pytest.CaptureFixture[str], caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.INFO, "octavo.server.startup")

    async def test(url: str, engine: object, stop: object, task: object, context: ServerContext) -> None:
        with bound_sockets("127.0.0.1", 0) as listeners:
            http = HttpServer(build_app(context), context.config, listeners)
            _announce(context, http, Console(), 1.5)
            said = capsys.readouterr().err
            assert f"serves fake-model at {http.url}/v1 (ready in 1.5 s). Try:\n  curl {http.url}/v1/" in said
            _announce(context, http, Console(is_json=True), 1.5)
            [entry] = caplog.records
            assert entry.message.endswith(f"serves fake-model at {http.url}/v1 (ready in 1.5 s).")

    serving(test, api_key=("secret-key",))
