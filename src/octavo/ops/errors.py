"""The error of an op's argument."""

from octavo.core.errors import OctavoError


class OpArgumentError(OctavoError, ValueError):
    """A tensor or number given to an op has the wrong shape, dtype, device or range; nothing was written."""


class MissingKernelsError(OctavoError, RuntimeError):
    """The kernels for a tensor's device need a package that cannot be imported."""
