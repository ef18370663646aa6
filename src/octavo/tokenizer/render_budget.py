"""What one render of a chat template may use: steps, time, and characters of text."""

import time
from collections.abc import ItemsView, KeysView, ValuesView
from dataclasses import dataclass
from typing import Any

from jinja2.exceptions import TemplateError

ITEM_CHARS = 16
"""What a number or a container counts as, in characters."""


@dataclass(frozen=True, slots=True, kw_only=True)
class RenderLimits:
    """What one render may use."""

    max_chars: int = 16 << 20
    """Of the output, and of every value on the way to it, all that it contains included."""
    max_total_chars: int = 1 << 28
    """Of all values together."""
    max_steps: int = 2_000_000
    """Loop passes and calls."""
    max_range: int = 100_000
    max_seconds: float = 10.0


class RenderLimitError(TemplateError):
    """A template used more than its `RenderLimits`."""


class RenderBudget:
    """What one render has left."""

    def __init__(self, limits: RenderLimits) -> None:
        self._limits = limits
        self._num_steps = 0
        self._num_chars = 0
        self._deadline_s = time.monotonic() + limits.max_seconds

    def step(self) -> None:
        self._num_steps += 1
        if self._num_steps > self._limits.max_steps:
            raise RenderLimitError(f"the template took more than {self._limits.max_steps} loop passes and calls")
        if time.monotonic() > self._deadline_s:
            raise RenderLimitError(f"the template took more than {self._limits.max_seconds} s")

    def require_size(self, num_chars: int) -> None:
        """Refuse a value before it is made."""
        if num_chars > self._limits.max_chars:
            raise RenderLimitError(f"the template made more than {self._limits.max_chars} characters in one value")

    def charge(self, value: Any) -> None:
        """Count a value that was made: the characters of its strings, and 16 for everything else in it.

        A list that holds one string twice counts it twice, as its text would.
        """
        num_chars = 0
        waiting = [value]
        while waiting:
            item = waiting.pop()
            num_chars += len(item) if isinstance(item, str) else ITEM_CHARS
            self.require_size(num_chars)
            if isinstance(item, dict):
                waiting += [*item.keys(), *item.values()]
            elif isinstance(item, (list, tuple, set, ItemsView, KeysView, ValuesView)):
                self.require_size(num_chars + (len(waiting) + len(item)) * ITEM_CHARS)
                waiting.extend(item)
        self._num_chars += num_chars
        if self._num_chars > self._limits.max_total_chars:
            raise RenderLimitError(f"the template made more than {self._limits.max_total_chars} characters in all")

    def range(self, *bounds: int) -> range:
        numbers = range(*bounds)
        if len(numbers) > self._limits.max_range:
            raise RenderLimitError(f"range{bounds} has more than {self._limits.max_range} numbers")
        return numbers
