"""One upstream market-data line: TWS's ticks become the newest Quote, of which readers are told once per socket read.

TWS sends a quote in pieces: prices, sizes and strings under tick numbers, live and delayed ones under different
numbers. Sentinels end here: what TWS does not know is absent. Live and delayed values never stand in one quote: when
the one kind takes the place of the other, the quote begins anew.

This is the hot path: a tick sets one or two values and nothing more, and the quote itself is made when the first reader
looks at it, since under load most are replaced before anybody does.
"""

from __future__ import annotations

import asyncio
import logging
from dataclasses import replace
from datetime import datetime
from typing import Any, Protocol

from ibkr_gateway_server.broker.connection import Connection
from ibkr_gateway_server.broker.hours import silence_s
from ibkr_gateway_server.broker.keeping import BY_SILENCE, NO_TICKS
from ibkr_gateway_server.broker.notices import is_notice
from ibkr_gateway_server.broker.numbers import number
from ibkr_gateway_server.broker.sinks import OptionComputation, Sink
from ibkr_gateway_server.broker.tick_types import (
    FIRST_DELAYED,
    HALTED,
    LAST_TIMESTAMPS,
    MODEL_GREEKS,
    NATURAL_FIELDS,
    PLAIN,
    PRICES,
    SHOWN_PRICES,
    SIZE_OF_PRICE,
    SIZES,
    USUAL_FIELDS,
    greeks,
    is_no_price,
    moment,
)
from ibkr_gateway_server.domain.errors import CompetingSession, DomainError, Reason
from ibkr_gateway_server.domain.instruments import ContractDetails, Instrument
from ibkr_gateway_server.domain.orders import BrokerNotice
from ibkr_gateway_server.domain.quotes import MarketDataType, Quote
from ibkr_gateway_server.domain.streams import Gap, Stale
from ibkr_gateway_server.domain.tallies import COMPETING_SESSIONS, SENTINELS, Tallies

log = logging.getLogger(__name__)

_DELAYED_TYPES = frozenset({MarketDataType.DELAYED, MarketDataType.DELAYED_FROZEN})
_MARKET_DATA_TYPES = frozenset(MarketDataType)

COMPETING_SESSION = 10197
_READER_FAILED = "a reader of market data failed"


class LineListener(Protocol):
    """Hears one line; called once per socket read, on the event loop, and must not block.

    `changed`: the line has a newer quote than the last, to be looked at when its reader wants one.
    """

    def changed(self) -> None: ...
    def gap(self, reason: str, start_time: datetime) -> None: ...
    def resumed(self, gap_start_time: datetime) -> None: ...
    def stale(self, since_time: datetime, reason: str) -> None: ...
    def data_type(self, market_data_type: MarketDataType) -> None: ...
    def notice(self, notice: BrokerNotice) -> None: ...
    def failed(self, error: DomainError) -> None: ...


class LineOwner(Protocol):
    """Who keeps lines."""

    tallies: Tallies

    def outbid(self, line: Line) -> bool:
        """Its live data goes to another login; returns whether it is asked for otherwise."""
        ...

    def regained(self, line: Line) -> None:
        """Its live data is back."""
        ...

    def refused(self, line: Line, code: int, text: str) -> DomainError:
        """IBKR has ended this line; returns what its readers fail with."""
        ...


class Line(Sink):
    """One upstream subscription: the newest quote and who listens.

    `gap` stands from the loss of the feed until the first price after it; `failure` is final; `is_asked` from a request
    until its first price; `staleness` from the word that the quote is old until the next one. `is_outbid`: its live
    data goes to another login; `is_fallback`: it is asked for as delayed meanwhile; `interruption` is why there is
    nothing at all.
    """

    def __init__(self, instrument: Instrument, owner: LineOwner) -> None:
        self.instrument = instrument
        self.details: ContractDetails | None = None
        self.listeners: dict[LineListener, None] = {}
        self.subscriber_count = 0
        self.linger: asyncio.TimerHandle | None = None
        self.connection: Connection | None = None
        self.request_id = 0
        self.requested_time: datetime | None = None
        self.is_asked = False
        self.gap: Gap | None = None
        self.retry_at: float | None = None
        self.retry_cause = BY_SILENCE
        self.failure: DomainError | None = None
        self.interruption: CompetingSession | None = None
        self.is_outbid = False
        self.is_fallback = False
        self.staleness: Stale | None = None
        self.arrived = asyncio.Event()
        self.first_price_at: float | None = None
        self._owner = owner
        self._values: dict[str, Any] = {}
        self._type: MarketDataType | None = None
        self._told_type: MarketDataType | None = None
        self._has_ticked = False
        self._dirty = False
        self._quote: Quote | None = None
        self._receive_time: datetime | None = None
        self._is_unmade = False

    # --- what TWS sends ------------------------------------------------------------------------------------------

    def tick_price(self, tick_type: int, price: float, size: float) -> None:
        name = PRICES.get(tick_type)
        if name is None:
            return
        if 0 < price < PLAIN and 0 < size < PLAIN and tick_type < FIRST_DELAYED:
            # Nearly all of them.
            values = self._values
            values[name] = price
            if (size_name := SIZE_OF_PRICE.get(name)) is not None:
                values[size_name] = size
            self._has_ticked = self._dirty = True
            return
        self._note_delay(tick_type)
        # Written so that a size of nan is none.
        absent = not size > 0 and is_no_price(name, price, self.instrument.security_type)
        self._set(name, None if absent else number(price))
        if size_name := SIZE_OF_PRICE.get(name):
            self._set_size(size_name, 0.0 if absent else size)
        self._has_ticked = True

    def tick_size(self, tick_type: int, size: float) -> None:
        name = SIZES.get(tick_type)
        if name is not None and 0 < size < PLAIN and tick_type < FIRST_DELAYED:
            self._values[name] = size
            self._dirty = True
        elif name is not None:
            self._note_delay(tick_type)
            if size == 0 and name == "volume":
                # No volume yet is a fact; no size beside a price means that the size is not known.
                self._set(name, 0.0)
            else:
                self._set_size(name, size)

    def tick_string(self, tick_type: int, value: str) -> None:
        if tick_type in LAST_TIMESTAMPS and (traded := moment(value)) is not None:
            self._note_delay(tick_type)
            self._set("exchange_time", traded)

    def tick_generic(self, tick_type: int, value: float) -> None:
        if tick_type in HALTED:
            # -1: not known, 0: trading, 1 and 2: halted.
            known = number(value)
            self._set("halted", None if known is None or known < 0 else known > 0)

    def option_computation(self, tick_type: int, values: OptionComputation) -> None:
        if tick_type in MODEL_GREEKS:
            self._note_delay(tick_type)
            self._set("greeks", greeks(values))

    def data_type(self, market_data_type: int) -> None:
        if market_data_type not in _MARKET_DATA_TYPES:
            return
        # Made while its type is still that it was told of with.
        _ = self.quote
        before, self._type = self._type, MarketDataType(market_data_type)
        if self._type is before:
            return
        if (before in _DELAYED_TYPES) is not (self._type in _DELAYED_TYPES):
            self._begin_anew()
            self._values = {}
        self._dirty = True

    def error(self, code: int, text: str) -> None:
        if code == COMPETING_SESSION:
            self._lose_to_another(code)
        elif is_notice(code):
            self._tell("notice", BrokerNotice(code, text))
        elif self.is_fallback and self.is_outbid:
            # There is no delayed data either; the live data will be back.
            self.interruption = CompetingSession()
        else:
            self.failure = self._owner.refused(self, code, text)
            self._tell("failed", self.failure)
        self.arrived.set()

    def batch_end(self) -> None:
        """One read is in: publish what it changed, once."""
        if not self._dirty or self.connection is None:
            return
        self._dirty = False
        if self.first_price_at is None:
            # A line begins with its parameters; a quote without any price would only look like one that has lost them,
            # and one without a new price like news.
            if not (self._has_ticked and any(name in self._values for name in SHOWN_PRICES)):
                return
            self.first_price_at = asyncio.get_running_loop().time()
            self._begin()
        self.staleness = self.retry_at = None
        if self._type is not self._told_type:
            self._tell_type()
        self._receive_time = self.connection.callbacks.received_time
        self._is_unmade = True
        if self.gap is not None:
            gap, self.gap = self.gap, None
            self._tell("resumed", gap.start_time)
        for listener in self.listeners:
            try:
                listener.changed()
            except Exception:
                log.exception(_READER_FAILED)
        self.arrived.set()

    # --- what happens to it --------------------------------------------------------------------------------------

    @property
    def quote(self) -> Quote | None:
        """The newest quote: the same object for everybody until the next read brings another."""
        if self._is_unmade:
            self._is_unmade = False
            assert self._receive_time is not None
            self._quote = Quote(
                instrument=self.instrument,
                receive_time=self._receive_time,
                market_data_type=self._type,
                **self._values,
            )
        return self._quote

    @property
    def is_fresh(self) -> bool:
        """True when its quote is of this feed and not old."""
        quote = self.quote
        return quote is not None and self.gap is None and not quote.is_stale

    @property
    def is_whole(self) -> bool:
        """True when its quote is fresh and has all that its type usually has."""
        kind = self.instrument.security_type
        wanted = NATURAL_FIELDS.get(kind, USUAL_FIELDS) if kind else USUAL_FIELDS
        return self.is_fresh and all(getattr(self.quote, name) is not None for name in wanted)

    @property
    def heard_time(self) -> datetime | None:
        """When something last came, or was asked for where nothing has; None: neither."""
        return self._receive_time or self.requested_time

    @property
    def is_owed(self) -> bool:
        """True while its data should flow and does not. Who is outbid is asked for again in another way."""
        if self.is_outbid:
            return False
        return self.gap is not None or self.staleness is not None or self._receive_time is None

    def lose(self, reason: str, now: datetime) -> None:
        """Its feed is gone; what it holds is history."""
        self._begin_anew()
        if self.gap is None:
            self.gap = Gap(reason, now)
            self._tell("gap", reason, now)
        self.retry_at, self.staleness, self.is_asked, self.is_outbid = None, None, False, False
        self.arrived.set()

    def detach(self) -> None:
        """Its request is forgotten: what still comes under it is ignored, and no old value may show again."""
        _ = self.quote
        if self.connection is not None:
            self.connection.unlisten(self.request_id)
        self.connection, self.is_fallback = None, False
        self._values = {}
        self._dirty = False

    def attach(self, connection: Connection, now: datetime) -> int:
        """Listen under a new request id, which is returned. Values stand: the feed begins with all that it has."""
        self._begin_anew()
        if self.connection is not None:
            self.connection.unlisten(self.request_id)
        self.connection, self.request_id = connection, connection.request_id()
        connection.listen(self.request_id, self)
        if self._type in _DELAYED_TYPES and not self.is_fallback:
            # Live until TWS says otherwise; it need not say so.
            self._type, self._values = MarketDataType.LIVE, {}
        self.requested_time, self.is_asked, self._dirty = now, True, False
        return self.request_id

    def age(self, now: datetime, stale_after_s: float, reason: str = NO_TICKS) -> None:
        """Mark the quote stale once nothing has come for so long, and say so where none has ever come.

        While its market is closed nothing has to come.
        """
        if self.gap is not None or self.staleness is not None or (since := self.heard_time) is None:
            return
        if (now - since).total_seconds() > stale_after_s and silence_s(self.details, since, now) > stale_after_s:
            self._mark_stale(reason)

    def overdue(self) -> None:
        """It should flow again by now, and does not."""
        if self.staleness is None and self.heard_time is not None:
            self._mark_stale(NO_TICKS)

    def _begin(self) -> None:
        """The first price of a request, or after an interruption, has come."""
        self.interruption, self.is_asked = None, False
        if self.is_outbid and not self.is_fallback and self._type not in _DELAYED_TYPES:
            self.is_outbid = False
            self._owner.regained(self)

    def _begin_anew(self) -> None:
        """What it has is not news any more: with the next price it begins. The newest quote is made while its values
        are still those that it was told of with."""
        _ = self.quote
        self.first_price_at, self._has_ticked = None, False

    def _lose_to_another(self, code: int) -> None:
        """Another login has the live data; said once, however often TWS says it."""
        if not self._owner.outbid(self):
            self.interruption = CompetingSession(code)
        if not self.is_outbid:
            self.is_outbid = True
            self._owner.tallies.add(COMPETING_SESSIONS)
            self._mark_stale(Reason.COMPETING_SESSION)
        self._begin_anew()

    def _mark_stale(self, reason: str) -> None:
        since = self.heard_time
        # Only what has been asked for can be stale.
        assert since is not None
        if self.quote is not None:
            self._quote = replace(self.quote, is_stale=True)
        self.staleness = Stale(since, reason)
        self._tell("stale", since, reason)

    def _tell_type(self) -> None:
        """What follows is of another type; the first is told by the quotes themselves."""
        self._told_type = self._type
        if self._receive_time is not None and self._type is not None:
            self._tell("data_type", self._type)

    def _note_delay(self, tick_type: int) -> None:
        """A delayed tick says what it is even where TWS has not announced the type."""
        if tick_type >= FIRST_DELAYED and self._type not in _DELAYED_TYPES:
            self.data_type(MarketDataType.DELAYED)

    def _set(self, name: str, value: object) -> None:
        if value is None:
            self._values.pop(name, None)
            self._owner.tallies.add(SENTINELS)
        else:
            self._values[name] = value
        self._dirty = True

    def _set_size(self, name: str, size: float) -> None:
        """TWS sends 0 for "no size"."""
        if size == 0:
            self._values.pop(name, None)
            self._dirty = True
        else:
            self._set(name, number(size) if size > 0 else None)

    def _tell(self, what: str, *values: object) -> None:
        for listener in list(self.listeners):
            try:
                getattr(listener, what)(*values)
            except Exception:
                # One reader's fault must not keep the others from hearing.
                log.exception(_READER_FAILED)
