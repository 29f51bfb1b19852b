"""Where depth and quotes come from: exchanges, their services, and the letters they have in a SMART quote."""

from __future__ import annotations

from ibkr_gateway_server.simulator.listings import Listing
from ibkr_gateway_server.simulator.market.book import OPTION_VENUES

# SMART books of American stocks: the whole books of some venues, and the best row of others.
WHOLE_BOOKS = ("ARCA", "BATS", "BEX", "IEX", "NYSE", "NASDAQ")
TOPS = ("AMEX", "BYX", "CHX", "DRCTEDGE", "EDGEA", "ISE", "LTSE", "MEMX", "NYSENAT", "PEARL", "PSX", "T24X", "TXSE")

# "Deep" is a book of prices, "Deep2" one of market makers. Live gateways name three hundred such venues.
DEEP, MAKERS = "Deep", "Deep2"
NO_GROUP = 2147483647
# Exchange, security type, service, aggregated group.
DEPTH_VENUES = (
    *((venue, "STK", MAKERS if venue == "NASDAQ" else DEEP, NO_GROUP) for venue in WHOLE_BOOKS),
    ("IBIS", "STK", DEEP, NO_GROUP),
    *((venue, "OPT", DEEP, NO_GROUP) for venue in OPTION_VENUES),
    ("CME", "FUT", DEEP, NO_GROUP),
    ("IDEALPRO", "CASH", DEEP, 4),
)

# In the order of their bits, as captured in August 2026 for the stocks' code; the options' are a guess.
STOCK_COMPONENTS = (
    *(("AMEX", "A"), ("BEX", "B"), ("NYSENAT", "C"), ("FINRA", "D"), ("ISE", "I"), ("EDGEA", "J"), ("DRCTEDGE", "K")),
    *(("CHX", "M"), ("ARCA", "P"), ("NASDAQ", "Q"), ("IEX", "V"), ("T24X", "G"), ("PSX", "X"), ("BYX", "Y")),
    *(("BATS", "Z"), ("NYSE", "N"), ("LTSE", "L"), ("MEMX", "U"), ("PEARL", "H"), ("TXSE", "F")),
)
OPTION_COMPONENTS = tuple(zip(OPTION_VENUES, "CAXIBM", strict=True))
# The codes that tickReqParams gives; the options' one is a guess.
STOCK_CODE, OPTION_CODE = "9c0001", "a60001"
COMPONENTS = {STOCK_CODE: STOCK_COMPONENTS, OPTION_CODE: OPTION_COMPONENTS}

_CODES = {"STK": STOCK_CODE, "OPT": OPTION_CODE}
_LETTERS = {"STK": dict(STOCK_COMPONENTS), "OPT": dict(OPTION_COMPONENTS)}


def bbo_code(listing: Listing) -> str:
    """What tickReqParams calls the venues behind a contract's best quote; the others have one venue, or none that
    is known here."""
    return _CODES.get(listing.sec_type, "") if listing.currency == "USD" else ""


def letter_of(listing: Listing, venue: str) -> str:
    """A venue's letter in a contract's SMART quote."""
    return _LETTERS[listing.sec_type].get(venue, "") if bbo_code(listing) else ""


def service_at(listing: Listing, exchange: str) -> str:
    """The kind of depth that an exchange gives of a contract; empty: none."""
    found = (service for venue, kind, service, _ in DEPTH_VENUES if (venue, kind) == (exchange, listing.sec_type))
    return next(found, "")
