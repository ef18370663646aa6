"""The server's options, checked."""

from typing import Any

import pytest

from octavo.config.server_config import ServerConfig
from octavo.core.errors import ConfigError


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("host", ""), ("host", "a b"), ("host", 1), ("host", "http://x"),
        ("port", -1), ("port", 65_536), ("port", "80"), ("port", True), ("port", 1.0),
        ("api_key", ("",)), ("api_key", ("a b",)), ("api_key", ("schlüssel",)), ("api_key", (1,)), ("api_key", "key"),
        ("api_key", ("a", "a")), ("client_header", ""), ("client_header", "a b"), ("request_timeout", 0),
        ("request_timeout", -1.0), ("request_timeout", float("nan")), ("request_timeout", 1e9),
        ("served_model_name", "x"), ("served_model_name", ("",)), ("served_model_name", ("a", "a")),
        ("served_model_name", (1,)), ("log_level", "loud"), ("max_body_bytes", "lots"), ("max_body_bytes", 10),
        ("header_timeout_s", 0), ("body_timeout_s", -1.0), ("keep_alive_s", float("nan")), ("drain_timeout_s", -1),
        ("drain_timeout_s", float("inf")), ("stall_timeout_s", 0.0), ("log_format", "xml"), ("max_connections", 0),
        ("allowed_hosts", ("",)), ("allowed_hosts", ("http://x",)), ("allowed_hosts", ("x:80",)),
        ("otlp_traces_endpoint", "localhost:4318"), ("otlp_traces_endpoint", "file:///x"),
    ],
)  # fmt: skip
def test_bad_values_are_named(name: str, value: Any) -> None:
    with pytest.raises(ConfigError) as raised:
        ServerConfig(**{name: value})
    assert raised.value.param == name


@pytest.mark.parametrize(
    ("name", "value", "message"),
    [
        ("max_body_bytes", "1T", "max_body_bytes=1T is not in 1K … 1G"),
        ("max_connections", 1 << 30, "max_connections=1073741824 is not in 1 … 1048576"),
        ("request_timeout", 1e9, "request_timeout=1000000000.0 is not in 0.001 … 86400"),
    ],
)
def test_ranges_are_told_as_people_write_them(name: str, value: Any, message: str) -> None:
    with pytest.raises(ConfigError) as raised:
        ServerConfig(**{name: value})
    assert raised.value.message == message


def test_defaults_are_safe_and_good_values_accepted() -> None:
    config = ServerConfig()
    assert config.is_loopback and config.body_limit_bytes == 16 << 20
    for host, is_loopback in (("::1", True), ("localhost", True), ("0.0.0.0", False), ("example.org", False)):
        assert ServerConfig(host=host).is_loopback is is_loopback


def test_the_key_is_not_shown() -> None:
    assert "sk-secret" not in repr(ServerConfig(api_key=("sk-secret",)))
