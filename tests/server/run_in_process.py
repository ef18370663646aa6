"""`octavo serve` run in this process, of which nothing is changed."""

from typing import Any

import pytest

from octavo.config import EngineConfig
from octavo.config.server_config import ServerConfig
from octavo.server import run


@pytest.fixture(autouse=True)
def nothing_of_this_process_is_changed(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("set_up_logging", "raise_file_limit"):
        monkeypatch.setattr(run, name, lambda *args: None)
    monkeypatch.setattr(run.gc, "freeze", lambda: None)


def serve(
    monkeypatch: pytest.MonkeyPatch,
    loaded: Any,
    serve_until_stopped: Any,
    config: EngineConfig = EngineConfig(),  # noqa: B008  (frozen)
    **options: Any,
) -> None:
    async def start_engine(*args: Any) -> Any:
        return loaded()

    monkeypatch.setattr(run, "_start_engine", start_engine)
    monkeypatch.setattr(run, "serve_until_stopped", serve_until_stopped)
    run.serve(config, ServerConfig(port=0, **options))
