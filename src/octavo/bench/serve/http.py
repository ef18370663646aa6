"""One HTTP/1.1 exchange on a connection of its own: the least work for a client that must not slow its server.

h11 over asyncio's streams takes less than half of httpx's CPU time a chunk and about as much as aiohttp, which Octavo would
need for nothing else: bench/http_clients.py.
"""

import asyncio
import functools
import ssl
from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from urllib.parse import urlsplit

import h11

from octavo.core.errors import ConfigError

_READ_BYTES = 65_536
_PORTS = {"http": 80, "https": 443}


@dataclass(frozen=True, slots=True, kw_only=True)
class Address:
    """Where a server is. `path` comes before every endpoint's."""

    host: str
    port: int
    path: str
    is_secure: bool

    @classmethod
    def parse(cls, url: str) -> "Address":
        """http://host:port, with or without the API's /v1 at its end. Raises `ConfigError`."""
        full = url if "://" in url else f"http://{url}"
        try:
            parts = urlsplit(full)
            port = parts.port
        except ValueError as error:
            raise ConfigError(f"{url!r} is not a URL: {error}; write http://127.0.0.1:8000", param="url") from error
        if parts.scheme not in _PORTS or not parts.hostname or parts.query or parts.fragment or parts.username:
            raise ConfigError(f"{url!r} is not the URL of a server; write http://127.0.0.1:8000", param="url")
        return cls(
            host=parts.hostname,
            port=_PORTS[parts.scheme] if port is None else port,
            path=parts.path.rstrip("/").removesuffix("/v1"),
            is_secure=parts.scheme == "https",
        )

    @property
    def authority(self) -> str:
        host = f"[{self.host}]" if ":" in self.host else self.host
        return f"{host}:{self.port}"

    @property
    def url(self) -> str:
        return f"{'https' if self.is_secure else 'http'}://{self.authority}{self.path}"


@dataclass(slots=True)
class Reply:
    """A status and headers, and a body that is read as it comes."""

    status: int
    headers: Mapping[str, str]
    _connection: h11.Connection = field(repr=False)
    _reader: asyncio.StreamReader = field(repr=False)

    async def parts(self) -> AsyncIterator[bytes]:
        """The body's bytes as they arrive. Raises `OSError` or `h11.RemoteProtocolError` where they break off."""
        while True:
            event = await _next_event(self._connection, self._reader)
            if isinstance(event, h11.Data):
                yield bytes(event.data)
            elif isinstance(event, h11.EndOfMessage):
                return

    async def body(self, max_bytes: int = 1 << 20) -> bytes:
        """The whole body, or its beginning."""
        body = bytearray()
        async for part in self.parts():
            body += part
            if len(body) >= max_bytes:
                break
        return bytes(body)


@asynccontextmanager
async def exchange(
    address: Address, method: str, path: str, headers: Mapping[str, str], body: bytes = b""
) -> AsyncIterator[Reply]:
    """Send a request; the reply when its headers are there. Raises `OSError` or `h11.RemoteProtocolError`."""
    tls = _tls() if address.is_secure else None
    reader, writer = await asyncio.open_connection(address.host, address.port, ssl=tls)
    try:
        connection = h11.Connection(h11.CLIENT)
        all_headers = {"host": address.authority, "connection": "close", "content-length": str(len(body)), **headers}
        request = h11.Request(method=method, target=address.path + path, headers=list(all_headers.items()))
        writer.write(b"".join(connection.send(event) or b"" for event in (request, h11.Data(body), h11.EndOfMessage())))
        await writer.drain()
        response = await _next_event(connection, reader)
        while isinstance(response, h11.InformationalResponse):
            response = await _next_event(connection, reader)
        assert isinstance(response, h11.Response), response
        fields = {name.decode("latin-1"): value.decode("latin-1") for name, value in response.headers}
        yield Reply(response.status_code, fields, connection, reader)
    finally:
        writer.close()


@functools.cache
def _tls() -> ssl.SSLContext:
    """One for all: it reads every certificate that this machine trusts."""
    return ssl.create_default_context()


async def _next_event(connection: h11.Connection, reader: asyncio.StreamReader) -> object:
    """h11 itself refuses a body that ends too early."""
    while (event := connection.next_event()) is h11.NEED_DATA:
        received = await reader.read(_READ_BYTES)
        if not received and connection.their_state is h11.SEND_RESPONSE:
            raise h11.RemoteProtocolError("the connection was closed before there was a reply")
        connection.receive_data(received)
    return event
