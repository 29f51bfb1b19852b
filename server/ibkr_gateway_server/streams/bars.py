"""Bar streams: history first where it is wanted, then every bar as it grows and once more when it is complete.

A bar replaces the one of the same start that its reader has not taken yet, so that a slow reader gets the newest of
each and misses none. One that lets 1,000 different bars gather is cut off with SLOW_CONSUMER.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

from ibkr_gateway_server.broker.bar_feed import BarFeed
from ibkr_gateway_server.broker.live_bars import LiveBars
from ibkr_gateway_server.domain.bars import Bar, HistorySpan, LiveBarsRequest
from ibkr_gateway_server.domain.errors import ReaderTooSlow
from ibkr_gateway_server.domain.sessions import SessionStatus
from ibkr_gateway_server.domain.streams import Gap, Resumed, SnapshotBegin, SnapshotEnd, Stale
from ibkr_gateway_server.domain.tallies import SLOW_CONSUMERS
from ibkr_gateway_server.streams.hub import Hub
from ibkr_gateway_server.streams.reader import Reader

# Bars and changes of state that may wait for one reader.
WAITING_LIMIT = 1_000
# How long history that is asked for apart may take.
HISTORY_TIMEOUT_S = 30.0

BarHappening = Bar | SnapshotBegin | SnapshotEnd | Gap | Resumed | Stale


@dataclass(frozen=True, slots=True)
class _Snapshot:
    """History, as one thing that waits."""

    bars: Sequence[Bar]


class BarHub(Hub[Reader[BarHappening]]):
    """Opens bar streams, and ends them all when the server drains."""

    def __init__(
        self, feeds: LiveBars, session_status: Callable[[], SessionStatus], waiting_limit: int = WAITING_LIMIT
    ) -> None:
        super().__init__(session_status)
        self.feeds = feeds
        self.waiting_limit = waiting_limit

    def subscribe(
        self,
        wanted: LiveBarsRequest,
        *,
        heartbeat_s: float = 15.0,
        timeout_s: float = HISTORY_TIMEOUT_S,
        early: Gap | None = None,
    ) -> BarSubscription:
        """A stream: enter it to acquire its feed, iterate it for batches.

        `early` is a gap that has been told already, which the first bars end. Raises ShuttingDown.
        """
        self._refuse_when_draining()
        return BarSubscription(self, wanted, heartbeat_s, timeout_s, early)


class BarSubscription(Reader[BarHappening]):
    """One subscriber.

    Entering raises the errors of `LiveBars.acquire` and `LiveBars.longer_history` that waiting cannot mend.
    """

    def __init__(
        self, hub: BarHub, wanted: LiveBarsRequest, heartbeat_s: float, timeout_s: float, early: Gap | None
    ) -> None:
        super().__init__(hub, heartbeat_s, hub.feeds.until_served, early)
        self._feeds = hub.feeds
        self._limit = hub.waiting_limit
        self._wanted = wanted
        self._timeout_s = timeout_s
        self._feed: BarFeed | None = None
        # By what was said before it and its start: a bar stays on its side of a gap.
        self._waiting: dict[tuple[int, object], BarHappening | _Snapshot] = {}
        self._said_count = 0
        self._is_catching_up = False

    @property
    def history(self) -> HistorySpan | None:
        """How much history it wants."""
        return self._wanted.history

    async def take(self) -> None:
        feed = self._feed
        if feed is None:
            feed = self._feed = await self._feeds.acquire(self._wanted)
            feed.listeners[self] = None
        if feed.gap is None and feed.is_loaded and not self._wanted.is_real_time:
            self.flows()
        if self.history is not None and not feed.covers(self.history):
            self._is_catching_up = True
            try:
                self._begin(await self._feeds.longer_history(feed, self._wanted, self._timeout_s))
            finally:
                self._is_catching_up = False
        elif self.history is not None and feed.is_loaded:
            self._begin(feed.bars)
        elif self.history is None and feed.is_loaded and not self._wanted.is_real_time:
            # The one that grows is live, and the rest was not asked for.
            self.bars([bar for bar in feed.bars[-1:] if not bar.is_complete])
        if feed.gap is not None:
            self.gap(feed.gap)
        elif feed.told_stale is not None:
            self.stale(feed.told_stale)
        if feed.failure is not None:
            self.failed(feed.failure)

    def _close(self) -> None:
        feed, self._feed = self._feed, None
        if feed is not None:
            feed.listeners.pop(self, None)
            self._feeds.release(feed)

    def bars(self, bars: Sequence[Bar]) -> None:
        """New or changed bars."""
        if not self._is_catching_up:
            self.flows()
            for bar in bars:
                self._put((self._said_count, bar.start), bar)

    def loaded(self, bars: Sequence[Bar], news: Sequence[Bar]) -> None:
        """History has come: it replaces what was told before, where it is as long as was asked for."""
        if self._is_catching_up:
            return
        if self._feed is not None and self._feed.gap is None:
            self.flows()
        if self.history is not None and self._feed is not None and self._feed.covers(self.history):
            self._begin(bars)
        else:
            self.bars(news)

    def stale(self, stale: Stale) -> None:
        self._say(stale)

    def _begin(self, bars: Sequence[Bar]) -> None:
        """Every bar that waits is in these."""
        self._waiting = {
            place: waiting for place, waiting in self._waiting.items() if not isinstance(waiting, Bar | _Snapshot)
        }
        self._say(_Snapshot(bars))

    def _say(self, said: BarHappening | _Snapshot) -> None:
        """Something between bars, with a place of its own."""
        self._said_count += 1
        self._put((self._said_count, None), said)

    def _put(self, place: tuple[int, object], happening: BarHappening | _Snapshot) -> None:
        if self._failure is not None:
            return
        if place not in self._waiting and len(self._waiting) >= self._limit:
            self._feeds.tallies.add(SLOW_CONSUMERS)
            self.failed(ReaderTooSlow(self._limit))
            return
        self._waiting[place] = happening
        self._wake.set()

    def _take(self) -> list[BarHappening]:
        taken: list[BarHappening] = []
        for waiting in self._waiting.values():
            if isinstance(waiting, _Snapshot):
                taken += (SnapshotBegin(), *waiting.bars, SnapshotEnd())
            else:
                taken.append(waiting)
        self._waiting = {}
        return taken
