"""Which kernel runs an op: capability predicates asked in order, in a table that never changes.

OCTAVO_OPS=reference leaves out all kernels but the reference; OCTAVO_ISA=baseline|avx2|avx512
forces the instruction set of the native CPU kernels. Both are read once, at import.
"""

import logging
from collections.abc import Callable
from dataclasses import dataclass
from typing import TYPE_CHECKING, Final, Generic, ParamSpec, TypeVar

from octavo.config import env
from octavo.core.errors import ConfigError

if TYPE_CHECKING:
    from types import ModuleType

logger = logging.getLogger(__name__)
P = ParamSpec("P")
R = TypeVar("R")


@dataclass(frozen=True, slots=True)
class Kernel(Generic[P, R]):
    """One implementation of an op, and the arguments it can take (the op's own, already checked)."""

    backend: str
    is_capable: Callable[P, bool]
    run: Callable[P, R]


@dataclass(frozen=True, slots=True)
class Op(Generic[P, R]):
    """The kernels of one op, best first; the last one takes everything."""

    kernels: tuple[Kernel[P, R], ...]

    def __call__(self, *args: P.args, **kwargs: P.kwargs) -> R:
        for kernel in self.kernels:
            if kernel.is_capable(*args, **kwargs):
                return kernel.run(*args, **kwargs)
        raise AssertionError("the reference takes everything")


def _load_native() -> "ModuleType | None":
    """The native module at the instruction set asked for, or None, for a reason that is logged."""
    isa = env.forced_isa()
    if env.forced_ops_backend() == "reference":
        logger.info("ops run on the reference: OCTAVO_OPS=reference")
        return None
    try:
        from octavo import _native
    except ImportError as error:
        logger.warning("ops run on the reference, which is slow: octavo._native cannot be imported (%s)", error)
        return None
    if isa is not None:
        if isa not in _native.available_isas():
            raise ConfigError(
                f"OCTAVO_ISA={isa}: this CPU or build has {', '.join(_native.available_isas())}; use one of these",
                param="OCTAVO_ISA",
            )
        _native.force_isa(isa)
    return _native


NATIVE = _load_native()
ALLOWS_TRITON: Final = env.forced_ops_backend() != "reference"
"""Whether tensors on a GPU go to Triton's kernels, which are imported when the first one comes."""


def isa() -> str:
    """The instruction set of the CPU kernels in use: "baseline", "avx2", "avx512", or "reference"."""
    return "reference" if NATIVE is None else str(NATIVE.isa())


def available_isas() -> tuple[str, ...]:
    """What OCTAVO_ISA may be set to here, slowest first."""
    return () if NATIVE is None else tuple(NATIVE.available_isas())
