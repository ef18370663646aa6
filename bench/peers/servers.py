"""The servers that are compared: how each is started, as its own guide says, and how it is ended."""

import os
import signal
import socket
import subprocess
import sys
import time
import urllib.error
import urllib.request
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import IO

from peers.groups import PEERS, Engine

MAX_LEN, MAX_BATCH = 1024, 32
CACHE_GIB = 1
MODEL_NAME = "bench"
START_S = 600.0
END_S = 20.0


class ServerError(Exception):
    """The server did not start, or is not installed."""


class RunningServer:
    """A server from its start until `close`, with nobody else's port."""

    def __init__(self, engine: Engine, threads: int, log: IO[str]) -> None:
        """Raises `ServerError` when it does not come up."""
        port = _free_port()
        self.url = f"http://127.0.0.1:{port}"
        self.command = COMMANDS[engine.worker](engine, port, threads)
        environment = {**os.environ, "OMP_NUM_THREADS": str(threads), "HF_HUB_OFFLINE": "1", **_vllm_settings(threads)}
        try:
            self._process = subprocess.Popen(self.command, stdout=log, stderr=log, env=environment)
        except OSError as error:
            raise ServerError(f"{Path(self.command[0]).name} is not installed: {error.strerror}") from error
        self._wait_until_ready()

    @property
    def pid(self) -> int:
        return self._process.pid

    def _wait_until_ready(self) -> None:
        end = time.monotonic() + START_S
        while time.monotonic() < end:
            if self._process.poll() is not None:
                raise ServerError(f"the server ended with status {self._process.returncode}; its log says why")
            try:
                with urllib.request.urlopen(f"{self.url}/health", timeout=5) as reply:
                    if reply.status == 200:
                        return
            except (urllib.error.URLError, ConnectionError, TimeoutError):
                pass
            time.sleep(0.2)
        self.close()
        raise ServerError(f"the server was not ready within {START_S:g} s")

    def close(self) -> None:
        """SIGTERM, then SIGKILL."""
        self._process.send_signal(signal.SIGTERM)
        try:
            self._process.wait(END_S)
        except subprocess.TimeoutExpired:
            self._process.kill()
            self._process.wait()


def _octavo(engine: Engine, port: int, threads: int) -> list[str]:
    options = [text for name, value in engine.options.items() for text in (f"--{name.replace('_', '-')}", str(value))]
    return [
        *(sys.executable, "-m", "octavo.cli", "serve", str(engine.file), "--port", str(port)),
        *("--threads", str(threads), "--max-model-len", str(MAX_LEN), "--max-num-seqs", str(MAX_BATCH)),
        *("--kv-cache-memory", f"{CACHE_GIB}G", "--served-model-name", MODEL_NAME, *options),
    ]


def _llama_cpp(engine: Engine, port: int, threads: int) -> list[str]:
    """As `llama_cpp_worker.FASTEST`; without its store of old prompts, which random prompts have no use for."""
    return [
        *(str(PEERS / "llama_server" / "bin" / "llama-server"), "-m", str(engine.file), "--host", "127.0.0.1"),
        *("--port", str(port), "-t", str(threads), "-tb", str(threads), "-np", str(MAX_BATCH)),
        *("-c", str(MAX_BATCH * MAX_LEN), "-b", "2048", "-ub", "512", "-fa", "off", "--cache-ram", "0"),
        *("--no-webui", "--alias", MODEL_NAME),
    ]


def _vllm(engine: Engine, port: int, threads: int) -> list[str]:
    return [
        *(str(PEERS / "vllm" / "bin" / "python"), "-m", "vllm.entrypoints.openai.api_server"),
        *("--model", str(engine.file), "--host", "127.0.0.1", "--port", str(port), "--dtype", "bfloat16"),
        *("--max-model-len", str(MAX_LEN), "--max-num-seqs", str(MAX_BATCH), "--max-num-batched-tokens", "2048"),
        *("--served-model-name", MODEL_NAME),
    ]


COMMANDS: Mapping[str, Callable[[Engine, int, int], list[str]]] = {
    "octavo": _octavo,
    "llama_cpp": _llama_cpp,
    "vllm": _vllm,
}
"""By the name of the engine's worker."""


def _vllm_settings(threads: int) -> dict[str, str]:
    cores = sorted(os.sched_getaffinity(0))[:threads]
    return {"VLLM_CPU_OMP_THREADS_BIND": ",".join(map(str, cores)), "VLLM_CPU_KVCACHE_SPACE": str(CACHE_GIB)}


def _free_port() -> int:
    with socket.create_server(("127.0.0.1", 0)) as listener:
        port: int = listener.getsockname()[1]
        return port
