"""What is shown: sizes at the best prices, the rows behind them, and where."""

from __future__ import annotations

from ibkr_gateway_server.simulator.listings import Listing
from ibkr_gateway_server.simulator.market.chance import mixed
from ibkr_gateway_server.simulator.market.figures import Book, Level, Prices
from ibkr_gateway_server.simulator.market.steps import nearest, step_at

_LOTS = {"STK": 100, "CASH": 1_000_000}
_MAX_LOTS = 9

# Venues by kind; a stock's own listing exchange is among them.
STOCK_VENUES = ("IEX", "NASDAQ", "ARCA", "BATS", "DRCTEDGE", "NYSE", "BYX", "MEMX")
OPTION_VENUES = ("CBOE", "AMEX", "PHLX", "ISE", "BOX", "MIAX")

# A row this deep changes every so many quarters of a second; deeper rows are calmer.
_CALM = (1, 2, 4, 8)


def venues_of(listing: Listing) -> tuple[str, ...]:
    """Where a contract trades."""
    if listing.sec_type == "STK":
        return STOCK_VENUES if listing.currency == "USD" else tuple(listing.valid_exchanges.split(",")[1:])
    return OPTION_VENUES if listing.sec_type == "OPT" else (listing.exchange,)


def venue_in(seed: int, listing: Listing, slot: int) -> str:
    """Where the trade of one quarter of a second was."""
    venues = venues_of(listing)
    if len(venues) == 1:
        return venues[0]
    return venues[mixed(seed, listing.con_id, slot, 7) % len(venues)]


def sizes_in(seed: int, listing: Listing, slot: int) -> tuple[int, int]:
    """The sizes of the best bid and ask in one quarter of a second."""
    if not listing.is_quoted:
        return 0, 0
    chance = mixed(seed, listing.con_id, slot)
    lot = _LOTS.get(listing.sec_type, 1)
    # The square makes small sizes the common ones.
    bid, ask = ((chance >> shift & 0xFFFF) / 0x10000 for shift in (0, 16))
    return (1 + int(bid * bid * _MAX_LOTS)) * lot, (1 + int(ask * ask * _MAX_LOTS)) * lot


def book_around(seed: int, listing: Listing, slot: int, prices: Prices, rows: int) -> Book:
    """The best rows of either side: the first is what is quoted, each further one a step away."""
    if prices.bid is None or prices.ask is None:
        return Book((), ())
    bids = [Level(prices.bid, prices.bid_size, _venue(seed, listing, slot, 0, 0))]
    asks = [Level(prices.ask, prices.ask_size, _venue(seed, listing, slot, 1, 0))]
    lot = _LOTS.get(listing.sec_type, 1)
    for side, (levels, away) in enumerate(((bids, -1), (asks, 1))):
        price = levels[0].price
        for row in range(1, rows):
            price = nearest(listing, price + away * step_at(listing, price))
            if price <= 0:
                break
            chance = mixed(seed, listing.con_id, slot // _CALM[min(row, len(_CALM) - 1)], side, row)
            levels.append(
                Level(price, (1 + chance % (_MAX_LOTS + 3 * row)) * lot, _venue(seed, listing, slot, side, row))
            )
    return Book(tuple(bids[:rows]), tuple(asks[:rows]))


def _venue(seed: int, listing: Listing, slot: int, side: int, row: int) -> str:
    venues = venues_of(listing)
    return venues[mixed(seed, listing.con_id, slot // 16, side, row, 9) % len(venues)]
