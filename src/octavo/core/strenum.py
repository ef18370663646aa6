"""`enum.StrEnum` for Python 3.10, which lacks it."""

from enum import Enum


class StrEnum(str, Enum):
    """Members are strings, and print as their value."""

    __str__ = str.__str__

    def __format__(self, format_spec: str) -> str:
        return format(self.value, format_spec)
