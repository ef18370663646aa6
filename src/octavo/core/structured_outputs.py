"""What shape an answer must have: given by a JSON schema, a regular expression, choices or a grammar."""

import re
from typing import Any

import msgspec

from octavo.core.errors import InvalidRequestError

MAX_GRAMMAR_CHARS = 1 << 17
MAX_CHOICES = 1024
MAX_JSON_DEPTH = 64


class StructuredOutputs(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True, forbid_unknown_fields=True):
    """The language that an answer is a sentence of; exactly one field is given.

    Raises `InvalidRequestError` for none or several of them, and for what is too large or too deep. Whether a schema,
    expression or grammar means something is found out when it is compiled (`octavo.tokenizer.grammar`).
    """

    json: dict[str, Any] | str | None = None
    """A JSON schema, or its text; kept as its text."""
    json_object: bool | None = None
    """Any JSON object."""
    regex: str | None = None
    """In the syntax of Rust's regex crate; the whole answer matches it."""
    choice: tuple[str, ...] | None = None
    grammar: str | None = None
    """In Lark's syntax as llguidance reads it, or GBNF."""

    def __post_init__(self) -> None:
        choice: Any = self.choice
        if isinstance(choice, list):
            msgspec.structs.force_setattr(self, "choice", tuple(choice))
        given = [name for name in self.__struct_fields__ if getattr(self, name) is not None]
        if len(given) != 1:
            got = " and ".join(given) or "none"
            raise InvalidRequestError(
                f"structured_outputs has {got}; give exactly one of {', '.join(self.__struct_fields__)}",
                param="structured_outputs",
            )
        if self.json_object not in (None, True):
            raise InvalidRequestError(
                "structured_outputs.json_object must be true; leave structured_outputs out for any text",
                param="structured_outputs",
            )
        if self.json is not None:
            msgspec.structs.force_setattr(self, "json", _schema_text(self.json))
        if self.choice is not None:
            self._check_choices(self.choice)
        for name in ("json", "regex", "grammar"):
            self._check_text(name, getattr(self, name))

    def _check_choices(self, choices: Any) -> None:
        if not isinstance(choices, tuple) or not 1 <= len(choices) <= MAX_CHOICES:
            raise InvalidRequestError(
                f"structured_outputs.choice must be a list of 1 … {MAX_CHOICES} strings", param="structured_outputs"
            )
        for choice in choices:
            if choice == "":
                raise InvalidRequestError(
                    "structured_outputs.choice has an empty string; leave it out", param="structured_outputs"
                )
            self._check_text("choice", choice)
        self._check_text("choice", "".join(choices))

    @staticmethod
    def _check_text(name: str, text: Any) -> None:
        if text is None:
            return
        if not isinstance(text, str) or _SURROGATE.search(text):
            raise InvalidRequestError(f"structured_outputs.{name} is not Unicode text", param="structured_outputs")
        if len(text) > MAX_GRAMMAR_CHARS:
            raise InvalidRequestError(
                f"structured_outputs.{name} has {len(text)} characters; at most {MAX_GRAMMAR_CHARS} are allowed",
                param="structured_outputs",
            )


_SURROGATE = re.compile("[\ud800-\udfff]")


def _schema_text(schema: Any) -> str:
    """A mapping as JSON, which has integers of any size, as no message between processes has."""
    if isinstance(schema, str):
        return schema
    if not isinstance(schema, dict):
        raise InvalidRequestError(
            f"structured_outputs.json has type {type(schema).__name__}; give a schema, or its text",
            param="structured_outputs",
        )
    _check_depth(schema)
    try:
        return msgspec.json.encode(schema).decode()
    except (TypeError, ValueError) as error:  # UnicodeEncodeError is a ValueError
        raise InvalidRequestError(
            f"structured_outputs.json is not JSON: {error}", param="structured_outputs"
        ) from error


def _check_depth(value: Any, depth: int = 0) -> None:
    if depth > MAX_JSON_DEPTH:
        raise InvalidRequestError(
            f"structured_outputs.json is nested deeper than {MAX_JSON_DEPTH} levels", param="structured_outputs"
        )
    children = value.values() if isinstance(value, dict) else value if isinstance(value, (list, tuple)) else ()
    for child in children:
        _check_depth(child, depth + 1)
