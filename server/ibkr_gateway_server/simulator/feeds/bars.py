"""Bars that go on: those of five seconds, and historical ones that keep up to date."""

from __future__ import annotations

import math
from collections.abc import Iterator
from dataclasses import dataclass

from ibkr_gateway_server.simulator import history
from ibkr_gateway_server.simulator.codec import messages
from ibkr_gateway_server.simulator.listings import Listing
from ibkr_gateway_server.simulator.market import Market

REAL_TIME_BAR_S = 5
# A clock that jumps, as after a machine's sleep, does not bring all that was missed.
MOST_S = 3600


@dataclass(frozen=True, slots=True)
class BarDate:
    """How one historical request spells its dates."""

    version: int
    zone: str
    is_daily: bool
    as_epoch: bool

    def __call__(self, start: int) -> str:
        return messages.bar_time(self.version, start, self.zone, is_daily=self.is_daily, as_epoch=self.as_epoch)


@dataclass(slots=True)
class RealTimeBars:
    """One reqRealTimeBars: a bar of five seconds when it has ended, while the market is open or in regular hours."""

    req_id: int
    listing: Listing
    shown: str
    regular: bool
    next_time: int

    def changes(self, market: Market, now: float) -> Iterator[list[str]]:
        """The bars that have ended."""
        if now - self.next_time > MOST_S:
            self.next_time = math.floor((now - MOST_S) / REAL_TIME_BAR_S) * REAL_TIME_BAR_S
        while now >= self.next_time:
            start, self.next_time = self.next_time - REAL_TIME_BAR_S, self.next_time + REAL_TIME_BAR_S
            if not self._is_shown(market, start):
                continue
            bar = market.bar(self.listing, start, start + REAL_TIME_BAR_S, self.shown)
            prices = (bar.open, bar.high, bar.low, bar.close)
            traded = (bar.volume, bar.wap, bar.count) if self.shown == "TRADES" else (-1, -1.0, -1)
            yield messages.real_time_bar(self.req_id, start, prices, *traded)

    def _is_shown(self, market: Market, start: float) -> bool:
        if not self.regular:
            return market.is_open(self.listing, start)
        session = market.hours.session_at(self.listing, start, outside_rth=False)
        return session is not None and session[0] <= start


@dataclass(slots=True)
class LiveBars:
    """A historical request that keeps up to date: its growing bar, and each one once more when it has ended."""

    req_id: int
    listing: Listing
    size: str
    regular: bool
    date_of: BarDate
    shown: str
    next_time: float
    growing: history.BarSpan | None

    def changes(self, market: Market, now: float) -> Iterator[list[str]]:
        """The growing bar, every five seconds."""
        if now < self.next_time:
            return
        self.next_time = math.floor(now / REAL_TIME_BAR_S) * REAL_TIME_BAR_S + REAL_TIME_BAR_S
        before = self.growing
        self.growing = history.growing_bar(market.hours, self.listing, self.size, now, regular=self.regular)
        if before is not None and (self.growing is None or self.growing.label != before.label):
            yield self._update(market, before.until(now))
        if self.growing is not None:
            yield self._update(market, self.growing)

    def _update(self, market: Market, span: history.BarSpan) -> list[str]:
        bar = market.bar_of(self.listing, span.parts, self.shown)
        prices = (bar.open, bar.high, bar.low, bar.close)
        traded = (bar.wap, bar.volume, bar.count) if self.shown in history.TRADED else (-1.0, -1, -1)
        return messages.historical_data_update(self.req_id, self.date_of(span.label), prices, *traded)
