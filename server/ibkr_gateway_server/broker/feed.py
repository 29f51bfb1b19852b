"""One upstream feed of values that all count: single ticks of one contract and kind.

Unlike a quote's line it keeps no newest value: whoever listens gets every value of one socket read at once, and what
was missed is announced as a gap, never filled.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Sequence
from datetime import UTC, datetime
from typing import Protocol

from ibkr_gateway_server.broker import ib
from ibkr_gateway_server.broker.connection import Connection
from ibkr_gateway_server.broker.hours import silence_s
from ibkr_gateway_server.broker.keeping import BY_SILENCE, FARM_DOWN
from ibkr_gateway_server.broker.notices import is_notice
from ibkr_gateway_server.broker.numbers import number
from ibkr_gateway_server.broker.sinks import Sink
from ibkr_gateway_server.domain.errors import DomainError
from ibkr_gateway_server.domain.instruments import ContractDetails, Instrument
from ibkr_gateway_server.domain.streams import Gap
from ibkr_gateway_server.domain.ticks import Tick, TickType

log = logging.getLogger(__name__)


class FeedListener(Protocol):
    """Hears one feed; called on the event loop, and must not block."""

    def values(self, values: Sequence[Tick]) -> None: ...
    def gap(self, gap: Gap) -> None: ...
    def resumed(self, gap: Gap) -> None: ...
    def failed(self, error: DomainError) -> None: ...


class FeedOwner(Protocol):
    """Who keeps feeds."""

    def refused(self, feed: TickFeed, code: int, text: str) -> DomainError:
        """IBKR has ended this feed; returns what its readers fail with."""
        ...


class TickFeed(Sink):
    """One reqTickByTickData and who listens.

    `gap` stands from the loss of the feed until the first value after it; `failure` is final; `retry_at`, on the loop's
    clock, is when a silent feed is asked for again.
    """

    request_name = "reqTickByTickData"

    def __init__(self, instrument: Instrument, tick_type: TickType, owner: FeedOwner) -> None:
        self.instrument = instrument
        self.tick_type = tick_type
        self.details: ContractDetails | None = None
        self.listeners: dict[FeedListener, None] = {}
        self.subscriber_count = 0
        self.linger: asyncio.TimerHandle | None = None
        self.connection: Connection | None = None
        self.request_id = 0
        self.gap: Gap | None = None
        self.retry_at: float | None = None
        self.retry_cause = BY_SILENCE
        self.heard_time: datetime | None = None
        self.failure: DomainError | None = None
        self._owner = owner
        self._new: list[Tick] = []

    @property
    def key(self) -> tuple[int, TickType]:
        """What tells it from every other feed."""
        return self.instrument.con_id, self.tick_type

    @property
    def is_owed(self) -> bool:
        """True while its ticks should flow and do not."""
        return self.gap is not None

    # --- what is sent --------------------------------------------------------------------------------------------

    def request(self, connection: Connection, contract: ib.Contract) -> None:
        """Ask for it under a new request id."""
        self.detach()
        self.connection, self.request_id = connection, connection.request_id()
        connection.listen(self.request_id, self)
        self.heard_time = connection.callbacks.now()
        # No past ticks, and changes of size alone are changes too.
        connection.client.reqTickByTickData(self.request_id, contract, str(self.tick_type), 0, False)

    def detach(self) -> None:
        """Its request is forgotten: what still comes under it is ignored."""
        if self.connection is not None:
            self.connection.unlisten(self.request_id)
        self.connection = None
        self._new = []

    # --- what TWS sends ------------------------------------------------------------------------------------------

    def trade_tick(self, time: int, price: float, size: float, exchange: str, special_conditions: str) -> None:
        self._new.append(
            Tick(
                _moment(time),
                price=number(price),
                size=number(size),
                exchange=exchange,
                special_conditions=special_conditions.strip(),
            )
        )

    def bid_ask_tick(self, time: int, bid: float, ask: float, bid_size: float, ask_size: float) -> None:
        has_bid, has_ask = _is_quoted(bid, bid_size), _is_quoted(ask, ask_size)
        self._new.append(
            Tick(
                _moment(time),
                bid_price=number(bid) if has_bid else None,
                ask_price=number(ask) if has_ask else None,
                bid_size=number(bid_size) if has_bid else None,
                ask_size=number(ask_size) if has_ask else None,
            )
        )

    def midpoint_tick(self, time: int, midpoint: float) -> None:
        self._new.append(Tick(_moment(time), price=number(midpoint)))

    def error(self, code: int, text: str) -> None:
        if is_notice(code):
            log.info("notice about a tick-by-tick feed", extra={"ibkr_code": code})
            return
        # What came before the end is still told.
        self.batch_end()
        self.failure = self._owner.refused(self, code, text)
        self._tell("failed", self.failure)

    def batch_end(self) -> None:
        """One read is in: publish what it brought, once."""
        if not self._new or self.connection is None:
            return
        values, self._new = tuple(self._new), []
        self.heard_time = self.connection.callbacks.received_time
        if self.gap is not None:
            gap, self.gap, self.retry_at = self.gap, None, None
            self._tell("resumed", gap)
        self._tell("values", values)

    def lose(self, reason: str, now: datetime) -> None:
        """It is interrupted: values may be missing from here on. One loss after another is still one gap."""
        # What came in the same read was before it.
        self.batch_end()
        self.retry_at = None
        if self.gap is None:
            self.gap = Gap(reason, now)
            self._tell("gap", self.gap)

    def age(self, now: datetime, stale_after_s: float, reason: str) -> None:
        """Silence alone means nothing, since ticks are rare; while a data farm is down it may be a loss."""
        since = self.heard_time
        if reason != FARM_DOWN or since is None or self.gap is not None:
            return
        if silence_s(self.details, since, now) > stale_after_s:
            self.lose(reason, since)

    def overdue(self) -> None:
        """Its gap says already that it does not flow."""

    def _tell(self, what: str, *values: object) -> None:
        for listener in list(self.listeners):
            try:
                getattr(listener, what)(*values)
            except Exception:
                # One reader's fault must not keep the others from hearing.
                log.exception("a reader of ticks failed")


def _is_quoted(price: float, size: float) -> bool:
    """TWS sends 0 or -1 without a size for "none"; prices of spreads and oil may be 0 or below with one."""
    return size > 0 or price not in (0, -1)


def _moment(seconds: int) -> datetime | None:
    """Seconds since the epoch as UTC; None where they are none."""
    try:
        return datetime.fromtimestamp(seconds, UTC) if seconds > 0 else None
    except (ValueError, OverflowError, OSError):
        return None
