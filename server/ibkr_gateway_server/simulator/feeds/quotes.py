"""Quotes: one reqMktData, streaming or a snapshot."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, field

from ibkr_gateway_server.simulator.codec import messages
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
