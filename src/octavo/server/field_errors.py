"""What msgspec says of a body that does not fit its schema, in the API's words: the field, what it got, what is allowed.

What is allowed is read off the schema: literals, tags, names of fields. How a thing is rather written stands there too,
as `Meta(description=…)` of its type.
"""

import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from functools import cache
from typing import Any

import msgspec
from msgspec import inspect

from octavo.core.errors import InvalidRequestError, OctavoError
from octavo.core.near_names import did_you_mean
from octavo.server.errors import ApiError

_PLACE = re.compile(r"^(?P<what>.*?)(?: - at (?P<key>`key` in )?`\$(?P<path>.*)`)?$", re.DOTALL)
_STEP = re.compile(r"\.(?P<name>[^.\[]+)|\[(?P<index>\d+|\.\.\.)\]")
_MISSING = re.compile(r"Object missing required field `(?P<name>.+)`", re.DOTALL)
_UNKNOWN = re.compile(r"Object contains unknown field `(?P<name>.+)`", re.DOTALL)
_NOT_ALLOWED = re.compile(r"Invalid (enum )?value |Expected `str` matching regex ")
_MAX_NAME_CHARS = 200
_MAX_VALUE_CHARS = 64

_type_info = cache(inspect.type_info)


def field_error(error: msgspec.ValidationError, schema: Any, value: Any, where: str = "") -> OctavoError:
    """Why `value` is no `schema`. `where` leads to the value, if it is part of a body."""
    if isinstance(error.__cause__, InvalidRequestError):
        return error.__cause__  # a struct's own check, which names its field
    place = _PLACE.match(str(error))
    assert place is not None
    path = place["path"] or ""
    spots = list(_spots(_type_info(schema), value, path))
    name = where + path if where else path.removeprefix(".")
    what = place["what"]
    missing, unknown = _MISSING.match(what), _UNKNOWN.match(what)
    if missing:
        return _missing(name, missing["name"], spots[-1])
    if unknown:
        return unknown_field(name, unknown["name"], spots[-1].field_names, remedy=spots[-1].remedy)
    if _NOT_ALLOWED.match(what):
        return _not_allowed(name, spots)
    said = what.replace("`", "")
    subject = f"{name or 'the body'}{' (a key)' if place['key'] else ''}"
    said = _sentence(f"{subject}: {said[:1].lower()}{said[1:]}", spots[-1].remedy)
    return InvalidRequestError(said, param=name or None)


def unknown_field(where: str, name: str, known: Sequence[str], *, remedy: str = "") -> ApiError:
    """A field of the object at `where`, or of the body, that nobody reads."""
    hint = remedy or did_you_mean(name, known) or f"known are {', '.join(known)}"
    shown = name[:_MAX_NAME_CHARS]
    param = f"{where}.{shown}" if where else shown
    said = f"{param} is an unknown field" if where else f"unknown field {shown!r}"
    return ApiError(400, _sentence(said, hint), code="unknown_parameter", param=param)


@dataclass(frozen=True, slots=True)
class _Spot:
    """A place in a value: what stands there, and of which types it may be."""

    value: Any
    types: Sequence[inspect.Type]
    remedy: str

    @property
    def structs(self) -> list[inspect.StructType]:
        """Those that it may be: of several the one whose tag it has, if it has one."""
        structs = [kind for kind in self.types if isinstance(kind, inspect.StructType)]
        tagged = [
            kind for kind in structs if isinstance(self.value, dict) and self.value.get(kind.tag_field) == kind.tag
        ]
        return tagged or structs

    @property
    def field_names(self) -> list[str]:
        return [field.encode_name for kind in self.structs for field in kind.fields]

    @property
    def literals(self) -> list[Any]:
        return [value for kind in self.types if isinstance(kind, inspect.LiteralType) for value in kind.values]

    def tags(self, name: str) -> list[Any]:
        """What the field `name` may say that tells structs apart."""
        return [kind.tag for kind in self.types if isinstance(kind, inspect.StructType) and kind.tag_field == name]

    def inside(self, step: "re.Match[str]") -> "_Spot":
        """One step further."""
        if step["index"] is None:
            types = [field.type for kind in self.structs for field in kind.fields if field.encode_name == step["name"]]
            return _spot(types, self.value.get(step["name"]) if isinstance(self.value, dict) else None)
        types = [kind.item_type for kind in self.types if isinstance(kind, (inspect.ListType, inspect.VarTupleType))]
        types += [kind.value_type for kind in self.types if isinstance(kind, inspect.DictType)]
        has_place = isinstance(self.value, list) and step["index"] != "..."
        return _spot(types, self.value[int(step["index"])] if has_place else None)


def _spots(info: inspect.Type, value: Any, path: str) -> Iterator[_Spot]:
    """Every place on the way."""
    spot = _spot([info], value)
    yield spot
    for step in _STEP.finditer(path):
        spot = spot.inside(step)
        yield spot


def _spot(types: Sequence[inspect.Type], value: Any) -> _Spot:
    """Unions taken apart; the remedy is the first that any of `types` has."""
    waiting, found, remedy = list(types), [], ""
    for kind in waiting:
        if isinstance(kind, inspect.Metadata):
            remedy = remedy or str((kind.extra_json_schema or {}).get("description", ""))
            waiting.append(kind.type)
        elif isinstance(kind, inspect.UnionType):
            waiting.extend(kind.types)
        else:
            found.append(kind)
    return _Spot(value, found, remedy)


def _missing(where: str, name: str, spot: _Spot) -> InvalidRequestError:
    path = f"{where}.{name}" if where else name
    tags = spot.tags(name)
    return InvalidRequestError(_sentence(f"{path} is missing", _allowed(tags) if tags else spot.remedy), param=path)


def _not_allowed(path: str, spots: Sequence[_Spot]) -> InvalidRequestError:
    """A value that is none of those there are, or does not match a pattern, which its remedy says in words."""
    spot = spots[-1]
    tags = spots[-2].tags(path.rpartition(".")[2]) if len(spots) > 1 else []
    choices = spot.literals or tags
    remedy = spot.remedy or (spots[-2].remedy if tags else "")
    said = f"{path}={_shown(spot.value)} is not allowed"
    return InvalidRequestError(_sentence(said, _allowed(choices) if choices else "", remedy), param=path)


def _shown(value: Any) -> str:
    shown = repr(value)
    return shown if len(shown) <= _MAX_VALUE_CHARS else f"{shown[:_MAX_VALUE_CHARS]}…"


def _allowed(values: Sequence[Any]) -> str:
    return f"allowed {'are' if len(values) > 1 else 'is'} {', '.join(map(str, values))}"


def _sentence(*parts: str) -> str:
    return "; ".join(part for part in parts if part)
