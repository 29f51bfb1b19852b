"""Depth streams: the whole book each time, the newest alone for a reader that is slow."""

from __future__ import annotations

from collections import deque
from collections.abc import Callable
from dataclasses import dataclass

from ibkr_gateway_server.broker.depth import Depth, DepthFeed
from ibkr_gateway_server.domain.depth import DepthRequest, MarketDepth
from ibkr_gateway_server.domain.errors import DomainError
from ibkr_gateway_server.domain.sessions import SessionStatus
from ibkr_gateway_server.domain.streams import Gap, Resumed, Stale
from ibkr_gateway_server.streams.hub import Hub
from ibkr_gateway_server.streams.reader import Reader

# Changes of state that a reader has not taken; one that lets so many gather is not reading at all, and only the newest
# count.
STATES_KEPT = 16


@dataclass(frozen=True, slots=True)
class BookShown:
    """A book, and how many it replaced before their reader took them."""

    book: MarketDepth
    conflated_count: int = 0


DepthHappening = BookShown | Gap | Resumed | Stale


class DepthHub(Hub[Reader[DepthHappening]]):
    """Opens depth streams, and ends them all when the server drains."""

    def __init__(self, feeds: Depth, session_status: Callable[[], SessionStatus]) -> None:
        super().__init__(session_status)
        self.feeds = feeds

    def subscribe(
        self, wanted: DepthRequest, *, heartbeat_s: float = 15.0, early: Gap | None = None
    ) -> DepthSubscription:
        """A stream: enter it to acquire its feed, iterate it for batches.

        `early` is a gap that has been told already, which the first book ends. Raises ShuttingDown.
        """
        self._refuse_when_draining()
        return DepthSubscription(self, wanted, heartbeat_s, early)


class DepthSubscription(Reader[DepthHappening]):
    """One subscriber. Entering raises the errors of `Depth.acquire` that waiting cannot mend."""

    def __init__(self, hub: DepthHub, wanted: DepthRequest, heartbeat_s: float, early: Gap | None) -> None:
        super().__init__(hub, heartbeat_s, hub.feeds.until_served, early)
        self._feeds = hub.feeds
        self._wanted = wanted
        self._feed: DepthFeed | None = None
        self._states: deque[DepthHappening] = deque(maxlen=STATES_KEPT)
        self._newest: MarketDepth | None = None
        self._conflated_count = 0
        self._told: MarketDepth | None = None

    async def take(self) -> None:
        feed = self._feed = await self._feeds.acquire(self._wanted)
        feed.listeners[self] = None
        if feed.gap is not None:
            self.gap(feed.gap)
        elif feed.book is not None:
            self.book(feed.book)
            if feed.told_stale is not None:
                self.stale(feed.told_stale)
        if feed.failure is not None:
            self.failed(feed.failure)

    def _close(self) -> None:
        feed, self._feed = self._feed, None
        if feed is not None:
            feed.listeners.pop(self, None)
            self._feeds.release(feed)

    def book(self, book: MarketDepth) -> None:
        """The whole book; rows below those that are wanted are not told, nor are changes of theirs."""
        seen = book.top(self._wanted.row_count)
        if seen == (self._newest or self._told):
            return
        if self._newest is not None:
            self._conflated_count += 1
        if self._feed is not None and self._feed.gap is None:
            # An empty book that is told in a gap only says that nothing is known.
            self.flows()
        self._newest = seen
        self._wake.set()

    def gap(self, gap: Gap) -> None:
        # A book from before the gap must not be told after it.
        self._newest, self._conflated_count, self._told = None, 0, None
        super().gap(gap)

    def resumed(self, resumed: Resumed) -> None:
        # An empty book was told as such before; what comes now is the new one.
        self._tell_newest()
        super().resumed(resumed)

    def stale(self, stale: Stale) -> None:
        self._tell_newest()
        self._say(stale)

    def failed(self, error: DomainError) -> None:
        self._tell_newest()
        super().failed(error)

    def _say(self, said: DepthHappening) -> None:
        self._states.append(said)
        self._wake.set()

    def _tell_newest(self) -> None:
        """A book that is waiting goes before what now says that it is old: read after it, it would look new."""
        if self._newest is not None:
            self._say(BookShown(self._newest, self._conflated_count))
            self._told, self._newest, self._conflated_count = self._newest, None, 0

    def _take(self) -> list[DepthHappening]:
        self._tell_newest()
        taken = list(self._states)
        self._states.clear()
        return taken
