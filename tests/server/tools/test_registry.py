"""Which format a model writes, and the names that the option has for them."""

from dataclasses import fields

import pytest
from server import tool_templates

from octavo.config.server_config import ServerConfig
from octavo.core.errors import ConfigError
from octavo.server.tools.registry import FORMATS, find_format


@pytest.mark.parametrize(
    ("template", "name"),
    [
        (tool_templates.QWEN3, "hermes"),
        (tool_templates.LLAMA3, "llama3"),
        (tool_templates.MISTRAL, "mistral"),
        (tool_templates.MISTRAL_ARGS, "mistral_args"),
        (tool_templates.PLAIN, "json"),
        (tool_templates.QWEN3_CODER, "json"),
        ("", "json"),
    ],
)
def test_format_is_inferred(template: str, name: str) -> None:
    assert find_format("auto", template).name == name


def test_the_option_overrides() -> None:
    for tool_format in FORMATS:
        assert find_format(tool_format.name, tool_templates.QWEN3) is tool_format
    with pytest.raises(ConfigError, match="auto, mistral_args, mistral, hermes, llama3, json"):
        find_format("pythonic", "")


def test_the_option_names_every_format() -> None:
    [option] = [option for option in fields(ServerConfig) if option.name == "tool_call_parser"]
    assert set(option.metadata["choices"]) == {"auto", *(tool_format.name for tool_format in FORMATS)}


def test_call_ids() -> None:
    for tool_format in FORMATS:
        ids = {tool_format.new_call_id() for _ in range(100)}
        assert len(ids) == 100
        if tool_format.name.startswith("mistral"):
            assert all(len(each) == 9 and each.isalnum() for each in ids)
        else:
            assert all(each.startswith("call_") for each in ids)
