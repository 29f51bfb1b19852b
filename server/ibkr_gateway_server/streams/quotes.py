"""Quote streams: each subscriber gets the newest quote of each instrument, and is told of everything that is not a
quote.

There is no queue of quotes anywhere. For each subscriber and instrument the newest is kept with a count of those it
replaced; what changes the meaning of quotes (a gap, a resumption, an error) is kept in order and never conflated. A
subscriber that stops reading costs the others nothing and the server one quote per instrument.
"""

from __future__ import annotations

import asyncio
import itertools
from collections import deque
from collections.abc import AsyncIterator, Callable, Sequence
from dataclasses import dataclass, field
from datetime import datetime
from types import TracebackType
from typing import Self

from ibkr_gateway_server.broker.line import Line
from ibkr_gateway_server.broker.market_data import MarketData
from ibkr_gateway_server.domain.errors import DomainError
from ibkr_gateway_server.domain.instruments import Instrument
from ibkr_gateway_server.domain.orders import BrokerNotice
from ibkr_gateway_server.domain.quotes import MarketDataType, Quote
from ibkr_gateway_server.domain.sessions import SessionStatus
from ibkr_gateway_server.domain.streams import (
    WHOLE_STREAM,
    DataTypeChanged,
    Draining,
    Gap,
    QuoteEvent,
    QuoteHappening,
    Resumed,
    SnapshotBegin,
    SnapshotEnd,
    Stale,
)
from ibkr_gateway_server.domain.tallies import CONFLATED
from ibkr_gateway_server.streams.hub import Hub
from ibkr_gateway_server.streams.opening import Opening

# State changes of one instrument that a reader has not taken; one that lets so many gather is not reading at all, and
# only the newest count.
STATES_KEPT = 16


class QuoteHub(Hub["QuoteSubscription"]):
    """Opens quote streams, and ends them all when the server drains."""

    def __init__(self, market_data: MarketData, session_status: Callable[[], SessionStatus]) -> None:
        self.tallies = market_data.tallies
        self.market_data = market_data
        super().__init__(session_status)
        self._sequence = itertools.count(1)

    def subscribe(
        self,
        instruments: Sequence[Instrument],
        *,
        min_interval_s: float = 0.0,
        heartbeat_s: float = 15.0,
        early: Gap | None = None,
    ) -> QuoteSubscription:
        """A stream of these instruments: enter it to acquire their lines, iterate it for batches of events.

        `early` is a gap that has been told already, which the first quotes end. Raises ShuttingDown.
        """
        self._refuse_when_draining()
        return QuoteSubscription(self, instruments, min_interval_s, heartbeat_s, early)


class QuoteSubscription:
    """One subscriber. An async context manager and an async iterator of non-empty batches, oldest event first."""

    def __init__(
        self,
        hub: QuoteHub,
        instruments: Sequence[Instrument],
        min_interval_s: float,
        heartbeat_s: float,
        early: Gap | None,
    ) -> None:
        self.tallies = hub.tallies
        self._hub = hub
        self._slots = [
            _Slot(self, hub.market_data, index, instrument, early) for index, instrument in enumerate(instruments)
        ]
        self._min_interval_s = min_interval_s
        self._heartbeat_s = heartbeat_s
        self._states: deque[tuple[int, QuoteHappening, int]] = deque(maxlen=STATES_KEPT * (len(self._slots) + 1))
        self._changed: dict[_Slot, None] = {}
        self._wake = asyncio.Event()
        self._is_ended = False
        self._is_beat_due = False
        self._beat: asyncio.TimerHandle | None = None

    async def __aenter__(self) -> Self:
        self._hub._open.add(self)
        self.state(WHOLE_STREAM, SnapshotBegin())
        try:
            async with asyncio.TaskGroup() as opening:
                for slot in self._slots:
                    opening.create_task(slot.open())
        except BaseException:
            await self._close()
            raise
        if self._hub._draining is not None:
            self.end(self._hub._draining)
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        await self._close()

    async def __aiter__(self) -> AsyncIterator[tuple[QuoteEvent, ...]]:
        # One timer for each heartbeat and none for each event: a busy stream would only set and cancel it.
        self._set_beat()
        yield self._snapshot()
        while not self._is_ended or self._states:
            await self._wake.wait()
            if self._min_interval_s and not self._is_ended:
                await asyncio.sleep(self._min_interval_s)
            self._wake.clear()
            events = self._take()
            if self._is_beat_due:
                # A busy stream needs its heartbeats as well: they carry the session's state.
                self._set_beat()
                events.append(self._event(WHOLE_STREAM, self._hub.heartbeat()))
            if events:
                yield tuple(events)

    def end(self, draining: Draining) -> None:
        """Tell the subscriber that the server stops; its iteration ends after that."""
        self.state(WHOLE_STREAM, draining)
        self._is_ended = True

    def state(self, index: int, happening: QuoteHappening, conflated_count: int = 0) -> None:
        """Something that must be told in order."""
        self._states.append((index, happening, conflated_count))
        self._wake.set()

    def _set_beat(self) -> None:
        self._is_beat_due = False
        self._beat = asyncio.get_running_loop().call_later(self._heartbeat_s, self._let_beat)

    def _let_beat(self) -> None:
        self._is_beat_due = True
        self._wake.set()

    def _snapshot(self) -> tuple[QuoteEvent, ...]:
        """Every quote that is there already, between its marks."""
        return (*self._take(), self._event(WHOLE_STREAM, SnapshotEnd()))

    def _take(self) -> list[QuoteEvent]:
        """All that has gathered: first what changed, then the newest quotes."""
        events = [self._event(*state) for state in self._states]
        self._states.clear()
        if self._changed:
            # Written out rather than called: this is done for every quote and subscriber.
            changed, self._changed, conflated = self._changed, {}, 0
            sequence = self._hub._sequence
            for slot in changed:
                count, slot.waiting_count = slot.waiting_count, 0
                if count and slot.line is not None and (quote := slot.line.quote) is not None:
                    conflated += count - 1
                    events.append(QuoteEvent(next(sequence), quote, slot.index, count - 1))
            if conflated:
                self.tallies.add(CONFLATED, by=conflated)
        return events

    def _event(self, index: int, happening: QuoteHappening, conflated_count: int = 0) -> QuoteEvent:
        return QuoteEvent(next(self._hub._sequence), happening, index, conflated_count)

    async def _close(self) -> None:
        self._hub._open.discard(self)
        if self._beat is not None:
            self._beat.cancel()
        for slot in self._slots:
            await slot.close()


@dataclass(eq=False, slots=True)
class _Slot:
    """One instrument of one subscriber: how many quotes of its line the next one that is taken stands for.

    `early` is the gap that it began with, until its first quote.
    """

    subscription: QuoteSubscription
    market_data: MarketData
    index: int
    instrument: Instrument
    early: Gap | None = None
    line: Line | None = None
    waiting_count: int = 0
    opening: Opening = field(init=False)

    def __post_init__(self) -> None:
        self.opening = Opening(self, self.market_data.until_served)

    async def open(self) -> None:
        """Take the instrument's line, now or later. One that fails says so in its own event; the others go on."""
        try:
            await self.opening.begin()
        except DomainError as error:
            self.failed(error)

    async def take(self) -> None:
        """Take the instrument's line. Raises the errors of `MarketData.acquire`."""
        self.line = await self.market_data.acquire(self.instrument)
        self.line.listeners[self] = None
        if self.line.gap is not None:
            self.subscription.state(self.index, self.line.gap)
        elif self.line.quote is not None:
            self.changed()
        if (staleness := self.line.staleness) is not None:
            self.stale(staleness.since_time, staleness.reason)

    def begin_in_gap(self, gap: Gap) -> None:
        if self.early is None:
            self.early = gap
            self.subscription.state(self.index, gap)

    async def close(self) -> None:
        await self.opening.end()
        self._count_conflated()
        line, self.line = self.line, None
        if line is not None:
            line.listeners.pop(self, None)
            self.market_data.release(line)

    def newest(self) -> tuple[Quote, int] | None:
        """The newest quote and how many it has replaced; None when there is nothing new."""
        count = self._count_conflated()
        if not count or self.line is None or (quote := self.line.quote) is None:
            return None
        return quote, count - 1

    def changed(self) -> None:
        if not self.waiting_count:
            if self.early is not None:
                self.resumed(self.early.start_time)
            subscription = self.subscription
            subscription._changed[self] = None
            subscription._wake.set()
        self.waiting_count += 1

    def gap(self, reason: str, start_time: datetime) -> None:
        # A quote from before the gap must not be told after it.
        self._count_conflated()
        if self.early is None:
            self.subscription.state(self.index, Gap(reason, start_time))

    def resumed(self, gap_start_time: datetime) -> None:
        if self.early is not None:
            gap_start_time, self.early = self.early.start_time, None
        self.subscription.state(self.index, Resumed(recovered=False, gap_start_time=gap_start_time))

    def stale(self, since_time: datetime, reason: str) -> None:
        self._tell_newest()
        self.subscription.state(self.index, Stale(since_time, reason))

    def data_type(self, market_data_type: MarketDataType) -> None:
        # What waits is of the type before.
        self._tell_newest()
        self.subscription.state(self.index, DataTypeChanged(market_data_type))

    def notice(self, notice: BrokerNotice) -> None:
        self.subscription.state(self.index, notice)

    def failed(self, error: DomainError) -> None:
        self._tell_newest()
        self.subscription.state(self.index, error)

    def _count_conflated(self) -> int:
        """Those that wait are taken, or never will be. Returns how many there were."""
        count, self.waiting_count = self.waiting_count, 0
        if count > 1:
            self.subscription.tallies.add(CONFLATED, by=count - 1)
        return count

    def _tell_newest(self) -> None:
        """A quote that is waiting goes before what now says that it is old: read after it, it would look new."""
        if (newest := self.newest()) is not None:
            self.subscription.state(self.index, *newest)
