"""The market: prices as a pure function of seed, instrument and time.

A root's price is its level times the exponential of layered noise, one layer for each span from a second to half a
year, each as wide as a random walk of that volatility would wander in its span. Any moment of the past or future can
be asked for, in any order and in any process, with the same answer: streams, snapshots and bars agree because they
ask the same function.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from datetime import UTC, datetime
from functools import lru_cache

from ibkr_gateway_server.simulator.instruments import ROOTS, Listing

YEAR_S = 365.25 * 86400
DAY_S = 86400
# Spans of the noise layers, in seconds: a factor of four apart, from one second to half a year.
SPANS_S = tuple(4.0**power for power in range(13))
RISK_FREE = 0.04

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
    """Prices over one span; `start` is epoch seconds."""

    start: int
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


class Market:
    """Prices of every listing. `seed` decides all that is random."""

    def __init__(self, seed: int) -> None:
        self._seed = seed
        self._roots = {name: index for index, name in enumerate(sorted(ROOTS))}
        # What set_quote has moved: from these times on, a root's prices are multiplied by these factors.
        self._shifts: dict[str, list[tuple[float, float]]] = {}
        self._day: dict[tuple[int, int], tuple[float, float, float, float]] = {}

    def prices(self, listing: Listing, now: float) -> Prices:
        """Bid, ask, last and the day's figures, each on the price step."""
        value = self.value(listing, now)
        moment = int(now * 4)
        sizes = [1 + int(uniform(self._seed, listing.con_id, moment, slot) ** 2 * 9) for slot in range(3)]
        lot = 100 if listing.sec_type == "STK" else 1_000_000 if listing.sec_type == "CASH" else 1
        bid_size, ask_size, last_size = (size * lot for size in sizes)
        begin, high, low, close = self._day_figures(listing, now, value)
        bid = ask = None
        last = value
        if listing.sec_type != "IND":
            step = self.step(listing, value)
            bid = max(math.floor(value / step + 1e-9), 1) * step
            ask = bid + step * listing.spread_ticks
            last = bid if uniform(self._seed, listing.con_id, moment, 3) < 0.5 else ask
            bid, ask, last = (self.rounded(listing, price) for price in (bid, ask, last))
        else:
            last = self.rounded(listing, value)
        per_second = 0.002 if listing.sec_type == "OPT" else 20.0
        volume = int((now % DAY_S) * per_second * (1 + listing.con_id % 7))
        return Prices(
            bid, ask, last, bid_size, ask_size, last_size, volume, begin, max(high, last), min(low, last), close
        )

    def value(self, listing: Listing, now: float) -> float:
        """The unrounded price."""
        underlying = self._root_price(listing.root, now) * listing.scale
        return self.option(listing, now).price if listing.sec_type == "OPT" else underlying

    def option(self, listing: Listing, now: float) -> OptionModel:
        """The option's price and sensitivities at a volatility that rises away from the money and falls with time."""
        underlying = self._root_price(listing.root, now) * listing.scale
        expiry = datetime.strptime(listing.expiry, "%Y%m%d").replace(hour=21, tzinfo=UTC).timestamp()
        years = max(expiry - now, 3600.0) / YEAR_S
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
        self._day.clear()

    def bars(self, listing: Listing, start: int, end: float, width: int) -> list[Bar]:
        """Bars of `width` seconds from `start` until `end`; the last may still be growing."""
        return [self.bar(listing, begin, min(begin + width, end)) for begin in range(start, math.ceil(end), width)]

    def bar(self, listing: Listing, begin: int, end: float) -> Bar:
        """One bar: extremes over a grid of moments, its close at its end."""
        samples = 12
        grid = [begin + (end - begin) * index / samples for index in range(samples)] + [end - 0.001]
        values = [self.rounded(listing, self.value(listing, moment)) for moment in grid]
        volume = int((end - begin) * (0.2 + uniform(self._seed, listing.con_id, begin)) * (100 if listing.root else 1))
        average = sum(values) / len(values)
        return Bar(
            begin, values[0], max(values), min(values), values[-1], volume, round(average, 3), max(volume // 90, 1)
        )

    def rounded(self, listing: Listing, value: float) -> float:
        """The nearest price on the step."""
        step = self.step(listing, value)
        return round(round(value / step) * step, 6)

    @staticmethod
    def step(listing: Listing, _value: float) -> float:
        """The price step; options trade in pennies here, as those of the penny programme do."""
        return listing.min_tick

    def _root_price(self, name: str, now: float) -> float:
        root, number = ROOTS[name], self._roots[name]
        wander = 0.0
        for layer, span in enumerate(SPANS_S):
            position = now / span
            index = math.floor(position)
            part = position - index
            smooth = part * part * (3 - 2 * part)
            before, after = _noise(self._seed, number, layer, index), _noise(self._seed, number, layer, index + 1)
            wander += (before + (after - before) * smooth) * math.sqrt(span / YEAR_S)
        price = root.level * math.exp(root.volatility * wander)
        for since, factor in reversed(self._shifts.get(name, ())):
            if now >= since:
                return price * factor
        return price

    def _day_figures(self, listing: Listing, now: float, value: float) -> tuple[float, float, float, float]:
        """Open, high and low of the day so far, and the close of the day before."""
        day = int(now // DAY_S)
        known = self._day.get((listing.con_id, day))
        if known is None:
            midnight = day * DAY_S
            past = [self.value(listing, midnight + (now - midnight) * part / 12) for part in range(13)]
            close = self.value(listing, midnight - 1)
            known = (past[0], max(past), min(past), close)
        begin, high, low, close = known
        known = (begin, max(high, value), min(low, value), close)
        self._day[listing.con_id, day] = known
        begin, high, low, close = (self.rounded(listing, price) for price in known)
        return begin, high, low, close


@lru_cache(maxsize=1 << 16)
def _noise(seed: int, root: int, layer: int, index: int) -> float:
    """One point of a noise layer, in [-1, 1). Kept, since neighbouring moments share the slow layers' points."""
    return uniform(seed, root, layer, index) * 2 - 1


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
