"""Sampling options: the names, types and defaults of `SamplingParams`, and what `--help` says of them."""

import functools
import inspect
import json
from collections.abc import Mapping
from dataclasses import dataclass, field
from types import MappingProxyType
from typing import Any, get_args, get_origin

import msgspec
import typer

from octavo.cli.options import Values, flag, keyword
from octavo.core.errors import ConfigError, InvalidRequestError
from octavo.core.sampling_params import SamplingParams
from octavo.core.structured_outputs import StructuredOutputs

_PANEL = "Sampling"
_HELP: Mapping[str, str] = MappingProxyType(
    {
        "max_tokens": "Most tokens to generate.",
        "temperature": "0 takes the likeliest token; higher is more varied.",
        "top_p": "Draw from the likeliest tokens that together have this probability.",
        "top_k": "Draw from this many likeliest tokens; 0: all.",
        "min_p": "Leave out tokens less likely than this share of the likeliest.",
        "seed": "Makes the answer repeatable.",
        "n": "Answers to draw.",
        "stop": "End at this text; may be repeated.",
        "stop_token_ids": "End at this token id; may be repeated.",
        "include_stop_str_in_output": "Keep the text that ended the answer.",
        "ignore_eos": "Go on after the model's end token.",
        "min_tokens": "Fewest tokens to generate.",
        "presence_penalty": "Against tokens already in the answer, -2 … 2.",
        "frequency_penalty": "The same, for each time they occur, -2 … 2.",
        "repetition_penalty": "Against tokens already in prompt or answer; 1: off.",
        "bad_words": "Never write this; may be repeated.",
        "logit_bias": "Add to the logits of token ids: '{\"42\": -5.0}'.",
        "allowed_token_ids": "Draw from these token ids alone; may be repeated.",
        "logprobs": "Log-probabilities of this many top tokens; with --json.",
        "prompt_logprobs": "The same for the prompt; with --json.",
        "skip_special_tokens": "Leave special tokens out of the text.",
        "structured_outputs": 'Hold the answer to a shape: {"json": SCHEMA}, or regex, choice, grammar, json_object.',
    }
)
_FROM_MODEL = ("temperature", "top_p", "top_k", "min_p", "repetition_penalty")
"""What a model's generation_config may set where the command line is silent."""
_JSON = {"logit_bias": '{"42": -5.0}', "structured_outputs": '{"choice": ["yes", "no"]}'}
"""Options that come as JSON, and what that looks like."""


@dataclass(frozen=True)
class SamplingOptions:
    """The fields of `SamplingParams` that make sense on a command line; those given become a dictionary."""

    defaults: Mapping[str, Any] = field(default_factory=dict)
    """Where a command's default differs from `SamplingParams`'."""
    notes: Mapping[str, str] = field(default_factory=dict)
    """What `--help` says of a default that is not one value."""
    left_out: tuple[str, ...] = ()

    @functools.cached_property
    def parameters(self) -> tuple[inspect.Parameter, ...]:
        known = {member.name: member for member in msgspec.structs.fields(SamplingParams)}
        return tuple(self._parameter(known[name]) for name in _HELP if name not in self.left_out)

    def collect(self, values: Values) -> dict[str, Any]:
        """What was given, checked. Raises `ConfigError`."""
        given: dict[str, Any] = {}
        for parameter in self.parameters:
            value = values.pop(parameter.name)
            if value is None or value == []:
                continue
            if parameter.name in _JSON:
                value = _from_json(parameter.name, value)
            given[parameter.name] = tuple(value) if isinstance(value, list) else value
        try:
            SamplingParams(**{**self.defaults, **given})
        except InvalidRequestError as error:
            raise ConfigError(error.message, param=error.param) from error
        return {**self.defaults, **given}

    def _parameter(self, member: msgspec.structs.FieldInfo) -> inspect.Parameter:
        kind = _kind(member.type)
        default = self.defaults.get(member.name, member.default)
        help = _HELP[member.name]
        if member.name in self.notes:
            help += f" [default: {self.notes[member.name]}]"
        elif kind is bool:
            help += " [default: on]" if default else ""
        elif default not in (None, (), msgspec.NODEFAULT):
            whose = "the model's, else " if member.name in _FROM_MODEL else ""
            help += f" [default: {whose}{default:g}]"
        declaration = flag(member.name) + (f"/--no-{flag(member.name)[2:]}" if kind is bool else "")
        info = typer.Option(
            declaration,
            help=help,
            metavar=None if kind is bool else _metavar(member.name, kind),
            show_default=False,
            rich_help_panel=_PANEL,
        )
        return keyword(member.name, kind | None, None, info)


def _kind(annotation: Any) -> Any:
    """The type typer reads: that of the field without None; JSON comes as text, tuples as lists."""
    kinds = [kind for kind in get_args(annotation) if kind is not type(None)] or [annotation]
    kind = kinds[0] if get_origin(annotation) is not tuple else annotation
    if get_origin(kind) is tuple:
        return list[get_args(kind)[0]]  # type: ignore[misc]
    return str if get_origin(kind) is dict or kind is StructuredOutputs else kind


def _metavar(name: str, kind: Any) -> str:
    if name in _JSON:
        return "JSON"
    return {int: "N", float: "X", list[int]: "ID"}.get(kind, "TEXT")


def _from_json(name: str, text: str) -> Any:
    try:
        value = json.loads(text)
        if name == "logit_bias":
            return {int(token): float(bias) for token, bias in value.items()}
        return value
    except (ValueError, TypeError, AttributeError):
        raise ConfigError(f"{name}={text!r} is not what it takes: JSON like {_JSON[name]}", param=name) from None
