"""Reading config.json and GGUF metadata: typed fields in their range, and errors that name the one at fault.

A field that is null counts as absent. Everything here raises `ModelFileError` for a value that is
missing, of another type, or out of range, and `UnsupportedModelError` for one that is sound but not built.
"""

import math
from collections.abc import Mapping, Sequence
from reprlib import repr as shown
from typing import Any, TypeVar

from octavo.core.errors import ModelFileError, UnsupportedModelError
from octavo.core.strenum import StrEnum

T = TypeVar("T", int, float, bool, str)
_MISSING: Any = object()
_NEEDED = {int: "an integer", float: "a number", bool: "true or false", str: "a string"}
MAX_LAYERS = 1024


class LayerKind(StrEnum):
    """The kinds of `layer_types` that are built."""

    FULL = "full_attention"
    SLIDING = "sliding_attention"


def field(config: Mapping[str, Any], name: str, kind: type[T], default: Any = _MISSING) -> T:
    """`config[name]` as a `kind`; the default where it is absent."""
    value = config.get(name)
    if value is None:
        if default is _MISSING:
            raise ModelFileError(f"the model's config has no {name}; {_NEEDED[kind]} is needed", param=name)
        return default
    is_number = isinstance(value, (int, float)) and not isinstance(value, bool)
    if kind is float and is_number:
        try:
            return float(value)
        except OverflowError:  # an integer beyond 1.8e308
            return math.inf
    if not isinstance(value, kind) or (kind is int and isinstance(value, bool)):
        raise ModelFileError(f"the model's config has {name}={shown(value)}; {_NEEDED[kind]} is needed", param=name)
    return value


def size(config: Mapping[str, Any], name: str, default: Any = _MISSING, *, least: int = 1, most: int = 1 << 24) -> int:
    """An integer of `least` … `most`."""
    value = field(config, name, int, default)
    if not least <= value <= most:
        raise ModelFileError(
            f"the model's config has {name}={shown(value)}; allowed are {least} … {most}; download the config again",
            param=name,
        )
    return value


def number(config: Mapping[str, Any], name: str, default: Any = _MISSING, *, least: float, most: float) -> float:
    """A number of `least` … `most`; NaN and infinity never are."""
    value = field(config, name, float, default)
    if not least <= value <= most:
        raise ModelFileError(
            f"the model's config has {name}={value}; allowed are {least:g} … {most:g}; download the config again",
            param=name,
        )
    return value


def softcap(config: Mapping[str, Any], name: str) -> float:
    """The cap of logits ↦ cap · tanh(logits / cap); 0, and none given, is off."""
    return 0.0 if field(config, name, float, 0.0) == 0.0 else number(config, name, least=1e-3, most=1e6)


def norm_eps(config: Mapping[str, Any], default: Any = _MISSING) -> float:
    return number(config, "rms_norm_eps", default, least=1e-30, most=1.0)


def section(config: Mapping[str, Any], name: str) -> Mapping[str, Any]:
    """An object within the config; empty where it is absent."""
    value = config.get(name)
    if value is None:
        return {}
    if not isinstance(value, Mapping):
        raise ModelFileError(f"the model's config has {name}={shown(value)}; an object is needed", param=name)
    return value


def layer_kinds(config: Mapping[str, Any], num_layers: int, default: Sequence[LayerKind]) -> list[LayerKind]:
    """`layer_types`, one a layer; `default` where the config has none."""
    value = config.get("layer_types")
    if value is None:
        return list(default)
    if not isinstance(value, list) or len(value) != num_layers:
        raise ModelFileError(
            f"the model's config has layer_types={shown(value)}; a list of num_hidden_layers={num_layers} kinds is "
            "needed; download the config again",
            param="layer_types",
        )
    for kind in value:
        if not isinstance(kind, str) or kind not in list(LayerKind):
            raise UnsupportedModelError(
                f"layer_types holds {shown(kind)}; built are {', '.join(LayerKind)}", param="layer_types"
            )
    return [LayerKind(kind) for kind in value]
