"""The formats of tool calls, and which one a model writes."""

from octavo.core.errors import ConfigError
from octavo.server.tools.format import ToolFormat
from octavo.server.tools.generic_json import GENERIC_JSON
from octavo.server.tools.hermes import HERMES
from octavo.server.tools.llama3 import LLAMA3
from octavo.server.tools.mistral import MISTRAL, MISTRAL_ARGS

FORMATS: tuple[ToolFormat, ...] = (MISTRAL_ARGS, MISTRAL, HERMES, LLAMA3, GENERIC_JSON)
"""In the order in which they are asked; the last takes any template."""


def find_format(name: str, template_source: str) -> ToolFormat:
    """The format of that name; for «auto», the first that recognises the chat template. Raises `ConfigError`."""
    for tool_format in FORMATS:
        if tool_format.name == name or (name == "auto" and tool_format.matches(template_source)):
            return tool_format
    allowed = ", ".join(tool_format.name for tool_format in FORMATS)
    raise ConfigError(f"tool_call_parser={name!r} is not one of auto, {allowed}", param="tool_call_parser")
