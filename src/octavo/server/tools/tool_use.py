"""What a request asks of tools, checked: which functions there are, and whether one must be called."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import msgspec

from octavo.core.errors import InvalidRequestError
from octavo.server.schemas import Function, NamedToolChoice, Tool, ToolChoice
from octavo.server.structured import refuse_unknown_keywords

MAX_TOOLS_BYTES = 1 << 18
"""Of all declarations together, as JSON."""


@dataclass(frozen=True, slots=True, kw_only=True)
class ToolUse:
    """The functions that are offered, and those of which one must be called, if any must."""

    functions: Sequence[Function]
    forced: Sequence[Function] = ()
    is_parallel: bool = True
    """False: one call at most."""

    @property
    def has_strict(self) -> bool:
        return any(function.strict for function in self.functions)

    def held(self) -> list[Function]:
        """The functions that a grammar holds calls to: where the model decides, those not strict take any object."""
        if self.forced:
            return list(self.forced)
        return [function if function.strict else Function(name=function.name) for function in self.functions]

    def for_template(self) -> list[dict[str, Any]]:
        """The tools as chat templates read them."""
        return [{"type": "function", "function": _as_given(function)} for function in self.functions]


def read_tool_use(tools: Sequence[Tool] | None, choice: ToolChoice | None, is_parallel: bool | None) -> ToolUse | None:
    """None where the model is offered no tools. Raises `InvalidRequestError`."""
    functions = [tool.function for tool in tools or ()]
    if not functions:
        _refuse_without_tools(choice, is_parallel)
        return None
    _check(functions)
    if choice == "none":
        return None
    if isinstance(choice, NamedToolChoice):
        named = [function for function in functions if function.name == choice.function.name]
        if not named:
            known = ", ".join(function.name for function in functions)
            raise InvalidRequestError(
                f"tool_choice names {choice.function.name[:64]!r}, which is not among the tools: {known[:1000]}",
                param="tool_choice",
            )
        return ToolUse(functions=functions, forced=named, is_parallel=False)
    return ToolUse(
        functions=functions, forced=functions if choice == "required" else (), is_parallel=is_parallel is not False
    )


def _refuse_without_tools(choice: ToolChoice | None, is_parallel: bool | None) -> None:
    if choice is not None and choice != "none":
        raise InvalidRequestError("tool_choice needs tools; send some, or leave it out", param="tool_choice")
    if is_parallel is not None:
        raise InvalidRequestError(
            "parallel_tool_calls needs tools; send some, or leave it out", param="parallel_tool_calls"
        )


def _check(functions: Sequence[Function]) -> None:
    num_bytes = len(msgspec.json.encode(functions))
    if num_bytes > MAX_TOOLS_BYTES:
        raise InvalidRequestError(
            f"tools have {num_bytes} bytes of JSON; at most {MAX_TOOLS_BYTES} are allowed; send fewer or shorten them",
            param="tools",
        )
    seen: set[str] = set()
    for index, function in enumerate(functions):
        where = f"tools[{index}].function"
        if function.name in seen:
            raise InvalidRequestError(
                f"{where}.name={function.name!r} is there twice; give each function a name of its own",
                param=f"{where}.name",
            )
        seen.add(function.name)
        kind = (function.parameters or {}).get("type", "object")
        if kind != "object":
            raise InvalidRequestError(
                f'{where}.parameters.type={str(kind)[:64]!r}; arguments are a JSON object, so only "object" is allowed',
                param=f"{where}.parameters",
            )
        if function.strict:
            refuse_unknown_keywords(function.parameters or {}, f"{where}.parameters", param=f"{where}.parameters")


def _as_given(function: Function) -> dict[str, Any]:
    """The declaration without what it leaves open."""
    fields: dict[str, Any] = msgspec.to_builtins(function)
    return {name: value for name, value in fields.items() if value is not None}
