"""The halt: trading is stopped, how hard, since when and why."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime
from enum import StrEnum


class HaltLevel(StrEnum):
    """How hard; each does what the one before it does as well."""

    BLOCK_NEW = "BLOCK_NEW"
    """No new orders; what works goes on."""
    CANCEL_OWN = "CANCEL_OWN"
    """And cancel every open order of this gateway."""
    GLOBAL_CANCEL = "GLOBAL_CANCEL"
    """And cancel every open order of the login, also those placed in TWS."""

    @property
    def rank(self) -> int:
        """Higher is harder."""
        return list(HaltLevel).index(self)


@dataclass(frozen=True, slots=True)
class Halt:
    """A halt that is engaged. `since_time` is when it first was; `comment` says why, empty: nobody said."""

    level: HaltLevel
    since_time: datetime
    comment: str = ""
    owes_global_cancel: bool = False
    """The login's orders are still to be cancelled: IBKR could not be told yet."""


def halt_level_in(text: str) -> HaltLevel:
    """The level that a file's first word names. Whatever else is in it stops new orders: it was put there for that."""
    first, *_ = text.split() or [""]
    word = first.upper().replace("-", "_")
    return next((level for level in HaltLevel if word in (level, level.removesuffix("_CANCEL"))), HaltLevel.BLOCK_NEW)
