"""`AsyncEngine.start`: phases, failures, a start that is cut off."""

import asyncio
import gc
import threading
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from engine.running_engine import LONG, collect, engine, run

from octavo import AsyncEngine
from octavo.config import EngineConfig
from octavo.core.errors import (
    ConfigError,
    ModelFileError,
    ModelNotFoundError,
)
from octavo.engine import async_engine
from octavo.engine.liveness import EngineState


def test_the_start_is_told_phase_by_phase(tiny: Callable[[str], Path]) -> None:
    async def scenario() -> None:
        config = EngineConfig(model=str(tiny("llama")), skip_tokenizer_init=True, kv_cache_memory="4M")
        done: list[str] = []
        started = await AsyncEngine.start(config, lambda phase, share: done.append(phase) if share >= 1.0 else None)
        await started.shutdown()
        assert list(dict.fromkeys(done)) == [
            "start process",
            "find model",
            "open model",
            "load weights",
            "make KV cache",
        ]

    run(scenario)


def test_a_start_ends_soon_that_waits_for_a_download(monkeypatch: pytest.MonkeyPatch) -> None:
    """It is a process of its own that waits; no thread of this one is left to be joined."""

    async def scenario() -> None:
        hub_was_asked = asyncio.Event()
        hub = await asyncio.start_server(lambda reader, writer: hub_was_asked.set(), "127.0.0.1", 0)
        monkeypatch.setenv("HF_ENDPOINT", f"http://127.0.0.1:{hub.sockets[0].getsockname()[1]}")
        monkeypatch.setenv("HF_HUB_OFFLINE", "0")
        before = set(threading.enumerate())
        starting = asyncio.create_task(AsyncEngine.start(EngineConfig(model="some/model")))
        await hub_was_asked.wait()
        starting.cancel()
        with pytest.raises(asyncio.CancelledError):
            await asyncio.wait_for(starting, 5)
        assert not [thread.name for thread in set(threading.enumerate()) - before if thread.name.startswith("asyncio")]
        hub.close()

    run(scenario)


@pytest.mark.parametrize(
    ("options", "error"),
    [({"model": "no-such-model"}, ModelNotFoundError), ({"max_model_len": 99_999}, ConfigError)],
)
def test_a_start_that_fails_raises_its_own_error(
    tiny: Callable[[str], Path], options: dict[str, Any], error: type[Exception]
) -> None:
    async def scenario() -> None:
        config = EngineConfig(**{"model": str(tiny("llama")), "skip_tokenizer_init": True, **options})
        with pytest.raises(error):
            await AsyncEngine.start(config)

    run(scenario)


def test_a_start_that_fails_in_both_processes_says_so_once(tmp_path: Path) -> None:
    async def scenario() -> None:
        unseen: list[Any] = []
        asyncio.get_running_loop().set_exception_handler(lambda loop, context: unseen.append(context))
        with pytest.raises(ModelFileError, match=r"no config\.json"):
            await AsyncEngine.start(EngineConfig(model=str(tmp_path)))
        gc.collect()
        assert not unseen

    run(scenario)


def test_a_front_end_that_fails_does_not_wait_for_the_engine(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    async def never_ready(process: Any, inbox: Any, on_phase: Any, on_found: Callable[[Path], None]) -> None:
        on_found(tmp_path)
        await asyncio.Event().wait()

    async def scenario() -> None:
        with pytest.raises(ModelFileError, match=r"no config\.json"):
            await AsyncEngine.start(EngineConfig(model=str(tmp_path)))

    monkeypatch.setattr(async_engine, "until_ready", never_ready)
    run(scenario)


@pytest.mark.parametrize("text", [None, b"\xff"])
def test_a_template_that_cannot_be_read_is_refused_before_anything_is_started(
    text: bytes | None, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    file = tmp_path / "template"
    if text is not None:
        file.write_bytes(text)
    monkeypatch.setattr(async_engine, "spawn_engine", None)

    async def scenario() -> None:
        with pytest.raises(ConfigError, match="name a Jinja file") as raised:
            await AsyncEngine.start(EngineConfig(model="no-such-model", chat_template=str(file)))
        assert raised.value.param == "chat_template"

    run(scenario)


def test_cancelling_the_start_ends_the_process_soon(tiny: Callable[[str], Path]) -> None:
    async def scenario() -> None:
        config = EngineConfig(model=str(tiny("llama")), skip_tokenizer_init=True, kv_cache_memory="4M")
        has_process = asyncio.Event()
        starting = asyncio.create_task(AsyncEngine.start(config, lambda phase, share: has_process.set()))
        await has_process.wait()
        starting.cancel()
        with pytest.raises(asyncio.CancelledError):
            await asyncio.wait_for(starting, 5)

    run(scenario)


def test_nothing_is_imported_from_the_working_directory(
    tiny: Callable[[str], Path], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "msgspec.py").write_text("raise SystemExit('run from the working directory')")
    monkeypatch.chdir(tmp_path)

    async def scenario() -> None:
        async with engine(tiny("llama").resolve()) as started:
            assert (await collect(started.generate([3], LONG, request_id="a")))[-1].is_finished

    run(scenario)


def test_a_long_temporary_directory(
    tiny: Callable[[str], Path], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    import tempfile

    long = tmp_path / ("d" * 120)
    long.mkdir()
    monkeypatch.setattr(tempfile, "tempdir", str(long))

    async def scenario() -> None:
        async with engine(tiny("llama")) as started:
            assert started.state is EngineState.RUNNING

    run(scenario)
