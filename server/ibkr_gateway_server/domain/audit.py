"""The record's own words: events of the trail, filters and pages."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime
from typing import Generic, TypeVar

from ibkr_gateway_server.domain.orders import OrderState

T = TypeVar("T")

DEFAULT_PAGE_SIZE = 100
MAX_PAGE_SIZE = 1000


@dataclass(frozen=True, slots=True)
class AuditRecord:
    """One event of the trail. `body_json` is everything that has no column."""

    sequence: int
    record_time: datetime
    kind: str
    correlation_id: str
    client_order_id: str
    order_id: int
    perm_id: int
    body_json: str
    principal: str = ""
    epoch: int = 0


@dataclass(frozen=True, slots=True)
class AuditFilter:
    """Which events; empty and None mean: any."""

    kind: str = ""
    client_order_id: str = ""
    correlation_id: str = ""
    start_time: datetime | None = None
    end_time: datetime | None = None
    after_sequence: int = 0


@dataclass(frozen=True, slots=True)
class OrderFilter:
    """Which orders; empty and None mean: any. Times are those of the intent."""

    symbol: str = ""
    states: tuple[OrderState, ...] = ()
    start_time: datetime | None = None
    end_time: datetime | None = None


@dataclass(frozen=True, slots=True)
class ExecutionFilter:
    """Which executions; empty and None mean: any. Times are the exchange's."""

    account_id: str = ""
    symbol: str = ""
    client_order_id: str = ""
    start_time: datetime | None = None
    end_time: datetime | None = None


@dataclass(frozen=True, slots=True)
class PageRequest:
    """One page of a list, newest first. `before` is the sequence to go on below; 0: from the newest."""

    size: int = DEFAULT_PAGE_SIZE
    before: int = 0


@dataclass(frozen=True, slots=True)
class Page(Generic[T]):
    """Items, and where to go on; 0: nothing more."""

    items: tuple[T, ...]
    next_before: int = 0


@dataclass(frozen=True, slots=True)
class ChainCheck:
    """What a check of the chain found. `first_bad_sequence` 0: every hash fits.

    `watermark_sequence` is the highest sequence that there ever was; more than was checked: the end is missing.
    """

    checked_count: int
    first_bad_sequence: int = 0
    watermark_sequence: int = 0

    @property
    def is_valid(self) -> bool:
        """True when every hash fits."""
        return self.first_bad_sequence == 0


@dataclass(frozen=True, slots=True)
class Rollback:
    """A record that has fewer events than it once had, or others: it ended at `head_sequence` when that was first seen.

    `watermark_sequence` is what it once had; 0: that is not known, since the watermark is gone. Not `is_new`: it was
    seen in an earlier life of the gateway and not accepted since.
    """

    head_sequence: int
    watermark_sequence: int
    is_new: bool = True

    @property
    def lost_count(self) -> int:
        """Events that are known to be lost."""
        return max(self.watermark_sequence - self.head_sequence, 0)
