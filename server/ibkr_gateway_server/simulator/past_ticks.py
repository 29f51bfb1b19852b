"""Ticks of the past: so many from a moment on, or up to one, in whole seconds."""

from __future__ import annotations

import itertools
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from datetime import timedelta

from ibkr_gateway_server.simulator import hours
from ibkr_gateway_server.simulator.codec.ticks import BID_ASK, MIDPOINT
from ibkr_gateway_server.simulator.hours import Span
from ibkr_gateway_server.simulator.listings import Listing
from ibkr_gateway_server.simulator.market import QUOTES_PER_S, Market, Tick

# How many sessions are gone through for the ticks of one request.
MAX_SESSIONS = 30
# What was there before a span is looked up so far back.
LEAD_S = 1.0


@dataclass(slots=True)
class News:
    """Of a stream of ticks, those that tell something new of one kind: every trade; quotes and middles that change."""

    kind: int
    ignores_size: bool = False
    before: tuple[float | None, ...] | None = None

    def of(self, ticks: Iterable[Tick]) -> Iterator[Tick]:
        """The ticks to tell, in their order."""
        return (tick for tick in ticks if self._is_new(tick))

    def _is_new(self, tick: Tick) -> bool:
        if self.kind not in (BID_ASK, MIDPOINT):
            return True
        told: tuple[float | None, ...] = (tick.bid, tick.ask)
        if self.kind == BID_ASK and not self.ignores_size:
            told = (*told, tick.bid_size, tick.ask_size)
        is_new, self.before = told != self.before, told
        return is_new


@dataclass(frozen=True, slots=True)
class PastTicks:
    """What one request wants of the past."""

    listing: Listing
    kind: int
    count: int
    regular: bool = False
    ignores_size: bool = False

    def before(self, market: Market, end: float) -> list[Tick]:
        """The latest ones before a moment, and whatever else was in the first second of them."""
        found: list[Tick] = []
        sessions = market.hours.sessions_back(self.listing, end, regular=self.regular)
        for begin, finish in itertools.islice(sessions, MAX_SESSIONS):
            stop, width = min(finish, end), max(self.count / QUOTES_PER_S, 60.0)
            while stop > begin and len(found) < self.count:
                start = max(begin, stop - width)
                found = [*self._told(market, start, stop), *found]
                stop, width = start, width * 2
            if len(found) >= self.count:
                break
        if len(found) <= self.count:
            return found
        first = int(found[-self.count].time)
        return [tick for tick in found if tick.time >= first]

    def after(self, market: Market, begin: float, end: float) -> list[Tick]:
        """The first ones from a moment on, and whatever else was in the last second of them."""
        found: list[Tick] = []
        spans = self._regular_spans(begin, end) if self.regular else iter([(begin, end)])
        for opening, closing in spans:
            for tick in self._told(market, opening, closing):
                if len(found) >= self.count and int(tick.time) != int(found[-1].time):
                    return found
                found.append(tick)
        return found

    def _told(self, market: Market, begin: float, end: float) -> Iterator[Tick]:
        """What is new in a span: against what was there a second before it."""
        ticks = News(self.kind, self.ignores_size).of(market.ticks(self.listing, begin - LEAD_S, end))
        return (tick for tick in ticks if tick.time >= begin)

    def _regular_spans(self, begin: float, end: float) -> Iterator[Span]:
        day = hours.midnight_of(self.listing, begin)
        for ahead in range(MAX_SESSIONS * 2):
            session = hours.regular_session(self.listing, day + timedelta(days=ahead))
            if session is None or session[1] <= begin:
                continue
            if session[0] >= end:
                return
            yield max(begin, session[0]), min(end, session[1])
