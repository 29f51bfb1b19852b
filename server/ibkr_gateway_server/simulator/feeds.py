"""Subscriptions of one connection: what each has sent, and what is new at the next look."""

from __future__ import annotations

import math
from collections.abc import Iterator
from dataclasses import dataclass, field

from ibkr_gateway_server.simulator import history
from ibkr_gateway_server.simulator.codec import messages
from ibkr_gateway_server.simulator.ledger import Ledger
from ibkr_gateway_server.simulator.listings import Listing
from ibkr_gateway_server.simulator.market import Market


@dataclass(frozen=True, slots=True)
class _Tick:
    """A price's tick numbers, each live and delayed, its size's, and the mask of its attributes."""

    price: tuple[int, int]
    size: tuple[int, int] | None = None
    mask: int = 0


# The best prices can be traded against automatically: bit 0 of the mask.
BID, ASK, LAST = _Tick((1, 66), (0, 69), 1), _Tick((2, 67), (3, 70), 1), _Tick((4, 68), (5, 71))
HIGH, LOW, CLOSE, OPEN = _Tick((6, 72)), _Tick((7, 73)), _Tick((9, 75)), _Tick((14, 76))
VOLUME, TIMESTAMP, HALTED, MODEL = (8, 74), (45, 88), (49, 90), (13, 83)
RT_VOLUME = "233"

# Delayed prices are this old.
DELAY_S = 900.0
PNL_INTERVAL_S = 1.0
REAL_TIME_BAR_S = 5


@dataclass(slots=True)
class Quotes:
    """One reqMktData: `sent` is what the client has, by tick number."""

    req_id: int
    listing: Listing
    is_delayed: bool
    generic: frozenset[str] = frozenset()
    is_snapshot: bool = False
    sent: dict[int, object] = field(default_factory=dict)

    def start(self, market: Market, now: float) -> Iterator[list[str]]:
        """The first messages: parameters, type, and a tick of everything."""
        yield messages.tick_request_parameters(self.req_id, self.listing.min_tick)
        yield messages.market_data_type(self.req_id, 3 if self.is_delayed else 1)
        yield from self.changes(market, now)
        yield messages.tick_generic(self.req_id, HALTED[self.is_delayed], 0.0)
        if self.is_snapshot:
            yield messages.tick_snapshot_end(self.req_id)

    def changes(self, market: Market, now: float) -> Iterator[list[str]]:
        """A tick for every value that differs from what was sent."""
        now -= DELAY_S if self.is_delayed else 0.0
        prices = market.prices(self.listing, now)
        last = (prices.last, 0 if self.listing.sec_type == "IND" else prices.last_size)
        # Currencies are quoted, and their trades are not told.
        traded = self.listing.sec_type != "CASH" and self.sent.get(LAST.price[self.is_delayed]) != last
        if prices.bid is not None and prices.ask is not None:
            yield from self._price(BID, prices.bid, prices.bid_size)
            yield from self._price(ASK, prices.ask, prices.ask_size)
        if traded:
            yield from self._price(LAST, *last)
        for tick, price in ((HIGH, prices.high), (LOW, prices.low), (CLOSE, prices.close), (OPEN, prices.open)):
            yield from self._price(tick, price, 0)
        if self.listing.sec_type not in ("IND", "CASH") and self._is_new(VOLUME[self.is_delayed], prices.volume):
            yield messages.tick_size(self.req_id, VOLUME[self.is_delayed], prices.volume)
        if traded:
            yield messages.tick_string(self.req_id, TIMESTAMP[self.is_delayed], str(int(now)))
            if RT_VOLUME in self.generic:
                text = f"{prices.last};{prices.last_size};{int(now * 1000)};{prices.volume};{prices.mark};true"
                yield messages.tick_string(self.req_id, 48, text)
        if self.listing.sec_type == "OPT":
            model = market.option(self.listing, now)
            if self._is_new(MODEL[self.is_delayed], round(model.price, 4)):
                yield messages.tick_option(self.req_id, MODEL[self.is_delayed], model)

    def _price(self, tick: _Tick, price: float, size: int) -> Iterator[list[str]]:
        number = tick.price[self.is_delayed]
        if not self._is_new(number, (price, size)):
            return
        yield messages.tick_price(self.req_id, number, price, size, tick.mask)
        # A live gateway sends the size again by itself, superfluous as it is.
        if tick.size is not None and size:
            yield messages.tick_size(self.req_id, tick.size[self.is_delayed], size)

    def _is_new(self, number: int, value: object) -> bool:
        if self.sent.get(number) == value:
            return False
        self.sent[number] = value
        return True


@dataclass(slots=True)
class RealTimeBars:
    """One reqRealTimeBars: a bar of five seconds when it has ended."""

    req_id: int
    listing: Listing
    shown: str
    next_time: int

    def changes(self, market: Market, now: float) -> Iterator[list[str]]:
        """The bars that have ended."""
        while now >= self.next_time:
            start, self.next_time = self.next_time - REAL_TIME_BAR_S, self.next_time + REAL_TIME_BAR_S
            bar = market.bar(self.listing, start, start + REAL_TIME_BAR_S)
            prices = (bar.open, bar.high, bar.low, bar.close)
            traded = (bar.volume, bar.wap, bar.count) if self.shown == "TRADES" else (-1, -1.0, -1)
            yield messages.real_time_bar(self.req_id, start, prices, *traded)


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
        self.growing = history.growing_bar(self.listing, self.size, now, regular=self.regular)
        if before is not None and (self.growing is None or self.growing.label != before.label):
            yield self._update(market, before.until(now))
        if self.growing is not None:
            yield self._update(market, self.growing)

    def _update(self, market: Market, span: history.BarSpan) -> list[str]:
        bar = market.bar(self.listing, span.begin, span.end)
        prices = (bar.open, bar.high, bar.low, bar.close)
        traded = (bar.wap, bar.volume, bar.count) if self.shown in history.TRADED else (-1.0, -1, -1)
        return messages.historical_data_update(self.req_id, self.date_of(span.label), prices, *traded)


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
class Pnl:
    """One reqPnL (no listing) or reqPnLSingle."""

    req_id: int
    ledger: Ledger
    con_id: int
    next_time: float = 0.0

    def changes(self, market: Market, now: float) -> Iterator[list[str]]:
        """The figures, once a second."""
        if now < self.next_time:
            return
        self.next_time = now + PNL_INTERVAL_S

        def mark(listing: Listing) -> float:
            return market.prices(listing, now).mark

        if not self.con_id:
            figures = self.ledger.figures(mark)
            yield messages.pnl(self.req_id, figures.daily, figures.unrealized, figures.realized)
        elif (holding := self.ledger.holdings.get(self.con_id)) is not None:
            price = mark(holding.listing)
            value = holding.value(price)
            daily, gain = value - holding.day_base, holding.unrealized(price)
            yield messages.pnl_single(self.req_id, holding.quantity, daily, gain, holding.realized, value)
