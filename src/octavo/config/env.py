"""Every environment variable that Octavo reads, in one place."""

import os
from pathlib import Path

from octavo.core.errors import ConfigError


def cache_directory() -> Path:
    """Where models and built files are kept: `$OCTAVO_CACHE`, else `$XDG_CACHE_HOME/octavo`, else `~/.cache/octavo`."""
    if own := os.environ.get("OCTAVO_CACHE"):
        return Path(own).expanduser()
    if xdg := os.environ.get("XDG_CACHE_HOME"):
        return Path(xdg).expanduser() / "octavo"
    return Path.home() / ".cache" / "octavo"


def forced_isa() -> str | None:
    """`$OCTAVO_ISA`: baseline, avx2 or avx512 instead of the best the processor has. Raises `ConfigError`."""
    return _choice("OCTAVO_ISA", ("baseline", "avx2", "avx512"))


def forced_ops_backend() -> str | None:
    """`$OCTAVO_OPS`: «reference» runs every operation in plain PyTorch, the specification. Raises `ConfigError`."""
    return _choice("OCTAVO_OPS", ("reference",))


def notify_socket() -> str | None:
    """`$NOTIFY_SOCKET`: the Unix socket of whoever started this process; «@» begins one that has no file."""
    address = os.environ.get("NOTIFY_SOCKET") or None
    return address if address is None or not address.startswith("@") else f"\0{address[1:]}"


def _choice(name: str, allowed: tuple[str, ...]) -> str | None:
    value = os.environ.get(name) or "auto"
    if value not in ("auto", *allowed):
        raise ConfigError(
            f"environment variable {name}: got {value!r}; allowed auto, {', '.join(allowed)}; correct or unset it",
            param=name,
        )
    return None if value == "auto" else value
