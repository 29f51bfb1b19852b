"""The market: prices as a pure function of seed, instrument and time.

A root's price is its level times the exponential of layered noise, one layer for each span from a second to half a
year, each as wide as a random walk of that volatility would wander in its span. Any moment of the past or future can
be asked for, in any order and in any process, with the same answer: streams, snapshots and bars agree because they
ask the same function.
"""

from __future__ import annotations

import math
import zlib
from dataclasses import dataclass
from datetime import UTC, datetime
from functools import lru_cache

from ibkr_gateway_server.simulator import hours
from ibkr_gateway_server.simulator.listings import MARKET_RULES, ROOTS, Listing

YEAR_S = 365.25 * 86400
# Spans of the noise layers, in seconds: a factor of four apart, from one second to half a year.
SPANS_S = tuple(4.0**power for power in range(13))
_SPAN_WIDTHS = tuple(math.sqrt(span / YEAR_S) for span in SPANS_S)
RISK_FREE = 0.04
# A future stands above its index by interest less dividends until it expires.
CARRY = 0.028

# A quote lasts this long: sizes are shown, and can be taken, once in it.
QUOTES_PER_S = 4
# Contracts traded in a second, on average. Indices and currencies have no volume.
_VOLUME_PER_S = {"STK": 300.0, "FUT": 15.0, "OPT": 0.02}
_LOTS = {"STK": 100, "CASH": 1_000_000}

_MASK = (1 << 64) - 1


def scramble(value: int) -> int:
    """A 64-bit mix of a number: well spread, the same everywhere (Python's own hash is not, for text)."""
    value = (value + 0x9E3779B97F4A7C15) & _MASK
    value = ((value ^ (value >> 30)) * 0xBF58476D1CE4E5B9) & _MASK
    value = ((value ^ (value >> 27)) * 0x94D049BB133111EB) & _MASK
    return value ^ (value >> 31)


def uniform(*parts: int) -> float:
    """A number in [0, 1) that these parts determine."""
    mixed = 0
    for part in parts:
        mixed = scramble(mixed ^ (part & _MASK))
    return mixed / 2**64


@dataclass(frozen=True, slots=True)
class Prices:
    """One moment of one instrument. An index has a last price alone."""

    bid: float | None
    ask: float | None
    last: float
    bid_size: int
    ask_size: int
    last_size: int
    volume: int
    open: float
    high: float
    low: float
    close: float

    @property
    def mark(self) -> float:
        """The price positions are valued at."""
        return self.last if self.bid is None or self.ask is None else (self.bid + self.ask) / 2


@dataclass(frozen=True, slots=True)
class Bar:
    """Prices over one span."""

    open: float
    high: float
    low: float
    close: float
    volume: int
    wap: float
    count: int


@dataclass(frozen=True, slots=True)
class OptionModel:
    """Black-Scholes of one option: its price and sensitivities."""

    price: float
    volatility: float
    delta: float
    gamma: float
    vega: float
    theta: float
    underlying: float


@dataclass(slots=True)
class _Day:
    """One contract's day so far. Extremes are of the moments that were looked at."""

    begin: float
    end: float
    open: float
    high: float
    low: float
    close: float


class Market:
    """Prices of every listing. `seed` decides all that is random."""

    def __init__(self, seed: int) -> None:
        self._seed = seed
        # By name, so that a root that is added later leaves the prices of the others as they are.
        self._roots = {name: zlib.crc32(name.encode()) for name in ROOTS}
        # What set_quote has moved: from these times on, a root's prices are multiplied by these factors.
        self._shifts: dict[str, list[tuple[float, float]]] = {}
        # And by contract: the spread, and the last price with the value it was set at.
        self._spreads: dict[int, float] = {}
        self._lasts: dict[int, tuple[float, float]] = {}
        self._days: dict[int, _Day] = {}
        # What has been worked out for the moment that everyone looks at.
        self._looked_at = 0.0
        self._looks: dict[int, Prices] = {}
        self._root_looks: dict[str, float] = {}

    def prices(self, listing: Listing, now: float) -> Prices:
        """Bid, ask, last and the day's figures, each on the price step."""
        if now != self._looked_at:
            self._look_at(now)
        if listing.con_id not in self._looks:
            self._looks[listing.con_id] = self._prices(listing, now)
        return self._looks[listing.con_id]

    def value(self, listing: Listing, now: float) -> float:
        """The unrounded price."""
        if listing.sec_type == "OPT":
            return self.option(listing, now).price
        underlying = self._root_price(listing.root, now) * listing.scale
        if listing.sec_type == "FUT":
            return underlying * (1 + CARRY * max(_expiry_s(listing.expiry) - now, 0.0) / YEAR_S)
        return underlying

    def volume(self, listing: Listing, now: float) -> int:
        """Contracts traded since the beginning of time; differences of it are volumes of spans."""
        rate = _VOLUME_PER_S.get(listing.sec_type, 0.0) * (1 + listing.con_id % 7)
        if not rate:
            return 0
        # Busier and quieter minutes; the amplitudes keep the sum from ever falling.
        busy = 16 * self._smooth(listing.con_id, 64, now) + 68 * self._smooth(listing.con_id, 1024, now)
        return int(rate * (now + busy))

    def option(self, listing: Listing, now: float) -> OptionModel:
        """The option's price and sensitivities at a volatility that rises away from the money and falls with time."""
        underlying = self._root_price(listing.root, now) * listing.scale
        years = max(_expiry_s(listing.expiry) - now, 3600.0) / YEAR_S
        moneyness = math.log(listing.strike / underlying) / math.sqrt(years)
        volatility = ROOTS[listing.root].volatility * (1 - 0.12 * moneyness + 0.10 * moneyness**2)
        return _black_scholes(underlying, listing.strike, years, max(volatility, 0.05), listing.right)

    def set_price(self, listing: Listing, price: float, now: float) -> None:
        """Move the root's price so that this listing is at `price` now; it goes on from there."""
        if listing.sec_type == "OPT":
            raise ValueError("an option's price follows its underlying; set that")
        factor = price / self.value(listing, now)
        earlier = self._shifts.setdefault(listing.root, [])
        earlier.append((now, (earlier[-1][1] if earlier else 1.0) * factor))
        self._days.clear()
        self._look_at(self._looked_at)

    def set_quote(
        self, listing: Listing, now: float, *, bid: float | None, ask: float | None, last: float | None
    ) -> None:
        """Quote exactly this now, and go on from there with the same spread. Raises ValueError."""
        spread = self._spread(listing, self.value(listing, now))
        if bid is not None and ask is not None:
            spread = ask - bid
            if spread <= 0:
                raise ValueError("the bid must be below the ask")
            self._spreads[listing.con_id] = spread
        if bid is not None:
            middle = bid + spread / 2
        elif ask is not None:
            middle = ask - spread / 2
        elif last is not None:
            middle = last
        else:
            raise ValueError("give a bid, an ask or a last price")
        self.set_price(listing, middle, now)
        self._lasts.pop(listing.con_id, None)
        if last is not None:
            self._lasts[listing.con_id] = (self.value(listing, now), self.rounded(listing, last))

    def bar(self, listing: Listing, begin: float, end: float) -> Bar:
        """One bar: extremes over a grid of moments, its close at its end."""
        samples = 3 if end - begin <= 10 else 6 if end - begin <= 300 else 12
        grid = [begin + (end - begin) * index / samples for index in range(samples)] + [end - 0.001]
        values = [self.rounded(listing, self.value(listing, moment)) for moment in grid]
        volume = self.volume(listing, end) - self.volume(listing, begin)
        average = round(sum(values) / len(values), 3)
        return Bar(values[0], max(values), min(values), values[-1], volume, average, max(volume // 90, 1))

    def rounded(self, listing: Listing, value: float) -> float:
        """The nearest price on the step."""
        step = self.step(listing, value)
        return round(round(value / step) * step, 6)

    @staticmethod
    def step(listing: Listing, value: float) -> float:
        """The price step at a price, by the contract's market rule."""
        return next(step for edge, step in reversed(MARKET_RULES[listing.market_rule]) if abs(value) >= edge)

    def _prices(self, listing: Listing, now: float) -> Prices:
        value, moment = self.value(listing, now), int(now * QUOTES_PER_S)
        sizes = [1 + int(uniform(self._seed, listing.con_id, moment, slot) ** 2 * 9) for slot in range(3)]
        bid_size, ask_size, last_size = (size * _LOTS.get(listing.sec_type, 1) for size in sizes)
        bid = ask = None
        last = self.rounded(listing, value)
        if listing.sec_type != "IND":
            spread = self._spread(listing, value)
            bid = max(self.rounded(listing, value - spread / 2), self.step(listing, 0.0))
            ask = self.rounded(listing, bid + spread)
            last = bid if uniform(self._seed, listing.con_id, moment, 3) < 0.5 else ask
        if listing.con_id in self._lasts:
            since, given = self._lasts[listing.con_id]
            last = given if abs(value - since) < self.step(listing, value) / 2 else last
        day = self._day(listing, now, value)
        figures = (self.rounded(listing, price) for price in (day.open, day.high, day.low, day.close))
        begin, high, low, close = figures
        volume = self.volume(listing, now) - self.volume(listing, day.begin)
        high, low = max(high, last), min(low, last)
        return Prices(bid, ask, last, bid_size, ask_size, last_size, volume, begin, high, low, close)

    def _spread(self, listing: Listing, value: float) -> float:
        return self._spreads.get(listing.con_id, self.step(listing, value) * listing.spread_ticks)

    def _look_at(self, now: float) -> None:
        self._looked_at = now
        self._looks.clear()
        self._root_looks.clear()

    def _root_price(self, name: str, now: float) -> float:
        if now != self._looked_at:
            return self._root_price_at(name, now)
        if name not in self._root_looks:
            self._root_looks[name] = self._root_price_at(name, now)
        return self._root_looks[name]

    def _root_price_at(self, name: str, now: float) -> float:
        root, number = ROOTS[name], self._roots[name]
        wander = 0.0
        for layer, span in enumerate(SPANS_S):
            position = now / span
            index = math.floor(position)
            part = position - index
            before, after = _noise(self._seed, number, layer, index), _noise(self._seed, number, layer, index + 1)
            wander += (before + (after - before) * part * part * (3 - 2 * part)) * _SPAN_WIDTHS[layer]
        price = root.level * math.exp(root.volatility * wander)
        for since, factor in reversed(self._shifts.get(name, ())):
            if now >= since:
                return price * factor
        return price

    def _smooth(self, number: int, span: int, now: float) -> float:
        """One layer of noise by itself, in [-1, 1)."""
        index, rest = divmod(now, span)
        part = rest / span
        before, after = (_noise(self._seed, number, span, int(index) + step) for step in (0, 1))
        return before + (after - before) * part * part * (3 - 2 * part)

    def _day(self, listing: Listing, now: float, value: float) -> _Day:
        """The day at the exchange so far, and the regular close before it."""
        day = self._days.get(listing.con_id)
        if day is None or not day.begin <= now < day.end:
            begin, end = hours.day_span(listing, now)
            past = [self.value(listing, begin + (now - begin) * part / 12) for part in range(13)]
            close = self.value(listing, hours.last_close(listing, begin) - 0.001)
            day = self._days[listing.con_id] = _Day(begin, end, past[0], max(past), min(past), close)
        day.high, day.low = max(day.high, value), min(day.low, value)
        return day


@lru_cache(maxsize=1 << 16)
def _noise(seed: int, root: int, layer: int, index: int) -> float:
    """One point of a noise layer, in [-1, 1). Kept, since neighbouring moments share the slow layers' points."""
    return uniform(seed, root, layer, index) * 2 - 1


@lru_cache(maxsize=1 << 10)
def _expiry_s(expiry: str) -> float:
    """When an expiring contract ends, in epoch seconds."""
    return datetime.strptime(expiry, "%Y%m%d").replace(hour=21, tzinfo=UTC).timestamp()


def _black_scholes(spot: float, strike: float, years: float, volatility: float, right: str) -> OptionModel:
    width = volatility * math.sqrt(years)
    d1 = (math.log(spot / strike) + (RISK_FREE + volatility**2 / 2) * years) / width
    d2 = d1 - width
    discount = math.exp(-RISK_FREE * years)
    density = math.exp(-d1 * d1 / 2) / math.sqrt(2 * math.pi)
    sign = 1 if right == "C" else -1
    price = sign * (spot * _normal(sign * d1) - strike * discount * _normal(sign * d2))
    decay = -spot * density * volatility / (2 * math.sqrt(years))
    carry = -sign * RISK_FREE * strike * discount * _normal(sign * d2)
    return OptionModel(
        price=max(price, 0.01),
        volatility=volatility,
        delta=sign * _normal(sign * d1),
        gamma=density / (spot * width),
        vega=spot * density * math.sqrt(years) / 100,
        theta=(decay + carry) / 365,
        underlying=spot,
    )


def _normal(x: float) -> float:
    return (1 + math.erf(x / math.sqrt(2))) / 2
