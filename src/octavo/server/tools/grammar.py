"""Grammars of tool calls, in llguidance's dialect of Lark: what every format makes its own from."""

import json
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from octavo.server.schemas import Function
from octavo.server.structured import guided


@dataclass(frozen=True, slots=True, kw_only=True)
class CallRules:
    """What is called: one of `functions`, or several, in an answer of a model with these special tokens."""

    functions: Sequence[Function]
    is_parallel: bool
    special_token_ids: Mapping[str, int]
    """Markers that are special tokens of the model's tokenizer: they have no text that a grammar could match."""

    def marker(self, text: str) -> str:
        """A marker as the model writes it: its special token, or its text."""
        token_id = self.special_token_ids.get(text)
        return literal(text) if token_id is None else f"<[{token_id}]>"

    def repeated(self, rule: str, separator: str) -> str:
        return f"{rule} ({separator} {rule})*" if self.is_parallel else rule

    def call_rules(self, write_call: Callable[[str, str], str]) -> str:
        """`call`: a call of any of the functions, written by `write_call(name, rule of the arguments)`."""
        indexes = range(len(self.functions))
        lines = ["call: " + " | ".join(f"call_{index}" for index in indexes)]
        for index, function in enumerate(self.functions):
            lines.append(f"call_{index}: {write_call(function.name, f'arguments_{index}')}")
            lines.append(f"arguments_{index}: %json {json.dumps(_schema(function), ensure_ascii=False)}")
        return "\n".join(lines)


def literal(text: str) -> str:
    """`text` as a Lark string."""
    return json.dumps(text)


def json_call(name: str, arguments: str, *, key: str = "arguments") -> str:
    """A call as one JSON object."""
    return f"{literal(json.dumps({'name': name})[:-1] + f', {json.dumps(key)}: ')} {arguments} {literal('}')}"


def _schema(function: Function) -> dict[str, Any]:
    """The arguments' schema."""
    return guided({"type": "object", **(function.parameters or {})}, is_strict=bool(function.strict))
