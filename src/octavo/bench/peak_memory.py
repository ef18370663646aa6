"""How much memory a computation takes: what was resident at most, of this process, whoever allocated it. Linux only."""

from collections.abc import Callable
from pathlib import Path

_PROCESS = Path("/proc/self")
_RESET_PEAK = "5"


def peak_bytes_above_start(run: Callable[[], object]) -> int:
    """The most that was resident during run(), its result included, above what was when it began.

    A fresh process that creates its tensors without others beside them has nothing freed to use again, which would not be
    counted. What a first call loads is counted, so warm up with a small one.
    """
    (_PROCESS / "clear_refs").write_text(_RESET_PEAK)
    start = _status_bytes("VmRSS")
    run()
    return _status_bytes("VmHWM") - start


def _status_bytes(field: str) -> int:
    for line in (_PROCESS / "status").read_text().splitlines():
        name, _, value = line.partition(":")
        if name == field:
            return int(value.split()[0]) << 10
    raise KeyError(field)
