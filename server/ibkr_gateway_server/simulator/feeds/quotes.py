"""Quotes: one reqMktData, streaming or a snapshot."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, field, replace

from ibkr_gateway_server.simulator import venues
from ibkr_gateway_server.simulator.codec import messages
from ibkr_gateway_server.simulator.feeds.figures import Figures
from ibkr_gateway_server.simulator.generic_ticks import RT_TRADE_VOLUME, RT_VOLUME, GenericTicks
from ibkr_gateway_server.simulator.listings import Listing
from ibkr_gateway_server.simulator.market import Market, OptionModel, Prices
from ibkr_gateway_server.simulator.yields import yield_to_maturity


@dataclass(frozen=True, slots=True)
class _Tick:
    """A price's tick numbers, each live and delayed; its size's, those of the option computed at it and of the bond's
    yield; the mask of its attributes."""

    price: tuple[int, int]
    size: tuple[int, int] | None = None
    option: tuple[int, int] | None = None
    bond: tuple[int, int] | None = None
    mask: int = 0


# The best prices can be traded against automatically: bit 0 of the mask.
BID, ASK = _Tick((1, 66), (0, 69), (10, 80), (50, 103), 1), _Tick((2, 67), (3, 70), (11, 81), (51, 104), 1)
LAST = _Tick((4, 68), (5, 71), (12, 82), (52, 52))
HIGH, LOW, CLOSE, OPEN = _Tick((6, 72)), _Tick((7, 73)), _Tick((9, 75)), _Tick((14, 76))
VOLUME, TIMESTAMP, HALTED, MODEL = (8, 74), (45, 88), (49, 90), (13, 83)
BID_EXCHANGE, ASK_EXCHANGE, LAST_EXCHANGE = 32, 33, 84

LIVE, FROZEN, DELAYED, DELAYED_FROZEN = 1, 2, 3, 4

# Delayed prices are this old.
DELAY_S = 900.0
# Venues behind the best prices are looked at so often.
VENUES_INTERVAL_S = 5.0
# No bid, or no offer.
NO_QUOTE = NO_PRICE, NO_SIZE = -1.0, 0
# What trades in numbers that are told.
WITH_VOLUME = ("STK", "FUT", "OPT")


@dataclass(slots=True)
class Quotes:
    """One reqMktData: `sent` is what the client has, by tick number.

    Its type is what the client gets of what it asked for: live or delayed by its subscriptions; frozen, which are the
    last prices of a closed market, if it wants them.
    """

    req_id: int
    listing: Listing
    is_delayed: bool
    wants_frozen: bool
    generic: GenericTicks
    # What is to be said of it once its type is told: an error message.
    notice: list[str] | None = None
    sent: dict[int, object] = field(default_factory=dict)
    figures: Figures | None = None
    data_type: int = 0
    venues_due: float = 0.0

    def start(self, market: Market, now: float) -> Iterator[list[str]]:
        """The first messages: parameters, type, a notice, and a tick of everything."""
        listing = self.listing
        yield messages.tick_request_parameters(
            self.req_id, listing.min_tick, venues.bbo_code(listing), is_subscribed=listing.is_subscribed
        )
        if self.generic.numbers:
            self.figures = Figures(self.req_id, listing, self.generic.numbers)
        yield from self.changes(market, now)
        if not self.generic.is_top_off:
            yield messages.tick_generic(self.req_id, HALTED[self.is_delayed], 0.0)

    def delay(self) -> None:
        """From now on it is delayed: its type is told anew, and every value."""
        self.is_delayed, self.data_type = True, 0
        self.sent.clear()

    @property
    def has_quote(self) -> bool:
        """Whether the client has a bid and an ask."""
        return all(self.sent.get(side.price[self.is_delayed], NO_QUOTE) != NO_QUOTE for side in (BID, ASK))

    def changes(self, market: Market, now: float) -> Iterator[list[str]]:
        """A tick for every value that differs from what was sent; before them the type, when it is another."""
        now -= DELAY_S if self.is_delayed else 0.0
        is_open = market.is_open(self.listing, now)
        live, frozen = (DELAYED, DELAYED_FROZEN) if self.is_delayed else (LIVE, FROZEN)
        data_type = frozen if self.wants_frozen and not is_open else live
        if data_type != self.data_type:
            self.data_type = data_type
            yield messages.market_data_type(self.req_id, data_type)
        if self.notice is not None:
            yield self.notice
            self.notice = None
        prices = market.prices(self.listing, now)
        if not self.generic.is_top_off:
            yield from self._top(market, prices, now, is_quoted=is_open or data_type == frozen)
        if self.figures is not None:
            yield from self.figures.changes(market, prices, now)

    def _top(self, market: Market, prices: Prices, now: float, *, is_quoted: bool) -> Iterator[list[str]]:
        last = (prices.last, prices.last_size if self.listing.is_quoted else 0)
        # Currencies are quoted, and their trades are not told.
        traded = self.listing.sec_type != "CASH" and self.sent.get(LAST.price[self.is_delayed]) != last
        model = market.option(self.listing, now) if self.listing.sec_type == "OPT" else None
        if prices.bid is not None and prices.ask is not None:
            for tick, price, size in ((BID, prices.bid, prices.bid_size), (ASK, prices.ask, prices.ask_size)):
                # A closed market that is not shown frozen has no bid and no offer.
                told = (price, size) if is_quoted else NO_QUOTE
                yield from self._best(tick, *told, model, now)
        if traded:
            yield from self._best(LAST, *last, model, now)
        for tick, price in ((HIGH, prices.high), (LOW, prices.low), (CLOSE, prices.close), (OPEN, prices.open)):
            yield from self._price(tick, price, 0)
        if self.listing.sec_type in WITH_VOLUME and self._is_new(VOLUME[self.is_delayed], prices.volume):
            yield messages.tick_size(self.req_id, VOLUME[self.is_delayed], prices.volume)
        if traded:
            yield from self._trade(prices, now)
        if venues.bbo_code(self.listing) == venues.STOCK_CODE and not self.is_delayed and now >= self.venues_due:
            yield from self._venues(market, now)
        if model is not None and self._is_new(MODEL[self.is_delayed], round(model.price, 4)):
            yield messages.tick_option(self.req_id, MODEL[self.is_delayed], model)

    def _trade(self, prices: Prices, now: float) -> Iterator[list[str]]:
        """The time of a trade, and the trade as text for who has asked for it."""
        yield messages.tick_string(self.req_id, TIMESTAMP[self.is_delayed], str(int(now)))
        text = f"{prices.last};{prices.last_size};{int(now * 1000)};{prices.volume};{prices.mark};true"
        for number, tick in ((RT_VOLUME, 48), (RT_TRADE_VOLUME, 77)):
            if number in self.generic.numbers and not self.is_delayed:
                yield messages.tick_string(self.req_id, tick, text)

    def _venues(self, market: Market, now: float) -> Iterator[list[str]]:
        """The letters of the venues at the best prices. The trade's is that of the moment it is looked at."""
        self.venues_due = now + VENUES_INTERVAL_S
        book = market.book(self.listing, now, 1)
        trades = list(market.ticks(self.listing, now - 0.25, now))[-1:]
        found = [(BID_EXCHANGE, row.venue) for row in book.bids] + [(ASK_EXCHANGE, row.venue) for row in book.asks]
        for tick, venue in [*found, *((LAST_EXCHANGE, trade.venue) for trade in trades)]:
            if self._is_new(tick, venue):
                yield messages.tick_string(self.req_id, tick, venues.letter_of(self.listing, venue))

    def _best(self, tick: _Tick, price: float, size: int, model: OptionModel | None, now: float) -> Iterator[list[str]]:
        """A price, and what is computed at it: the option's volatility, the bond's yield."""
        yield from self._price(tick, price, size)
        if price == NO_PRICE:
            return
        if model is not None and tick.option is not None and self._is_new(tick.option[0], price):
            yield messages.tick_option(self.req_id, tick.option[self.is_delayed], _priced(model, price))
        if self.listing.bond is not None and tick.bond is not None and self._is_new(tick.bond[0], price):
            share = yield_to_maturity(self.listing.bond, price, now)
            yield messages.tick_price(self.req_id, tick.bond[self.is_delayed], share, 0)

    def _price(self, tick: _Tick, price: float, size: int) -> Iterator[list[str]]:
        number = tick.price[self.is_delayed]
        if not self._is_new(number, (price, size)):
            return
        is_there = price != NO_PRICE
        yield messages.tick_price(self.req_id, number, price, size, tick.mask if is_there else 0)
        # A live gateway sends the size again by itself, superfluous as it is.
        if tick.size is not None and (size or not is_there):
            yield messages.tick_size(self.req_id, tick.size[self.is_delayed], size)

    def _is_new(self, number: int, value: object) -> bool:
        if self.sent.get(number) == value:
            return False
        self.sent[number] = value
        return True


def _priced(model: OptionModel, price: float) -> OptionModel:
    """The model at a price a step or two from its own: with the volatility that its vega makes of the difference."""
    points = (price - model.price) / model.vega if model.vega > 0.001 else 0.0
    return replace(model, price=price, volatility=max(model.volatility + points / 100, 0.001))
