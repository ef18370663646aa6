"""Every environment variable that Octavo reads, in one place."""

import os
from pathlib import Path


def cache_directory() -> Path:
    """Where models and built files are kept: `$OCTAVO_CACHE`, else `$XDG_CACHE_HOME/octavo`, else `~/.cache/octavo`."""
    if own := os.environ.get("OCTAVO_CACHE"):
        return Path(own).expanduser()
    if xdg := os.environ.get("XDG_CACHE_HOME"):
        return Path(xdg).expanduser() / "octavo"
    return Path.home() / ".cache" / "octavo"


def forced_isa() -> str | None:
    """`$OCTAVO_ISA`: baseline, avx2 or avx512 instead of the best the processor has."""
    return os.environ.get("OCTAVO_ISA") or None


def forced_ops_backend() -> str | None:
    """`$OCTAVO_OPS`: «reference» runs every operation in plain PyTorch, the specification."""
    return os.environ.get("OCTAVO_OPS") or None
