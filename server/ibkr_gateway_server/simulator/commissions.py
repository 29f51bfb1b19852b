"""What an execution costs: IBKR's published fixed pricing, in the contract's currency."""

from __future__ import annotations

from ibkr_gateway_server.simulator.listings import Listing

# Stocks outside the United States: a share of the value, and the least. Source: IBKR, fixed pricing of stocks.
_ABROAD = {
    "EUR": (0.0005, 3.0),
    "GBP": (0.0005, 3.0),
    "CHF": (0.0005, 5.0),
    "JPY": (0.0008, 80.0),
    "HKD": (0.0008, 18.0),
}
_FUTURES = {"MES": 0.62, "MNQ": 0.62, "MYM": 0.62, "M2K": 0.62}
_FUTURE = 2.25
# Currencies: 0.2 basis points, at least 2 dollars. A live gateway charges it in the account's base currency.
_PAIR_RATE, _PAIR_LEAST = 0.00002, 2.0


def commission(listing: Listing, quantity: float, price: float) -> float:
    """The fee of one execution. US stocks: 0.005 a share, at least 1.00, at most 1 % of the value."""
    if listing.sec_type == "STK" and listing.currency in _ABROAD:
        share, least = _ABROAD[listing.currency]
        return round(max(share * quantity * price, least), 4)
    if listing.sec_type == "STK":
        return round(min(max(0.005 * quantity, 1.0), 0.01 * quantity * price), 4)
    if listing.sec_type == "FUT":
        return round(quantity * _FUTURES.get(listing.symbol, _FUTURE), 4)
    if listing.sec_type == "OPT":
        return round(max(0.65 * quantity, 1.0), 4)
    # The first currency of a pair like USD.JPY is the dollar: two of them are so many yen.
    least = _PAIR_LEAST * price if listing.symbol == "USD" else _PAIR_LEAST
    return round(max(_PAIR_RATE * quantity * price, least), 4)
