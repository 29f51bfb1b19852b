"""What generic ticks bring: slow figures of a contract, invented from the seed where the market has none."""

from __future__ import annotations

import zlib
from collections.abc import Callable, Collection, Iterator
from dataclasses import dataclass, field
from datetime import UTC, date, datetime

from ibkr_gateway_server.simulator import hours
from ibkr_gateway_server.simulator.codec import messages
from ibkr_gateway_server.simulator.instruments import third_friday
from ibkr_gateway_server.simulator.listings import Listing
from ibkr_gateway_server.simulator.market import QUOTES_PER_S, Market, Prices, uniform
from ibkr_gateway_server.simulator.market.market import CARRY
from ibkr_gateway_server.simulator.market.path import YEAR_S

# Figures that follow the price are told at every look, the others so often.
INTERVAL_S = 60.0
_FOLLOW_PRICE = frozenset({"220", "221", "232"})

DAY_S = 86400
WEEK_S = 7 * DAY_S


@dataclass(frozen=True, slots=True)
class Look:
    """One moment of one contract, to take figures of."""

    market: Market
    listing: Listing
    now: float
    prices: Prices

    def chance(self, name: str) -> float:
        """A number in [0, 1) that stays the same for a day."""
        return uniform(zlib.crc32(name.encode()), self.listing.con_id, int(self.now // DAY_S))

    def volume(self, seconds: float) -> int:
        """Units traded lately."""
        return self.market.volume(self.listing, self.now - seconds, self.now)

    def extreme(self, weeks: int, *, high: bool) -> float | None:
        """The highest or lowest price of so many weeks."""
        if self.listing.sec_type in ("FUT", "OPT"):
            return None
        bar = self.market.bar(self.listing, self.now - weeks * WEEK_S, self.now)
        return bar.high if high else bar.low

    def volatility(self, shown: str) -> float:
        """Of the last moment."""
        return self.market.bar(self.listing, self.now - 1.0, self.now, shown).close

    def net_asset_value(self, share: float) -> float | None:
        """An exchange-traded fund's, so far from its price; None for what is no fund."""
        if self.listing.stock_type != "ETF":
            return None
        return self.market.rounded(self.listing, self.prices.mark * (1 + share))


def _open_interest(look: Look, right: str) -> float | None:
    if look.listing.sec_type == "OPT":
        return int(20_000 * look.chance("interest") ** 2) if right == look.listing.right else 0
    return int((1 + look.chance(right)) * 400_000)


def _option_volume(look: Look, right: str) -> float | None:
    return int((1 + look.chance(f"volume {right}")) * 300_000 * (look.now % DAY_S / DAY_S))


def _premium(look: Look) -> float | None:
    """How far the front future stands above its index."""
    today = datetime.fromtimestamp(look.now, UTC).date()
    days = next((day - today).days for month in (3, 6, 9, 12, 15) if (day := _third_friday(today.year, month)) >= today)
    return round(look.prices.last * CARRY * days * DAY_S / YEAR_S, 2)


def _last_regular(look: Look) -> float | None:
    """The last price of regular hours."""
    session = look.market.hours.session_at(look.listing, look.now, outside_rth=False)
    if session is not None and session[0] <= look.now:
        return look.prices.last
    close = hours.last_close(look.listing, look.now)
    return look.market.bar(look.listing, close - 1.0, close).close


def _dividends(look: Look) -> str | None:
    """Of the past and the next twelve months, the next date, its amount; empty where none is paid."""
    if look.listing.stock_type not in ("COMMON", "ETF"):
        return None
    if uniform(look.listing.con_id, zlib.crc32(b"dividends")) < 0.4:
        return ",,,"
    # A quarter of half a percent of a round price, so that it does not follow every tick.
    quarter = round(0.00125 * round(look.prices.close, -1), 2)
    today = datetime.fromtimestamp(look.now, UTC).date()
    ahead = (day for month in (2, 5, 8, 11, 14) if (day := _third_friday(today.year, month)) > today)
    return f"{quarter * 4:.2f},{quarter * 4.2:.2f},{next(ahead):%Y%m%d},{quarter:.2f}"


def _third_friday(year: int, month: int) -> date:
    """Of a month that may be one of the next year."""
    return third_friday(year + (month - 1) // 12, (month - 1) % 12 + 1)


def _mark(look: Look) -> float | None:
    return look.prices.mark


# By the number that is asked for: the ticks it brings, by what message, and what each of them is.
_PRICES: dict[str, dict[int, Callable[[Look], float | None]]] = {
    "165": {
        15: lambda look: look.extreme(13, high=False),
        16: lambda look: look.extreme(13, high=True),
        17: lambda look: look.extreme(26, high=False),
        18: lambda look: look.extreme(26, high=True),
        19: lambda look: look.extreme(52, high=False),
        20: lambda look: look.extreme(52, high=True),
    },
    "220": {78: _mark},
    "221": {37: _mark},
    "232": {37: _mark},
    "318": {57: _last_regular},
    "576": {94: lambda look: look.net_asset_value(-0.0001), 95: lambda look: look.net_asset_value(0.0001)},
    "577": {96: lambda look: look.net_asset_value(0.0)},
    "578": {92: lambda look: look.net_asset_value(0.0), 93: lambda look: look.net_asset_value(-0.002)},
    "614": {98: lambda look: look.net_asset_value(0.004), 99: lambda look: look.net_asset_value(-0.004)},
    "619": {79: _mark},
    "623": {97: lambda look: look.net_asset_value(0.0)},
}
_SIZES: dict[str, dict[int, Callable[[Look], float | None]]] = {
    "100": {29: lambda look: _option_volume(look, "C"), 30: lambda look: _option_volume(look, "P")},
    "101": {27: lambda look: _open_interest(look, "C"), 28: lambda look: _open_interest(look, "P")},
    "105": {87: lambda look: int((1 + look.chance("average")) * 600_000)},
    "165": {21: lambda look: look.volume(90 * DAY_S) // 90},
    "236": {89: lambda look: int((1 + look.chance("shortable")) * 5_000_000)},
    "588": {86: lambda look: int((1 + look.chance("interest")) * 1_000_000)},
    "595": {63: lambda look: look.volume(180), 64: lambda look: look.volume(300), 65: lambda look: look.volume(600)},
}
_GENERICS: dict[str, dict[int, Callable[[Look], float | None]]] = {
    "104": {23: lambda look: look.volatility("HISTORICAL_VOLATILITY")},
    "106": {24: lambda look: look.volatility("OPTION_IMPLIED_VOLATILITY")},
    "162": {31: _premium},
    # Above 2.5: at least a thousand shares can be sold short.
    "236": {46: lambda look: 3.0},
    "293": {54: lambda look: float(int(look.now % DAY_S * QUOTES_PER_S))},
    "294": {55: lambda look: 60.0 * QUOTES_PER_S},
    "295": {56: lambda look: float(look.volume(60))},
    "411": {58: lambda look: look.volatility("HISTORICAL_VOLATILITY")},
}


@dataclass(slots=True)
class Figures:
    """The generic ticks of one line: what of them was sent, and when they are looked at again."""

    req_id: int
    listing: Listing
    numbers: Collection[str]
    next_time: float = 0.0
    sent: dict[int, float | str] = field(default_factory=dict)

    def changes(self, market: Market, prices: Prices, now: float) -> Iterator[list[str]]:
        """A tick for every figure that is another."""
        numbers = self.numbers if now >= self.next_time else _FOLLOW_PRICE.intersection(self.numbers)
        if now >= self.next_time:
            self.next_time = now + INTERVAL_S
        look = Look(market, self.listing, now, prices)
        for number in sorted(numbers):
            for tick, price_of in _PRICES.get(number, {}).items():
                if self._is_new(tick, price := price_of(look)) and price is not None:
                    yield messages.tick_price(self.req_id, tick, price, 0)
            for tick, size_of in _SIZES.get(number, {}).items():
                if self._is_new(tick, size := size_of(look)) and size is not None:
                    yield messages.tick_size(self.req_id, tick, size)
            for tick, value_of in _GENERICS.get(number, {}).items():
                if self._is_new(tick, value := value_of(look)) and value is not None:
                    yield messages.tick_generic(self.req_id, tick, value)
            if number in ("456", "59") and self._is_new(59, text := _dividends(look)) and text is not None:
                yield messages.tick_string(self.req_id, 59, text)

    def _is_new(self, tick: int, value: float | str | None) -> bool:
        if value is None or self.sent.get(tick) == value:
            return False
        self.sent[tick] = value
        return True
