"""What things are worth at one moment: marks of contracts, and rates between currencies by the listed pairs."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from decimal import Decimal

from ibkr_gateway_server.simulator.listings import Listing

# Live gateways spell an exchange rate with at most seven decimals, as 0.8303924 dollars in euros.
RATE_STEP = Decimal("1e-7")
PIVOT = "USD"


class NoExchangeRate(LookupError):
    """No listed currency pair leads from one currency to another; list one, as "USD.JPY"."""


def exact(number: float) -> Decimal:
    """A float of the market as the decimal number it is written as; the one border between the two."""
    return Decimal(repr(number))


class Valuation:
    """Values what is listed; `price` gives a contract's price now (or at whatever moment is valued)."""

    def __init__(self, listed: Iterable[Listing], price: Callable[[Listing], float]) -> None:
        self._listed = listed
        self._price = price
        self._by_id: dict[int, Listing] = {}
        self._pairs: dict[tuple[str, str], Listing] = {}

    def mark(self, listing: Listing) -> Decimal:
        """The price of one unit, in the contract's currency."""
        # Seven decimals, as updatePortfolio tells it; the middle of two prices has noise behind them.
        return exact(round(self._price(listing), 7))

    def underlying(self, listing: Listing) -> Decimal:
        """The mark of an option's underlying; 0 for everything else. Raises LookupError when that is not listed."""
        if listing.sec_type != "OPT":
            return Decimal(0)
        if listing.under_con_id not in self._by_id:
            self._read()
        return self.mark(self._by_id[listing.under_con_id])

    def rate(self, currency: str, base: str) -> Decimal:
        """Units of `base` for one of `currency`, straight or by way of the dollar. Raises NoExchangeRate."""
        if currency == base:
            return Decimal(1)
        rate = self._pair_rate(currency, base)
        if rate is None and PIVOT not in (currency, base):
            there, back = self._pair_rate(currency, PIVOT), self._pair_rate(PIVOT, base)
            rate = None if there is None or back is None else there * back
        if rate is None:
            raise NoExchangeRate(f"no listed pair leads from {currency} to {base}")
        return rate.quantize(RATE_STEP)

    def _pair_rate(self, currency: str, base: str) -> Decimal | None:
        if not self._pairs:
            self._read()
        if pair := self._pairs.get((currency, base)):
            return self.mark(pair)
        if pair := self._pairs.get((base, currency)):
            return 1 / self.mark(pair)
        return None

    def _read(self) -> None:
        self._by_id = {listing.con_id: listing for listing in self._listed}
        self._pairs = {(each.symbol, each.currency): each for each in self._by_id.values() if each.sec_type == "CASH"}
