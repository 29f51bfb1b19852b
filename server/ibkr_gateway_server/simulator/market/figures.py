"""What the market tells: prices of a moment, bars, ticks, books."""

from __future__ import annotations

from dataclasses import dataclass
from typing import NamedTuple


@dataclass(frozen=True, slots=True)
class Prices:
    """One moment of one instrument, with its day's figures. An index has a last price alone."""

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


class Quote(NamedTuple):
    """Bid, ask and last of one quarter of a second, on the price step. An index has a last price alone."""

    bid: float | None
    ask: float | None
    last: float


class Tick(NamedTuple):
    """One quarter of a second: its quote, and the trade in it. Sizes are in units of the contract."""

    time: float
    bid: float | None
    ask: float | None
    bid_size: int
    ask_size: int
    last: float
    last_size: int
    venue: str


@dataclass(frozen=True, slots=True)
class Bar:
    """Prices over one span; of trades: their volume, average price and count."""

    open: float
    high: float
    low: float
    close: float
    volume: int = 0
    wap: float = 0.0
    count: int = 0


class Level(NamedTuple):
    """One row of a book: so many units at a price, at a venue."""

    price: float
    size: int
    venue: str


class Book(NamedTuple):
    """The best rows of either side, the best one first."""

    bids: tuple[Level, ...]
    asks: tuple[Level, ...]
