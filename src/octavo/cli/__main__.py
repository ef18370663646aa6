"""The `octavo` command, and `python -m octavo.cli`: signals end it quietly from its first imports on."""

import signal
import sys
from typing import NoReturn

from octavo.cli.interrupts import exit_on


def main() -> NoReturn:
    """Run the command line. A server that is asked to end ends with 0: at once, until it attends to that itself."""
    if sys.argv[1:2] == ["serve"]:
        with exit_on(signal.SIGINT, signal.SIGTERM, code=0):
            from octavo.cli import main as command

            command.main()
    with exit_on(signal.SIGINT):
        from octavo.cli import main as command
    command.main()


if __name__ == "__main__":
    main()
