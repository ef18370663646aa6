"""Processes that this one starts, of Octavo's own modules."""

import signal
import sys
from pathlib import Path

_PACKAGE_PARENT = Path(__file__).parents[2]
_RUN = (
    # `python -m` and `-c` would import from the working directory first, whoever may have written there.
    "import sys; sys.path[:] = [entry for entry in sys.path if entry] + [sys.argv.pop(1)]; "
    "import importlib; importlib.import_module(sys.argv.pop(1)).main()"
)


def child_command(module: str, *arguments: str) -> tuple[str, ...]:
    """The command that runs `module.main()` with `arguments` in `sys.argv[1:]`."""
    return (sys.executable, "-c", _RUN, str(_PACKAGE_PARENT), module, *arguments)


def leave_signals_to_parent() -> None:
    """In the child: what a terminal or a supervisor sends to the whole group, the parent acts on, and ends the child."""
    for sent_to_the_whole_group in (signal.SIGINT, signal.SIGTERM):
        signal.signal(sent_to_the_whole_group, signal.SIG_IGN)
