"""Numbers as people write them: 4K tokens, 1.5G bytes."""

import re
from fractions import Fraction

from octavo.core.errors import ConfigError

_SUFFIXES = {"": 1, "k": 10**3, "m": 10**6, "g": 10**9, "K": 2**10, "M": 2**20, "G": 2**30, "T": 2**40}
_NUMBER = re.compile(r"^\s*(\d+(?:\.\d+)?)\s*([kmgKMGT]?)(?:i?B)?\s*$")


def parse_quantity(name: str, value: int | str) -> int:
    """An integer from 4096, "4096", "4K" (4,096), "4k" (4,000), "1.5G". Raises `ConfigError`."""
    if isinstance(value, int) and not isinstance(value, bool):
        return value
    match = _NUMBER.match(value) if isinstance(value, str) else None
    if match is None:
        raise ConfigError(f"{name}={value!r} is not a number; write 4096, 4K, 512M or 1.5G", param=name)
    number, suffix = match.groups()
    if len(number) > 20:
        raise ConfigError(f"{name} is a number of {len(number)} digits; at most 20 are allowed", param=name)
    quantity = Fraction(number) * _SUFFIXES[suffix]
    if quantity.denominator != 1:
        raise ConfigError(f"{name}={value!r} is not a whole number; write 4096, 4K, 512M or 1.5G", param=name)
    return int(quantity)


def format_bytes(num_bytes: int) -> str:
    """4.00 GiB, 512 MiB, 96 B."""
    for unit, size in (("GiB", 2**30), ("MiB", 2**20), ("KiB", 2**10)):
        if num_bytes >= size:
            return f"{num_bytes / size:.3g} {unit}" if num_bytes < 1000 * size else f"{num_bytes / size:,.0f} {unit}"
    return f"{num_bytes} B"
