"""The server's life: take the port, load the model, answer, drain, end."""

import asyncio
import contextlib
import errno
import logging
import resource
import signal
import socket
import sys
import time
from collections.abc import Iterator
from typing import TYPE_CHECKING

import uvicorn

import octavo
from octavo.config import EngineConfig
from octavo.config.server_config import ServerConfig
from octavo.core.errors import ConfigError
from octavo.server.app import build_app
from octavo.server.auth import load_keys
from octavo.server.clients import check_client_header
from octavo.server.context import ServerContext, make_context
from octavo.server.protocol import bounded_protocol

if TYPE_CHECKING:
    from octavo.engine.async_engine import AsyncEngine

logger = logging.getLogger(__name__)

MAX_HEADER_BYTES = 1 << 16
BACKLOG = 2048
_POLL_S = 0.02
_FORCED_EXIT_S = 1.0
_LAST_WORDS_S = 5.0
"""After the engine has ended: how long the errors it leaves behind may take to reach their clients."""


def serve_forever(config: EngineConfig, server_config: ServerConfig) -> None:
    """See `octavo.server.run`."""
    form = "%(asctime)s %(levelname)s %(name)s: %(message)s"
    logging.basicConfig(level=server_config.log_level.upper(), format=form, force=True)
    _raise_file_limit()
    logging.getLogger("uvicorn").setLevel(logging.WARNING)
    check_client_header(config, server_config, len(load_keys(server_config)))
    with bound_socket(server_config.host, server_config.port) as listener:
        asyncio.run(_serve(config, server_config, listener))


def _raise_file_limit() -> None:
    """A connection is a file descriptor: take as many as the system lets this process have."""
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    if soft != hard:
        resource.setrlimit(resource.RLIMIT_NOFILE, (hard, hard))


@contextlib.contextmanager
def bound_socket(host: str, port: int) -> Iterator[socket.socket]:
    """A TCP socket that has the address but does not listen yet. Raises `ConfigError`."""
    try:
        family, kind, protocol, _, address = socket.getaddrinfo(
            host, port, type=socket.SOCK_STREAM, flags=socket.AI_PASSIVE
        )[0]
    except OSError as error:
        raise ConfigError(f"host={host!r} is not an address: {error}; use 127.0.0.1", param="host") from error
    with socket.socket(family, kind, protocol) as listener:
        listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            listener.bind(address)
        except OSError as error:
            raise _bind_error(host, port, error) from error
        listener.setblocking(False)
        yield listener


def _bind_error(host: str, port: int, error: OSError) -> ConfigError:
    if error.errno == errno.EADDRINUSE:
        return ConfigError(f"port {port} of {host} is in use; end what uses it, or choose another --port", param="port")
    if error.errno == errno.EACCES:
        return ConfigError(f"port {port} of {host} is not allowed to this user; choose one from 1024", param="port")
    return ConfigError(f"cannot listen on {host}, port {port}: {error.strerror}; choose another --host", param="host")


class StopSignals:
    """SIGINT and SIGTERM: the first asks the server to end, the second to end at once."""

    def __init__(self) -> None:
        self.is_asked = asyncio.Event()
        self.is_urgent = False

    def install(self) -> None:
        loop = asyncio.get_running_loop()
        for number in (signal.SIGINT, signal.SIGTERM):
            loop.add_signal_handler(number, self.ask)

    def ask(self) -> None:
        self.is_urgent = self.is_asked.is_set()
        self.is_asked.set()


async def _serve(config: EngineConfig, server_config: ServerConfig, listener: socket.socket) -> None:
    stop = StopSignals()
    stop.install()
    begin_s = time.perf_counter()
    engine = await _start_engine(config, server_config, stop)
    if engine is None:
        return
    try:
        context = make_context(engine, server_config)
        await serve_until_stopped(context, listener, stop, begin_s)
    finally:
        await engine.shutdown()
    _say("Octavo has ended.")


async def _start_engine(config: EngineConfig, server_config: ServerConfig, stop: StopSignals) -> "AsyncEngine | None":
    """None where the user gave up waiting."""
    from octavo.engine.async_engine import AsyncEngine

    _say(f"Octavo {octavo.__version__} loads {config.model}")
    starting = asyncio.create_task(
        AsyncEngine.start(config, PhasePrinter().report, log_level=server_config.log_level.upper())
    )
    stopping = asyncio.create_task(stop.is_asked.wait())
    await asyncio.wait({starting, stopping}, return_when=asyncio.FIRST_COMPLETED)
    stopping.cancel()
    if starting.done():
        return starting.result()
    starting.cancel()
    await asyncio.gather(starting, return_exceptions=True)
    return None


class PhasePrinter:
    """Prints each phase of the start when it is done, with its time."""

    def __init__(self) -> None:
        self._begin_s: dict[str, float] = {}

    def report(self, name: str, share: float) -> None:
        begin_s = self._begin_s.setdefault(name, time.perf_counter())
        if share >= 1.0 and begin_s >= 0.0:
            _say(f"  {name:<16} {time.perf_counter() - begin_s:6.2f} s")
            self._begin_s[name] = -1.0


async def serve_until_stopped(
    context: ServerContext, listener: socket.socket, stop: StopSignals, begin_s: float
) -> None:
    """Answer requests until `stop`; then let those inside finish, for as long as the options allow.

    Raises `ConfigError` where another program has begun to listen on the address meanwhile.
    """
    server = _make_server(context)
    serving = asyncio.create_task(server.serve(sockets=[listener]))
    stopping = asyncio.create_task(stop.is_asked.wait())
    while not (server.started or serving.done()):
        await asyncio.sleep(_POLL_S)
    if server.started:
        _announce(context, listener, time.perf_counter() - begin_s)
    await asyncio.wait({serving, stopping}, return_when=asyncio.FIRST_COMPLETED)
    stopping.cancel()
    if not serving.done():
        await _drain(context, server, serving, stop)
    await asyncio.wait({serving})
    if serving.cancelled():
        return
    error = serving.exception()
    if isinstance(error, OSError):
        raise _bind_error(context.config.host, context.config.port, error) from error
    if error is not None:
        raise error


async def _drain(
    context: ServerContext, server: uvicorn.Server, serving: "asyncio.Task[None]", stop: StopSignals
) -> None:
    num_inside = context.gate.num_inside
    if num_inside:
        _say(f"Ending: {num_inside} requests may finish for {context.config.drain_timeout_s:g} s; Ctrl-C ends at once.")
    context.gate.is_closed = True
    server.should_exit = True
    deadline = time.monotonic() + context.config.drain_timeout_s
    while context.gate.num_inside and not stop.is_urgent and time.monotonic() < deadline:
        await asyncio.sleep(_POLL_S)
    if context.gate.num_inside:
        logger.warning("%d requests are cut off", context.gate.num_inside)
    await context.engine.shutdown()  # what is still open ends with an error
    await asyncio.wait({serving}, timeout=0.5 if stop.is_urgent else _LAST_WORDS_S)
    server.force_exit = True
    await asyncio.wait({serving}, timeout=_FORCED_EXIT_S)
    serving.cancel()  # without effect on one that has ended; a client that reads nothing may hold it up


class _Server(uvicorn.Server):
    """Leaves signals to `StopSignals`."""

    @contextlib.contextmanager
    def capture_signals(self) -> Iterator[None]:
        yield


def _make_server(context: ServerContext) -> uvicorn.Server:
    options = context.config
    protocol = bounded_protocol(
        header_timeout_s=options.header_timeout_s, body_timeout_s=options.body_timeout_s + _LAST_WORDS_S
    )
    return _Server(
        uvicorn.Config(
            build_app(context),
            http=protocol,
            ws="none",
            lifespan="off",
            log_config=None,
            access_log=False,
            server_header=False,
            proxy_headers=False,
            backlog=BACKLOG,
            timeout_keep_alive=max(1, round(options.keep_alive_s)),
            h11_max_incomplete_event_size=MAX_HEADER_BYTES,
        )
    )


def _announce(context: ServerContext, listener: socket.socket, seconds: float) -> None:
    options = context.config
    host, port = listener.getsockname()[:2]
    shown = "127.0.0.1" if host in ("0.0.0.0", "::") else host
    url = f"http://[{shown}]:{port}" if ":" in shown else f"http://{shown}:{port}"
    name = context.model_names[0]
    key = "" if not options.has_keys else " -H 'Authorization: Bearer KEY'"
    body = f'{{"model": "{name}", "messages": [{{"role": "user", "content": "Hello!"}}]}}'
    if not options.has_keys and not options.is_loopback:
        logger.warning("host=%s without api_key: whoever reaches this machine can use the model", options.host)
    _say(f"Octavo {octavo.__version__} serves {name} at {url}/v1 (ready in {seconds:.1f} s). Try:")
    _say(f"  curl {url}/v1/chat/completions -H 'Content-Type: application/json'{key} -d '{body}'")


def _say(line: str) -> None:
    print(line, file=sys.stderr, flush=True)
