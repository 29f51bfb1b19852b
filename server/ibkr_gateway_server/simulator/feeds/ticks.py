"""Ticks one by one: one reqTickByTickData."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

from ibkr_gateway_server.simulator.codec import ticks
from ibkr_gateway_server.simulator.listings import Listing
from ibkr_gateway_server.simulator.market import Market
from ibkr_gateway_server.simulator.past_ticks import News

# A clock that jumps, as after a machine's sleep, does not bring all that was missed.
MOST_S = 60.0


@dataclass(slots=True)
class TickByTick:
    """Every tick of one kind since the last look."""

    req_id: int
    listing: Listing
    news: News
    told_until: float

    def changes(self, market: Market, now: float) -> Iterator[list[str]]:
        """Trades, or quotes or middles that have changed."""
        begin, self.told_until = max(self.told_until, now - MOST_S), max(now, self.told_until)
        for tick in self.news.of(market.ticks(self.listing, begin, now)):
            yield ticks.tick_by_tick(self.req_id, self.news.kind, tick)
