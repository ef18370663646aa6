"""What Ctrl-C does to a command: ends it at once, or is noted to be asked for. Imports nothing that takes time."""

import os
import signal
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from types import FrameType

EXIT_INTERRUPTED = 130


@contextmanager
def exit_on(*numbers: signal.Signals, code: int = EXIT_INTERRUPTED) -> Iterator[None]:
    """These signals end the process at once and quietly: what it is doing is of no use to anyone."""

    def leave(number: int, frame: FrameType | None) -> None:
        os._exit(code)

    previous = {number: signal.signal(number, leave) for number in numbers}
    try:
        yield
    finally:
        for number, handler in previous.items():
            signal.signal(number, handler)


@contextmanager
def interrupt_flag() -> Iterator[Callable[[], bool]]:
    """Ctrl-C is noted, to be asked for between steps, so that none is cut in two; the second one interrupts."""
    is_set = False

    def note(number: int, frame: FrameType | None) -> None:
        nonlocal is_set
        if is_set:
            raise KeyboardInterrupt
        is_set = True

    previous = signal.signal(signal.SIGINT, note)
    try:
        yield lambda: is_set
    finally:
        signal.signal(signal.SIGINT, previous)
