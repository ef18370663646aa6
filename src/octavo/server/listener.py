"""The sockets, and uvicorn on them."""

import asyncio
import contextlib
import errno
import logging
import resource
import socket
from collections.abc import Callable, Iterator
from typing import Any

import uvicorn
from starlette.types import ASGIApp, Receive, Scope, Send

from octavo.config.server_config import ServerConfig
from octavo.core.errors import ConfigError
from octavo.server.protocol import bounded_protocol

logger = logging.getLogger(__name__)

BACKLOG = 2048
OTHER_FILES = 128
"""Files that the server has open beside its connections, and some to spare."""
LAST_WORDS_S = 5.0
"""How long the errors that an end leaves behind may take to reach their clients."""
_FORCED_EXIT_S = 1.0
_NOT_OF_THIS_MACHINE = (errno.EADDRNOTAVAIL, errno.EAFNOSUPPORT)
"""Where IPv6 is off, localhost may still have an address of it."""
_POLL_S = 0.02
_PORT_TRIES = 10
_Addresses = list[tuple[Any, ...]]
"""As `socket.getaddrinfo` gives them."""


def raise_file_limit(max_connections: int) -> None:
    """A connection is a file descriptor: take as many as the system lets this process have."""
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    if soft != hard:
        resource.setrlimit(resource.RLIMIT_NOFILE, (hard, hard))
    if hard != resource.RLIM_INFINITY and hard < max_connections + OTHER_FILES:
        logger.warning(
            "this process may open %d files, which --max-connections %d and its own need more than; "
            "raise the limit (ulimit -n), or set a lower --max-connections",
            hard,
            max_connections,
        )


@contextlib.contextmanager
def bound_sockets(host: str, port: int) -> Iterator[list[socket.socket]]:
    """TCP sockets that have all addresses of `host`, on one port, but do not listen yet. Raises `ConfigError`."""
    try:
        found = socket.getaddrinfo(host, port, type=socket.SOCK_STREAM, flags=socket.AI_PASSIVE)
    except OSError as error:
        raise ConfigError(f"host={host!r} is not an address: {error}; use 127.0.0.1", param="host") from error
    try:
        listeners = _bind_to_one_port(list(dict.fromkeys(found)), port)
    except OSError as error:
        raise _bind_error(host, port, error) from error
    with contextlib.ExitStack() as stack:
        for listener in listeners:
            stack.enter_context(listener)
        yield listeners


def _bind_to_one_port(addresses: _Addresses, port: int) -> list[socket.socket]:
    """Where any free port will do (0), another is drawn should a further address have the first one's in use."""
    for _ in range(0 if port else _PORT_TRIES - 1):
        try:
            return _bind(addresses, port)
        except OSError as error:
            if error.errno != errno.EADDRINUSE:
                raise
    return _bind(addresses, port)


def _bind(addresses: _Addresses, port: int) -> list[socket.socket]:
    """A socket for each address that this machine has, all on one port. Raises `OSError`."""
    absent: OSError | None = None
    listeners: list[socket.socket] = []
    with contextlib.ExitStack() as stack:
        for family, kind, protocol, _, (host, _, *scope) in addresses:
            try:
                listener = stack.enter_context(_bound_socket(family, kind, protocol, (host, port, *scope)))
            except OSError as error:
                if error.errno not in _NOT_OF_THIS_MACHINE:
                    raise
                absent = error
                continue
            port = listener.getsockname()[1]
            listeners.append(listener)
        if not listeners:
            assert absent is not None, "a name that is found has an address"
            raise absent
        stack.pop_all()
    return listeners


def _bound_socket(family: int, kind: int, protocol: int, address: tuple[Any, ...]) -> socket.socket:
    listener = socket.socket(family, kind, protocol)
    try:
        listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        listener.bind(address)
        listener.setblocking(False)
    except OSError:
        listener.close()
        raise
    return listener


def _bind_error(host: str, port: int, error: OSError) -> ConfigError:
    if error.errno == errno.EADDRINUSE:
        return ConfigError(f"port {port} of {host} is in use; end what uses it, or choose another --port", param="port")
    if error.errno == errno.EACCES:
        return ConfigError(f"port {port} of {host} is not allowed to this user; choose one from 1024", param="port")
    return ConfigError(f"cannot listen on {host}, port {port}: {error.strerror}; choose another --host", param="host")


class HttpServer:
    """Answers on `listeners` with `app`, which may be exchanged for another while it runs."""

    def __init__(self, app: ASGIApp, config: ServerConfig, listeners: list[socket.socket]) -> None:
        self.app = app
        self._config = config
        self._listeners = listeners
        self.report_refusal: Callable[[], None] = lambda: None
        """Called for each connection that speaks no HTTP."""
        self._server = _make_server(self._answer, lambda: self.report_refusal(), config)
        self._serving: asyncio.Task[None] | None = None

    async def start(self) -> None:
        """Listen. Raises `ConfigError` where another program has begun to listen on the address meanwhile."""
        self._serving = asyncio.create_task(self._server.serve(sockets=self._listeners))
        while not (self._server.started or self._serving.done()):
            await asyncio.sleep(_POLL_S)
        error = self._serving.exception() if self._serving.done() else None
        if isinstance(error, OSError):
            raise _bind_error(self._config.host, self._config.port, error) from error
        if error is not None:
            raise error

    @property
    def url(self) -> str:
        host, port = self._listeners[0].getsockname()[:2]
        shown = "127.0.0.1" if host in ("0.0.0.0", "::") else host
        return f"http://[{shown}]:{port}" if ":" in shown else f"http://{shown}:{port}"

    async def stop(self, *, last_words_s: float = LAST_WORDS_S) -> None:
        """Take no more connections, and close those there are when they have been answered or the time is over."""
        assert self._serving is not None
        self._server.should_exit = True
        await asyncio.wait({self._serving}, timeout=last_words_s)
        self._server.force_exit = True
        await asyncio.wait({self._serving}, timeout=_FORCED_EXIT_S)
        self._serving.cancel()  # without effect on one that has ended; a client that reads nothing may hold it up
        await asyncio.wait({self._serving})

    async def _answer(self, scope: Scope, receive: Receive, send: Send) -> None:
        await self.app(scope, receive, send)


class _Server(uvicorn.Server):
    """Leaves signals to `StopSignals`."""

    @contextlib.contextmanager
    def capture_signals(self) -> Iterator[None]:
        yield


def _make_server(app: ASGIApp, report_refusal: Callable[[], None], config: ServerConfig) -> uvicorn.Server:
    protocol = bounded_protocol(
        keep_alive_s=config.keep_alive_s,
        header_timeout_s=config.header_timeout_s,
        body_timeout_s=config.body_timeout_s + LAST_WORDS_S,
        max_connections=config.max_connections,
        report_refusal=report_refusal,
    )
    return _Server(
        uvicorn.Config(
            app,
            http=protocol,
            ws="none",
            interface="asgi3",
            lifespan="off",
            log_config=None,
            access_log=False,
            server_header=False,
            proxy_headers=False,
            backlog=BACKLOG,
        )
    )
