"""From a checkpoint's tensors to a model's parameters, by name, one at a time.

A model asks for parameters by Octavo's own names («layers.3.mixer.q.weight»); a `NameMap` says what
the checkpoint calls them, and a transform what must be done to a tensor on the way.
"""

from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace

import torch
from torch import Tensor

from octavo.core.errors import ModelFileError
from octavo.core.weights import StoredWeight
from octavo.loader.checkpoint import Checkpoint

LAYER = "layers."


@dataclass(frozen=True, slots=True)
class Source:
    """A tensor of the checkpoint and the transform of its rows, if any."""

    name: str
    """With «{}» where the layer's number stands."""
    rows: Callable[[Tensor], Tensor] | None = None
    """Applied to a (N, …) tensor whose row i is the parameter's row i; must only move or scale whole rows."""


NameMap = Mapping[str, Source]
"""Octavo's name, «layers.{}.…» for every layer → where the checkpoint has it."""


class ParameterSource:
    """A checkpoint, asked by Octavo's parameter names. Raises `ModelFileError` for what is missing or misshapen."""

    def __init__(self, checkpoint: Checkpoint, names: NameMap) -> None:
        self._checkpoint = checkpoint
        self._names = names
        self._available = frozenset(checkpoint.tensor_names)
        self._read: set[str] = set()

    def has(self, parameter: str) -> bool:
        return self._find(parameter)[0] in self._available

    def matrix(self, parameter: str, out_features: int, in_features: int) -> StoredWeight:
        """A weight as stored, (out_features, in_features)."""
        name, source = self._locate(parameter, (out_features, in_features))
        weight = self._checkpoint.weight(name)
        if source.rows is not None:
            weight = replace(weight, data=source.rows(weight.data))
        return weight

    def vector(self, parameter: str, size: int) -> Tensor:
        """A norm's weight or a bias, in fp32."""
        name, source = self._locate(parameter, (size,))
        values = self._checkpoint.tensor(name).to(torch.float32, copy=True)
        return values if source.rows is None else source.rows(values)

    def unread(self) -> list[str]:
        """Tensors that no parameter asked for."""
        return sorted(self._available - self._read)

    def _find(self, parameter: str) -> tuple[str, Source]:
        if not parameter.startswith(LAYER):
            source = self._names[parameter]
            return source.name, source
        _, layer, rest = parameter.split(".", 2)
        source = self._names[f"{LAYER}{{}}.{rest}"]
        return source.name.replace("{}", layer), source

    def _locate(self, parameter: str, shape: tuple[int, ...]) -> tuple[str, Source]:
        name, source = self._find(parameter)
        if name not in self._available:
            raise ModelFileError(
                f"{self._checkpoint.path}: tensor {name} is missing ({parameter}, shape {list(shape)}); "
                "the file is incomplete or of another architecture than it says; fetch it again",
                param=name,
            )
        found = tuple(self._checkpoint.shape(name))
        if found != shape:
            raise ModelFileError(
                f"{self._checkpoint.path}: tensor {name} has shape {list(found)}; its config calls for {list(shape)}",
                param=name,
            )
        self._read.add(name)
        return name, source
