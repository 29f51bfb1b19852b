"""The words in which a stream speaks of itself, and the events of quote and tick streams."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime
from typing import NamedTuple

from ibkr_gateway_server.domain.errors import DomainError
from ibkr_gateway_server.domain.orders import BrokerNotice
from ibkr_gateway_server.domain.quotes import MarketDataType, Quote
from ibkr_gateway_server.domain.sessions import SessionState
from ibkr_gateway_server.domain.ticks import Tick


@dataclass(frozen=True, slots=True)
class SnapshotBegin:
    """Everything until SnapshotEnd is the state as of now."""


@dataclass(frozen=True, slots=True)
class SnapshotEnd:
    """The state is complete; what follows are changes."""


@dataclass(frozen=True, slots=True)
class Heartbeat:
    """The stream lives, and so stands the session."""

    send_time: datetime
    session_state: SessionState
    epoch: int


@dataclass(frozen=True, slots=True)
class Gap:
    """Events may be missing from `start_time` on."""

    reason: str
    start_time: datetime


@dataclass(frozen=True, slots=True)
class Resumed:
    """The gap has ended; `recovered` when everything missed has been told since."""

    recovered: bool
    gap_start_time: datetime


@dataclass(frozen=True, slots=True)
class Stale:
    """The last value is old."""

    since_time: datetime
    reason: str


@dataclass(frozen=True, slots=True)
class DataTypeChanged:
    """What follows is of this type."""

    market_data_type: MarketDataType


@dataclass(frozen=True, slots=True)
class Draining:
    """The server is stopping; the stream ends at the deadline at the latest."""

    deadline: datetime


QuoteHappening = (
    Quote
    | SnapshotBegin
    | SnapshotEnd
    | Heartbeat
    | Gap
    | Resumed
    | Stale
    | DataTypeChanged
    | BrokerNotice
    | Draining
    | DomainError
)

WHOLE_STREAM = -1


class QuoteEvent(NamedTuple):
    """One event of a quote stream. `instrument_index` is the position in the request; -1: the stream as a whole.

    One is made for each quote and subscriber: a tuple is the cheapest thing to make.
    """

    sequence: int
    happening: QuoteHappening
    instrument_index: int = WHOLE_STREAM
    conflated_count: int = 0


TickHappening = Tick | Heartbeat | Gap | Resumed | Draining | DomainError


@dataclass(frozen=True, slots=True)
class TickEvent:
    """One event of a tick stream."""

    sequence: int
    happening: TickHappening
