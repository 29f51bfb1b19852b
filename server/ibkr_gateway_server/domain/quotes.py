"""Quotes: the newest prices of one instrument. Absent is None, never zero and never a sentinel."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime
from enum import IntEnum

from ibkr_gateway_server.domain.instruments import Instrument


class MarketDataType(IntEnum):
    """IBKR's market data types, with IBKR's numbers. Source: TWS API, marketDataType."""

    LIVE = 1
    FROZEN = 2
    DELAYED = 3
    DELAYED_FROZEN = 4


@dataclass(frozen=True, slots=True)
class Greeks:
    """Option sensitivities, per unit of the underlying; volatility as a fraction per year."""

    implied_volatility: float | None = None
    delta: float | None = None
    gamma: float | None = None
    vega: float | None = None
    theta: float | None = None
    option_price: float | None = None
    underlying_price: float | None = None


@dataclass(frozen=True, slots=True)
class Quote:
    """Prices per unit in the instrument's currency (may be negative), sizes in units, times in UTC.

    `receive_time` is when the gateway received the newest value; `exchange_time` the exchange's time of the last trade.
    """

    instrument: Instrument
    receive_time: datetime
    market_data_type: MarketDataType | None = None
    bid_price: float | None = None
    ask_price: float | None = None
    last_price: float | None = None
    bid_size: float | None = None
    ask_size: float | None = None
    last_size: float | None = None
    open_price: float | None = None
    high_price: float | None = None
    low_price: float | None = None
    close_price: float | None = None
    volume: float | None = None
    exchange_time: datetime | None = None
    is_stale: bool = False
    halted: bool | None = None
    greeks: Greeks | None = None

    @property
    def has_price(self) -> bool:
        """True when there is anything to show."""
        return any(price is not None for price in (self.bid_price, self.ask_price, self.last_price, self.close_price))

    def reference_price(self, *, buying: bool) -> float | None:
        """The price an order would meet now: ask when buying, bid when selling, else the last trade."""
        side = self.ask_price if buying else self.bid_price
        return side if side is not None else self.last_price
