"""The market: prices as a pure function of seed, instrument and time.

Every listing follows a root's price through a curve that rises or falls throughout and that stays the same for an
hour: times a scale, with a carry, or as an option. Bid, ask and last follow from the price by rounding, which never
turns around either. So the extremes of what was quoted in a span are those that the root's extremes give, and streams,
snapshots, ticks and bars of every width agree exactly, without one being made from the other.
"""

from __future__ import annotations

import itertools
import zlib
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from functools import lru_cache

from ibkr_gateway_server.simulator.hours import Span, TradingHours, last_close
from ibkr_gateway_server.simulator.listings import ROOTS, Listing
from ibkr_gateway_server.simulator.market.book import book_around, sizes_in, venue_in
from ibkr_gateway_server.simulator.market.chance import uniform
from ibkr_gateway_server.simulator.market.figures import Bar, Book, Prices, Quote, Tick
from ibkr_gateway_server.simulator.market.options import OptionModel, OptionTerms
from ibkr_gateway_server.simulator.market.path import QUOTES_PER_S, YEAR_S, Path, Range
from ibkr_gateway_server.simulator.market.roots import RootPrice, ScaledPrice, SeededPrice
from ibkr_gateway_server.simulator.market.steps import below, nearest, step_at
from ibkr_gateway_server.simulator.market.tape import Tape, Track
from ibkr_gateway_server.simulator.market.turnover import Turnover

# A future stands above its index by interest less dividends until it expires.
CARRY = 0.028
HOUR = 3600 * QUOTES_PER_S

TRADES, MIDPOINT, BID, ASK, BID_ASK = "TRADES", "MIDPOINT", "BID", "ASK", "BID_ASK"
_VOLATILITIES = ("HISTORICAL_VOLATILITY", "OPTION_IMPLIED_VOLATILITY")


@dataclass(slots=True)
class _Day:
    """One contract's trading day so far: up to which quarter of a second it has been looked at, and its figures."""

    begin: float
    end: float
    until: float
    seen: int
    open: float
    high: float
    low: float
    close: float
    traded_before: int


@dataclass(frozen=True, slots=True)
class _Adjustment:
    """What set_quote has made of one contract from a moment on: its spread, and how far its last is from its value."""

    since: int
    spread: float | None
    last_off: float


class Market:
    """Prices of every listing. `seed` decides all that is random; a tape replaces it for the symbols it has."""

    def __init__(self, seed: int, hours: TradingHours | None = None, tape: Tape | None = None) -> None:
        self._seed = seed
        self.hours = hours or TradingHours()
        self._tracks = dict(tape.tracks) if tape else {}
        # By name, so that a root that is added later leaves the prices of the others as they are.
        self._roots = {
            name: RootPrice(SeededPrice(root, Path(seed, zlib.crc32(name.encode())))) for name, root in ROOTS.items()
        }
        self._turnover = Turnover(seed)
        self._adjustments: dict[int, list[_Adjustment]] = {}
        self._days: dict[int, _Day] = {}
        self._curves: dict[int, tuple[int, Callable[[float], float]]] = {}
        # What has been worked out for the moment that everyone looks at.
        self._looked_at = 0.0
        self._looks: dict[int, Prices] = {}

    def follow(self, listing: Listing) -> None:
        """Let the listing's root follow the listing's track of the tape, if it has one."""
        if (track := self._track(listing)) is not None and listing.sec_type != "OPT":
            self._roots[listing.root] = RootPrice(ScaledPrice(track, listing.scale))

    def is_open(self, listing: Listing, now: float) -> bool:
        """Whether it is quoted and traded now."""
        return self.hours.is_open(listing, now)

    def prices(self, listing: Listing, now: float) -> Prices:
        """Bid, ask, last and the day's figures. Of a closed market: those of its last moment."""
        if now != self._looked_at:
            self._looked_at = now
            self._looks.clear()
        found = self._looks.get(listing.con_id)
        if found is None:
            found = self._looks[listing.con_id] = self._prices(listing, now)
        return found

    def value(self, listing: Listing, now: float) -> float:
        """The unrounded price."""
        return self._value(listing, int(now * QUOTES_PER_S))

    def option(self, listing: Listing, now: float) -> OptionModel:
        """An option's price and sensitivities. Of a closed market: those of its last moment."""
        slot = self._last_open(listing, now)[1]
        spot = self._roots[listing.root].value(slot) * listing.scale
        return self._option_terms(listing, slot // HOUR).model(spot)

    def settlement(self, listing: Listing) -> float:
        """What an expiring contract ends at: a future at its underlying, an option at what exercising it gains."""
        slot = _first_slot(_expiry_s(listing.expiry)) - 1
        spot = self._roots[listing.root].value(slot) * listing.scale
        if listing.sec_type == "OPT":
            spot = max(spot - listing.strike if listing.right == "C" else listing.strike - spot, 0.0)
        return round(spot, 2)

    def ticks(self, listing: Listing, begin: float, end: float) -> Iterator[Tick]:
        """Every quarter of a second from `begin` up to, not including, `end` in which the market is open."""
        for opening, closing in self.hours.open_spans(listing, begin, end):
            for slot in range(_first_slot(opening), _first_slot(closing)):
                yield self._tick(listing, slot)

    def bar(self, listing: Listing, begin: float, end: float, shown: str = TRADES) -> Bar:
        """One bar of what was quoted or traded in an open span. Of BID_ASK: average bid, highest ask, lowest bid,
        average ask; of a volatility: its values."""
        first = int(begin * QUOTES_PER_S)
        stop = max(_first_slot(end), first + 1)
        if shown in _VOLATILITIES:
            return self._volatility_bar(listing, first, stop)
        if shown == BID_ASK:
            bids, asks = (self._range(listing, first, stop, side) for side in (BID, ASK))
            averages = (nearest(listing, (part.open + part.close) / 2) for part in (bids, asks))
            return Bar(next(averages), asks.high, bids.low, next(averages))
        found = self._range(listing, first, stop, shown)
        if shown != TRADES or not self._turnover.is_told_of(listing):
            return Bar(*found)
        average = round(sum(found) / len(found), 3)
        return Bar(*found, self._turnover.between(listing, first, stop), average, stop - first)

    def bar_of(self, listing: Listing, parts: Sequence[Span], shown: str = TRADES) -> Bar:
        """One bar of several open spans, as of the sessions of a week."""
        bars = [self.bar(listing, begin, end, shown) for begin, end in parts]
        if len(bars) == 1:
            return bars[0]
        high, low = max(bar.high for bar in bars), min(bar.low for bar in bars)
        volume = sum(bar.volume for bar in bars)
        average = sum(bar.wap * bar.volume for bar in bars) / volume if volume else 0.0
        count = sum(bar.count for bar in bars)
        return Bar(bars[0].open, high, low, bars[-1].close, volume, round(average, 3), count)

    def volume(self, listing: Listing, begin: float, end: float) -> int:
        """Units traded in an open span."""
        return (
            self._turnover.between(listing, _first_slot(begin), _first_slot(end))
            if self._turnover.is_told_of(listing)
            else 0
        )

    def book(self, listing: Listing, now: float, rows: int) -> Book:
        """The best rows of either side. An index has none."""
        prices = self.prices(listing, now)
        return book_around(self._seed, listing, self._last_open(listing, now)[1], prices, rows)

    def set_price(self, listing: Listing, price: float, now: float) -> None:
        """Move the root's price so that this listing is at `price` now; it goes on from there. Raises ValueError."""
        if listing.sec_type == "OPT":
            raise ValueError("an option's price follows its underlying; set that")
        if self._track(listing) is not None:
            raise ValueError(f"{listing.local_symbol} follows the tape")
        slot = int(now * QUOTES_PER_S)
        self._roots[listing.root].move(slot, price / self._value(listing, slot))
        self._forget()

    def set_quote(
        self, listing: Listing, now: float, *, bid: float | None, ask: float | None, last: float | None
    ) -> None:
        """Quote exactly this now, and go on from there with the same spread. Raises ValueError."""
        slot = int(now * QUOTES_PER_S)
        adjusted = self._adjustment(listing, slot)
        spread = adjusted.spread if adjusted else None
        width = spread or self._spread(listing, slot, self._value(listing, slot))
        if bid is not None and ask is not None:
            spread = width = ask - bid
            if spread <= 0:
                raise ValueError("the bid must be below the ask")
        if bid is not None:
            middle = bid + width / 2
        elif ask is not None:
            middle = ask - width / 2
        elif last is not None:
            middle = last
        else:
            raise ValueError("give a bid, an ask or a last price")
        self.set_price(listing, middle, now)
        off = 0.0 if last is None else nearest(listing, last) - self._value(listing, slot)
        earlier = [known for known in self._adjustments.get(listing.con_id, ()) if known.since < slot]
        self._adjustments[listing.con_id] = [*earlier, _Adjustment(slot, spread, off)]
        self._forget()

    @staticmethod
    def rounded(listing: Listing, value: float) -> float:
        """The nearest price on the step."""
        return nearest(listing, value)

    @staticmethod
    def step(listing: Listing, value: float) -> float:
        """The price step at a price."""
        return step_at(listing, value)

    def _forget(self) -> None:
        self._days.clear()
        self._curves.clear()
        self._looks.clear()

    def _track(self, listing: Listing) -> Track | None:
        return self._tracks.get(listing.local_symbol) if self._tracks else None

    # What a listing is worth, in one quarter of a second and over many.

    def _value(self, listing: Listing, slot: int) -> float:
        return self._curve(listing, slot // HOUR)(self._roots[listing.root].value(slot))

    def _curve(self, listing: Listing, hour: int) -> Callable[[float], float]:
        """The listing's value by its root's price, in one hour. The hour that is looked at all the time is kept."""
        known = self._curves.get(listing.con_id)
        if known is None or known[0] != hour:
            known = self._curves[listing.con_id] = (hour, self._new_curve(listing, hour))
        return known[1]

    def _new_curve(self, listing: Listing, hour: int) -> Callable[[float], float]:
        scale = listing.scale
        if listing.sec_type == "OPT":
            terms = self._option_terms(listing, hour)
            return lambda root: terms.price(root * scale)
        if listing.sec_type == "FUT":
            scale *= 1 + CARRY * max(_expiry_s(listing.expiry) - hour * 3600, 0.0) / YEAR_S
        return lambda root: root * scale

    def _option_terms(self, listing: Listing, hour: int) -> OptionTerms:
        reference = self._roots[listing.root].value(hour * HOUR) * listing.scale
        left_s = _expiry_s(listing.expiry) - hour * 3600
        return OptionTerms.of(listing.strike, listing.right, left_s, ROOTS[listing.root].volatility, reference)

    def _range(self, listing: Listing, first: int, stop: int, shown: str) -> Range:
        """What was quoted or traded in a span: opening, extremes, close."""
        if (track := self._track(listing)) is not None:
            told = [_shown(Quote(row.bid, row.ask, row.last), shown) for row in track.between(first, stop)]
            return Range(told[0], max(told), min(told), told[-1])
        found = [self._piece(listing, begin, end, shown) for begin, end in self._pieces(listing, first, stop)]
        return Range(found[0].open, max(part.high for part in found), min(part.low for part in found), found[-1].close)

    def _pieces(self, listing: Listing, first: int, stop: int) -> Iterator[tuple[int, int]]:
        """Parts of a span in each of which one curve and one spread hold."""
        cuts = [known.since for known in self._adjustments.get(listing.con_id, ())]
        if listing.sec_type in ("FUT", "OPT"):
            cuts += range((first // HOUR + 1) * HOUR, stop, HOUR)
        edges = sorted({first, stop, *(cut for cut in cuts if first < cut < stop)})
        for begin, end in itertools.pairwise(edges):
            yield from self._roots[listing.root].pieces(begin, end)

    def _piece(self, listing: Listing, begin: int, end: int, shown: str) -> Range:
        curve = self._curve(listing, begin // HOUR)
        values = [curve(root) for root in self._roots[listing.root].span(begin, end)]
        opening, one, other, closing = (_shown(self._around(listing, begin, value), shown) for value in values)
        return Range(opening, max(one, other), min(one, other), closing)

    # What is quoted around a value.

    def _quote(self, listing: Listing, slot: int) -> Quote:
        if (track := self._track(listing)) is not None:
            row = track.at(slot)
            return Quote(row.bid, row.ask, row.last)
        return self._around(listing, slot, self._value(listing, slot))

    def _around(self, listing: Listing, slot: int, value: float) -> Quote:
        adjusted = self._adjustment(listing, slot)
        last = nearest(listing, value + adjusted.last_off if adjusted else value)
        if not listing.is_quoted:
            return Quote(None, None, last)
        spread, step = self._spread(listing, slot, value), step_at(listing, value)
        bid = max(below(listing, value - (spread - step) / 2), step_at(listing, 0.0))
        return Quote(bid, nearest(listing, bid + spread), last)

    def _spread(self, listing: Listing, slot: int, value: float) -> float:
        adjusted = self._adjustment(listing, slot)
        if adjusted and adjusted.spread:
            return adjusted.spread
        return step_at(listing, value) * listing.spread_ticks

    def _adjustment(self, listing: Listing, slot: int) -> _Adjustment | None:
        known = self._adjustments.get(listing.con_id)
        return next((one for one in reversed(known) if slot >= one.since), None) if known else None

    def _tick(self, listing: Listing, slot: int) -> Tick:
        quote = self._quote(listing, slot)
        bid_size, ask_size, last_size = self._sizes(listing, slot)
        venue = venue_in(self._seed, listing, slot)
        return Tick(slot / QUOTES_PER_S, quote.bid, quote.ask, bid_size, ask_size, quote.last, last_size, venue)

    def _sizes(self, listing: Listing, slot: int) -> tuple[int, int, int]:
        """Bid, ask and last size: what is shown, and what has traded in this quarter of a second."""
        if (track := self._track(listing)) is not None:
            row = track.at(slot)
            return row.bid_size, row.ask_size, row.last_size
        bid, ask = sizes_in(self._seed, listing, slot)
        return bid, ask, self._turnover.between(listing, slot, slot + 1) if self._turnover.is_told_of(listing) else 0

    def _volatility_bar(self, listing: Listing, first: int, stop: int) -> Bar:
        """The root's volatility, which moves a little from hour to hour."""
        base = ROOTS[listing.root].volatility
        number = zlib.crc32(listing.root.encode())
        hours = range(first // HOUR, (stop - 1) // HOUR + 1)
        told = [round(base * (1 + 0.1 * (uniform(self._seed, number, hour, 5) - 0.5)), 6) for hour in hours]
        return Bar(told[0], max(told), min(told), told[-1])

    # A moment, with its day.

    def _prices(self, listing: Listing, now: float) -> Prices:
        day, slot = self._last_open(listing, now)
        quote, sizes = self._quote(listing, slot), self._sizes(listing, slot)
        if slot > day.seen:
            high = low = quote.last
            if slot > day.seen + 1:
                _, high, low, _ = self._range(listing, day.seen + 1, slot + 1, TRADES)
            day.high, day.low, day.seen = max(day.high, high), min(day.low, low), slot
        told = self._turnover.is_told_of(listing)
        volume = self._turnover.until(listing, slot + 1) - day.traded_before if told else 0
        return Prices(*quote, *sizes, volume, day.open, day.high, day.low, day.close)

    def _last_open(self, listing: Listing, now: float) -> tuple[_Day, int]:
        """The trading day so far, and its latest quarter of a second: this one while the market is open."""
        day = self._days.get(listing.con_id)
        slot = int(now * QUOTES_PER_S)
        if day is None or not day.begin <= now < day.until or (slot < day.seen and now < day.end):
            day = self._days[listing.con_id] = self._day(listing, now)
        return day, min(slot, _first_slot(day.end) - 1)

    def _day(self, listing: Listing, now: float) -> _Day:
        begin, end = self.hours.trading_day(listing, now)
        until = end if now < end else self.hours.next_open(listing, now)
        first, slot = _first_slot(begin), min(int(now * QUOTES_PER_S), _first_slot(end) - 1)
        so_far = self._range(listing, first, slot + 1, TRADES)
        close = self._quote(listing, _first_slot(last_close(listing, begin)) - 1).last
        before = self._turnover.until(listing, first) if self._turnover.is_told_of(listing) else 0
        return _Day(begin, end, until, slot, so_far.open, so_far.high, so_far.low, close, before)


def _shown(quote: Quote, shown: str) -> float:
    """What a request for this kind of prices shows of a quote. An index has a last price alone."""
    if shown == TRADES or quote.bid is None or quote.ask is None:
        return quote.last
    if shown == MIDPOINT:
        return round((quote.bid + quote.ask) / 2, 8)
    return quote.bid if shown == BID else quote.ask


def _first_slot(time: float) -> int:
    """The first quarter of a second that begins at or after a time."""
    return -int(-time * QUOTES_PER_S // 1)


@lru_cache(maxsize=1 << 10)
def _expiry_s(expiry: str) -> float:
    """When an expiring contract ends, in epoch seconds."""
    return datetime.strptime(expiry, "%Y%m%d").replace(hour=21, tzinfo=UTC).timestamp()
