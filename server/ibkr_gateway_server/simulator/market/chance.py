"""Chance that a seed decides: the same numbers in every process, in any order of asking."""

from __future__ import annotations

_MASK = (1 << 64) - 1


def scramble(value: int) -> int:
    """A 64-bit mix of a number: well spread, the same everywhere (Python's own hash is not, for text)."""
    value = (value + 0x9E3779B97F4A7C15) & _MASK
    value = ((value ^ (value >> 30)) * 0xBF58476D1CE4E5B9) & _MASK
    value = ((value ^ (value >> 27)) * 0x94D049BB133111EB) & _MASK
    return value ^ (value >> 31)


def mixed(*parts: int) -> int:
    """64 bits that these parts determine."""
    found = 0
    for part in parts:
        found = scramble(found ^ (part & _MASK))
    return found


def uniform(*parts: int) -> float:
    """A number in [0, 1) that these parts determine."""
    return mixed(*parts) / 2**64
