"""Tick streams: every tick in order, or an end that says why.

Ticks are never conflated: a reader that lets too many gather is cut off with SLOW_CONSUMER, so that what it has is
whole up to there. Each subscriber's memory is bounded by that limit.
"""

from __future__ import annotations

import asyncio
import itertools
from collections import deque
from collections.abc import AsyncIterator, Callable, Sequence
from types import TracebackType
from typing import Self

from ibkr_gateway_server.broker.feed import TickFeed
from ibkr_gateway_server.broker.feeds import TickFeeds
from ibkr_gateway_server.domain.errors import DomainError, ReaderTooSlow
from ibkr_gateway_server.domain.instruments import Instrument
from ibkr_gateway_server.domain.sessions import SessionStatus
from ibkr_gateway_server.domain.streams import Draining, Gap, Resumed, TickEvent, TickHappening
from ibkr_gateway_server.domain.tallies import SLOW_CONSUMERS
from ibkr_gateway_server.domain.ticks import Tick, TickType
from ibkr_gateway_server.domain.usage import Usage
from ibkr_gateway_server.streams.hub import Hub
from ibkr_gateway_server.streams.opening import Opening

# Ticks and changes of state that may wait for one reader.
WAITING_LIMIT = 10_000


class TickHub(Hub["TickSubscription"]):
    """Opens tick streams, and ends them all when the server drains."""

    def __init__(
        self, feeds: TickFeeds, session_status: Callable[[], SessionStatus], waiting_limit: int = WAITING_LIMIT
    ) -> None:
        self._feeds = feeds
        super().__init__(session_status)
        self._waiting_limit = waiting_limit
        self._sequence = itertools.count(1)

    def usage(self) -> Usage:
        """Feeds in use, and how many there may be."""
        return self._feeds.usage()

    def subscribe(
        self, instrument: Instrument, tick_type: TickType, *, heartbeat_s: float = 15.0, early: Gap | None = None
    ) -> TickSubscription:
        """A stream: enter it to acquire its feed, iterate it for batches of events.

        `early` is a gap that has been told already, which the first tick ends. Raises ShuttingDown.
        """
        self._refuse_when_draining()
        return TickSubscription(self, instrument, tick_type, heartbeat_s, early)


class TickSubscription:
    """One subscriber. An async context manager and an async iterator of non-empty batches, oldest event first.

    Entering raises the errors of `TickFeeds.acquire` that waiting cannot mend. When the feed fails, the last event is
    the error, which iterating then raises; so it does when the reader is too slow.
    """

    def __init__(
        self, hub: TickHub, instrument: Instrument, tick_type: TickType, heartbeat_s: float, early: Gap | None
    ) -> None:
        self._hub = hub
        self._instrument = instrument
        self._tick_type = tick_type
        self._heartbeat_s = heartbeat_s
        self._feed: TickFeed | None = None
        # The gap that it began with, until its first tick.
        self._early = early
        self._opening = Opening(self, hub._feeds.until_served)
        self._waiting: deque[TickHappening] = deque()
        self._wake = asyncio.Event()
        self._is_ended = False
        self._failure: DomainError | None = None

    async def __aenter__(self) -> Self:
        await self._opening.begin()
        self._hub.enter(self)
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._hub.leave(self)
        await self._opening.end()
        feed, self._feed = self._feed, None
        if feed is not None:
            feed.listeners.pop(self, None)
            self._hub._feeds.release(feed)

    async def __aiter__(self) -> AsyncIterator[tuple[TickEvent, ...]]:
        loop = asyncio.get_running_loop()
        heartbeat_at = loop.time() + self._heartbeat_s
        while True:
            try:
                async with asyncio.timeout_at(heartbeat_at):
                    await self._wake.wait()
            except TimeoutError:
                pass
            self._wake.clear()
            events = [self._event(happening) for happening in self._waiting]
            self._waiting.clear()
            failure, is_ended = self._failure, self._is_ended
            if failure is not None:
                events.append(self._event(failure))
            elif loop.time() >= heartbeat_at:
                # A busy stream needs its heartbeats as well: they carry the session's state.
                heartbeat_at = loop.time() + self._heartbeat_s
                events.append(self._event(self._hub.heartbeat()))
            if events:
                yield tuple(events)
            if failure is not None:
                raise failure
            if is_ended:
                return

    async def take(self) -> None:
        """Take the feed. Raises the errors of `TickFeeds.acquire`."""
        feed = self._feed = await self._hub._feeds.acquire(self._instrument, self._tick_type)
        feed.listeners[self] = None
        if feed.gap is not None:
            self.gap(feed.gap)
        if feed.failure is not None:
            self.failed(feed.failure)

    def begin_in_gap(self, gap: Gap) -> None:
        if self._early is None:
            self._early = gap
            self._put((gap,))

    def values(self, values: Sequence[Tick]) -> None:
        if self._early is not None:
            self.resumed(self._early)
        self._put(values)

    def gap(self, gap: Gap) -> None:
        if self._early is None:
            self._put((gap,))

    def resumed(self, gap: Gap) -> None:
        gap, self._early = self._early or gap, None
        self._put((Resumed(recovered=False, gap_start_time=gap.start_time),))

    def failed(self, error: DomainError) -> None:
        """Nothing comes after this."""
        self._failure = self._failure or error
        self._wake.set()

    def end(self, draining: Draining) -> None:
        """Tell the subscriber that the server stops; its iteration ends after that."""
        self._put((draining,))
        self._is_ended = True

    def _put(self, happenings: Sequence[TickHappening]) -> None:
        if self._failure is not None:
            return
        room = self._hub._waiting_limit - len(self._waiting)
        self._waiting.extend(happenings[:room])
        if len(happenings) > room:
            self._hub._feeds.tallies.add(SLOW_CONSUMERS)
            self.failed(ReaderTooSlow(self._hub._waiting_limit))
        self._wake.set()

    def _event(self, happening: TickHappening) -> TickEvent:
        return TickEvent(next(self._hub._sequence), happening)
