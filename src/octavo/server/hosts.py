"""Which names a server on loopback answers to, so that no web page can reach it under a name of its own.

DNS rebinding: a page of evil.example has that name resolve to 127.0.0.1 once it is loaded; to the browser
the local server is then of the page's own origin, and the page may read what it answers. The Host header
still says evil.example. An address in it is safe: nothing was resolved.
"""

import ipaddress
import re
import socket
from collections.abc import Iterable

from starlette.datastructures import Headers

from octavo.config.server_config import ServerConfig
from octavo.server.errors import ApiError

_HOST = re.compile(r"(?:\[(?P<address>[0-9A-Fa-f:.]+)\]|(?P<name>[\w.-]+))(?::\d{0,5})?", re.ASCII)


class HostCheck:
    """Lets in requests whose Host header is an address, localhost, this machine's name or one of `names`."""

    def __init__(self, names: Iterable[str]) -> None:
        self._names = frozenset(name.lower() for name in (*names, "localhost", socket.gethostname()))

    def require(self, headers: Headers) -> None:
        """Raises `ApiError` (421). Without a Host header, as in HTTP/1.0, no browser is at work."""
        given = headers.get("host")
        if given is None:
            return
        name = _name(given)
        if not (name in self._names or name.endswith(".localhost") or _is_address(name)):
            raise ApiError(
                421,
                f"Host is {given[:100]!r}, which this server does not answer to; "
                "call it localhost, or start it with that name as --allowed-hosts",
                code="host_not_allowed",
                param="Host",
            )


def host_check(config: ServerConfig) -> HostCheck | None:
    """None where every name is right: a server for other machines cannot know its names, and a key keeps pages out."""
    if config.allowed_hosts or (config.is_loopback and not config.has_keys):
        return HostCheck(config.allowed_hosts)
    return None


def _name(host: str) -> str:
    """Of a Host header, which may have a port; "" for what is none."""
    found = _HOST.fullmatch(host)
    return "" if found is None else (found["address"] or found["name"]).lower()


def _is_address(name: str) -> bool:
    try:
        ipaddress.ip_address(name)
    except ValueError:
        return False
    return True
