"""The error of an op's argument."""

from octavo.core.errors import OctavoError


class OpArgumentError(OctavoError, ValueError):
    """A tensor or number given to an op has the wrong shape, dtype, device or range; nothing was written."""


class MissingKernelsError(OctavoError, RuntimeError):
    """A tensor's device is too old or too small for the kernels, or their package cannot be imported."""
