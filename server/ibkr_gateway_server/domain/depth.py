"""Order books: the best rows of either side, and what is asked for."""

from __future__ import annotations

from dataclasses import dataclass

from ibkr_gateway_server.domain.instruments import Instrument


@dataclass(frozen=True, slots=True)
class DepthRow:
    """One row: a price per unit, the units there, and the exchange or market maker where it is said."""

    price: float
    size: float
    venue: str = ""


@dataclass(frozen=True, slots=True)
class MarketDepth:
    """A book, best rows first: bids from the highest, asks from the lowest."""

    bids: tuple[DepthRow, ...] = ()
    asks: tuple[DepthRow, ...] = ()

    def top(self, row_count: int) -> MarketDepth:
        """The best rows alone."""
        return MarketDepth(self.bids[:row_count], self.asks[:row_count])


@dataclass(frozen=True, slots=True)
class DepthRequest:
    """Whose book, and how much of it. `is_smart`: rows of all exchanges together, which SMART implies."""

    instrument: Instrument
    row_count: int = 5
    is_smart: bool = False
