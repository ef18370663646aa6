"""The HTTP server's options as a person gives them; the engine's are in `engine_config`."""

import ipaddress
import re
from dataclasses import dataclass, fields

from octavo.config.engine_config import STALL_TIMEOUT_S
from octavo.config.options import check_option, option_field
from octavo.config.quantities import parse_quantity
from octavo.core.errors import ConfigError
from octavo.core.logs import LOG_FORMATS

_HOST_NAME = re.compile(r"[A-Za-z0-9._-]{1,253}")
_HEADER_NAME = re.compile(r"[A-Za-z0-9-]{1,64}")
_KEY = re.compile(r"[!-~]{1,1024}")
_MODEL_NAME = re.compile(r"[!-~]{1,256}")
MOST_SECONDS = 86_400.0
_TRACES_URL = re.compile(r"https?://[!-~]{1,2000}")


@dataclass(frozen=True, kw_only=True, slots=True)
class ServerConfig:
    """Server options, checked one by one. Raises `ConfigError`."""

    host: str = option_field(
        "127.0.0.1",
        "Address to listen on, or a name for all of its addresses; 0.0.0.0 or :: for every one of this machine's.",
    )
    port: int = option_field(8000, "TCP port; 0 takes a free one.")
    api_key: tuple[str, ...] = option_field(
        (),
        "Require «Authorization: Bearer KEY» on every route but /health and /health/ready; repeat the option for several.",
        is_secret=True,
    )
    api_key_file: str | None = option_field(
        None, "A file with such keys, one a line, no comments; others cannot read it from ps."
    )
    client_header: str | None = option_field(
        None,
        "For --scheduling-policy fair: a header in which a proxy says whose a request is; default: the API key where "
        "there are several, else the address.",
    )
    request_timeout: float | None = option_field(
        None, "Seconds a request may take, its wait included; also the most that its field timeout may ask for."
    )
    served_model_name: tuple[str, ...] = option_field(
        (),
        "Names that requests may give the model, the first in /v1/models; repeat the option for several; default: the "
        "model as given.",
    )
    log_level: str = option_field(
        "info", "Least severe messages to log.", choices=("debug", "info", "warning", "error")
    )
    tool_call_parser: str = option_field(
        "auto",
        "How the model writes tool calls; auto asks its chat template. json: told and read as plain JSON.",
        choices=("auto", "hermes", "llama3", "mistral", "mistral_args", "json"),
    )
    reasoning_parser: str = option_field(
        "auto",
        "Split what stands between <think> and </think> from the answer; auto: where the model knows these.",
        choices=("auto", "none", "think"),
    )
    log_format: str = option_field("text", "Lines for people, or one JSON object a line.", choices=LOG_FORMATS)
    otlp_traces_endpoint: str | None = option_field(None, "Send a trace of each request to this URL, OTLP over HTTP.")
    allowed_hosts: tuple[str, ...] = option_field(
        (),
        "Names that requests may call this server, beside localhost and addresses; repeat the option for several; "
        "default: any, but on loopback.",
    )
    max_connections: int = option_field(4096, "Connections beyond these are answered with 503.")
    max_body_bytes: int | str = option_field("16M", "Largest request body.")
    header_timeout_s: float = option_field(
        10.0, "A connection that has begun a request must send its headers in this time."
    )
    body_timeout_s: float = option_field(30.0, "A request's body must arrive in this time.")
    keep_alive_s: float = option_field(30.0, "A connection is closed after this time without a request.")
    drain_timeout_s: float = option_field(30.0, "How long accepted requests may go on after SIGINT or SIGTERM.")

    stall_timeout_s: float = option_field(
        STALL_TIMEOUT_S, "A step of the engine that takes longer makes /health 503 until it ends."
    )

    def __post_init__(self) -> None:
        for option in fields(self):
            check_option(option, getattr(self, option.name))
        self._check_names()
        self._check_numbers()

    @property
    def body_limit_bytes(self) -> int:
        return parse_quantity("max_body_bytes", self.max_body_bytes)

    @property
    def has_keys(self) -> bool:
        return bool(self.api_key) or self.api_key_file is not None

    @property
    def is_loopback(self) -> bool:
        """Whether only programs on this machine can connect."""
        try:
            return ipaddress.ip_address(self.host).is_loopback
        except ValueError:
            return self.host == "localhost"

    @property
    def is_log_json(self) -> bool:
        return self.log_format == "json"

    def _check_names(self) -> None:
        if not _is_host(self.host):
            raise ConfigError(
                f"host={self.host!r} is neither an IP address nor a host name; write 127.0.0.1 or 0.0.0.0", param="host"
            )
        check_keys("api_key", self.api_key)
        if self.client_header is not None and not _HEADER_NAME.fullmatch(self.client_header):
            raise ConfigError(
                f"client_header={self.client_header!r} is not a header's name; write X-Client-Id", param="client_header"
            )
        for host in self.allowed_hosts:
            if not _HOST_NAME.fullmatch(host):
                raise ConfigError(
                    f"allowed_hosts has {host!r}; names are like example.org, without port", param="allowed_hosts"
                )
        if self.otlp_traces_endpoint is not None and not _TRACES_URL.fullmatch(self.otlp_traces_endpoint):
            raise ConfigError(
                f"otlp_traces_endpoint={self.otlp_traces_endpoint!r} is not an http URL; "
                "write http://localhost:4318/v1/traces",
                param="otlp_traces_endpoint",
            )
        for name in self.served_model_name:
            if not isinstance(name, str) or not _MODEL_NAME.fullmatch(name):
                raise ConfigError(
                    f"served_model_name has {name!r}; names are 1 … 256 visible ASCII characters",
                    param="served_model_name",
                )
        if len(set(self.served_model_name)) < len(self.served_model_name):
            raise ConfigError("served_model_name has a name twice; leave one out", param="served_model_name")

    def _check_numbers(self) -> None:
        _within("port", self.port, 0, 65_535)
        _within("max_connections", self.max_connections, 1, 1 << 20)
        if not 1024 <= self.body_limit_bytes <= 1 << 30:
            raise ConfigError(f"max_body_bytes={self.max_body_bytes} is not in 1K … 1G", param="max_body_bytes")
        for name in ("header_timeout_s", "body_timeout_s", "keep_alive_s", "stall_timeout_s"):
            _within(name, getattr(self, name), 0.1, MOST_SECONDS)
        if self.request_timeout is not None:
            _within("request_timeout", self.request_timeout, 0.001, MOST_SECONDS)
        _within("drain_timeout_s", self.drain_timeout_s, 0.0, MOST_SECONDS)


def check_keys(param: str, keys: tuple[str, ...]) -> None:
    """Raises `ConfigError`, which never quotes a key."""
    for number, key in enumerate(keys, start=1):
        if not is_key(key):
            raise ConfigError(
                f"{param}: key {number} must be 1 … 1024 visible ASCII characters without spaces", param=param
            )
    if len(set(keys)) < len(keys):
        raise ConfigError(f"{param} has a key twice; leave one out", param=param)


def is_key(key: object) -> bool:
    return isinstance(key, str) and _KEY.fullmatch(key) is not None


def _is_host(host: str) -> bool:
    try:
        ipaddress.ip_address(host)
    except ValueError:
        return _HOST_NAME.fullmatch(host) is not None
    return True


def _within(name: str, value: float, low: float, high: float) -> None:
    if not low <= value <= high:
        raise ConfigError(f"{name}={value} is not in {low:.12g} … {high:.12g}", param=name)
