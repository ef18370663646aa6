"""The server's life from its options to its end, around an engine that needs no loading."""

import logging
from pathlib import Path
from typing import Any

import httpx
import pytest
from server.fake_engine import FakeEngine
from server.run_in_process import nothing_of_this_process_is_changed, run, serve

from octavo.config import EngineConfig
from octavo.core.errors import ConfigError, EngineDeadError, ModelNotFoundError, OctavoError

__all__ = ["nothing_of_this_process_is_changed"]


def test_keys_are_those_that_were_read_when_the_server_started(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    file = tmp_path / "keys"
    file.write_text("key-b\n")
    statuses: list[int] = []

    def loaded() -> FakeEngine:
        file.unlink()
        return FakeEngine()

    async def ask(context: Any, http: Any, *args: Any) -> None:
        async with httpx.AsyncClient(transport=httpx.ASGITransport(http.app), base_url="http://localhost") as client:
            for key in ("key-a", "key-b", "key-c"):
                reply = await client.get("/v1/models", headers={"Authorization": f"Bearer {key}"})
                statuses.append(reply.status_code)

    serve(monkeypatch, loaded, ask, api_key=("key-a",), api_key_file=str(file))
    assert statuses == [200, 200, 401]


@pytest.mark.parametrize("fails_in", ["make_context", "build_app"])
def test_an_engine_that_cannot_be_served_is_ended(monkeypatch: pytest.MonkeyPatch, fails_in: str) -> None:
    engines: list[FakeEngine] = []

    def loaded() -> FakeEngine:
        engines.append(FakeEngine())
        return engines[0]

    def broken(*args: Any) -> None:
        raise ConfigError("cannot be served")

    monkeypatch.setattr(run, fails_in, broken)
    with pytest.raises(ConfigError, match="cannot be served"):
        serve(monkeypatch, loaded, None)
    assert not engines[0].is_healthy


def test_a_server_without_a_tokenizer_is_refused_before_the_model_is_loaded(monkeypatch: pytest.MonkeyPatch) -> None:
    with pytest.raises(ConfigError, match="leave the option out") as raised:
        serve(monkeypatch, None, None, EngineConfig(skip_tokenizer_init=True))
    assert raised.value.param == "skip_tokenizer_init"


def test_one_that_is_stopped_while_it_loads_says_that_it_has_ended(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    serve(monkeypatch, lambda: None, None)
    assert capsys.readouterr().err == "Octavo has ended.\n"


@pytest.mark.parametrize(("error", "code"), [(ModelNotFoundError, 2), (EngineDeadError, 1)])
def test_where_logs_are_json_a_failure_is_an_entry_and_the_exit_code(
    monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture, error: type[OctavoError], code: int
) -> None:
    def fails() -> None:
        raise error("why")

    with pytest.raises(SystemExit) as exit:
        serve(monkeypatch, fails, None, log_format="json")
    assert exit.value.code == code
    assert [(record.levelname, record.message) for record in caplog.records] == [("ERROR", "why")]


def test_uvicorn_does_not_warn_of_every_connection_that_speaks_no_http(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(logging.getLogger("uvicorn"), "level", logging.NOTSET)
    serve(monkeypatch, lambda: None, None)
    assert not logging.getLogger("uvicorn.error").isEnabledFor(logging.WARNING)


def test_what_lives_as_long_as_the_server_is_left_alone_by_the_garbage_collector(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    happened: list[str] = []
    monkeypatch.setattr(run.gc, "freeze", lambda: happened.append("frozen"))

    async def ask(*args: Any) -> None:
        happened.append("served")

    serve(monkeypatch, FakeEngine, ask)
    assert happened == ["frozen", "served"]
