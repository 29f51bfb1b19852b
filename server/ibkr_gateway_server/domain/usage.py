"""Limits of the broker, and how much of each is used."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class Usage:
    """One limit: what is used of it now, what may be, and over which span (None: at any moment)."""

    name: str
    used_count: int
    limit_count: int
    window_s: float | None = None
