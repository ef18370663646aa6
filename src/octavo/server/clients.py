"""Whose a request is, for scheduling that is fair between clients.

Nothing that a client may write as it likes counts, or one could pass for many. So it is, in this order,
the API key, where there are several; the header that the operator says a proxy writes; the address.
"""

import ipaddress

from starlette.datastructures import Headers

from octavo.config import EngineConfig
from octavo.config.server_config import ServerConfig
from octavo.core.errors import ConfigError

MAX_NAME_CHARS = 256
_IPV6_NETWORK_BITS = 64
"""What one customer is given at least: its addresses are one client."""


def check_client_header(config: EngineConfig, server_config: ServerConfig, num_keys: int) -> None:
    """Raises `ConfigError` where the header would be ignored."""
    if server_config.client_header is None:
        return
    if config.scheduling_policy != "fair":
        raise ConfigError(
            f"client_header has no use with scheduling_policy={config.scheduling_policy}; give --scheduling-policy "
            "fair, or leave it out",
            param="client_header",
        )
    if num_keys > 1:
        raise ConfigError(
            f"client_header has no use with {num_keys} API keys, each of which is a client; leave it out, or give one "
            "key",
            param="client_header",
        )


class ClientNames:
    """Names the client of each request."""

    def __init__(self, num_keys: int, header: str | None) -> None:
        self._is_by_key = num_keys > 1
        self._header = header

    def name(self, key_number: int | None, headers: Headers, address: str) -> str:
        if self._is_by_key:
            return f"key {key_number}"
        if self._header is not None:
            written = headers.getlist(self._header)
            if written:  # of several entries, the last is the nearest proxy's; those before may be the client's own
                return f"header {written[-1].rpartition(',')[2].strip()[:MAX_NAME_CHARS]}"
        return f"address {_network(address)}"


def _network(address: str) -> str:
    try:
        parsed = ipaddress.ip_address(address)
    except ValueError:
        return address
    if parsed.version == 4 or parsed.is_loopback:
        return address
    return str(ipaddress.ip_network((parsed, _IPV6_NETWORK_BITS), strict=False))
