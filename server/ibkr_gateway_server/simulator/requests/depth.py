"""Requests for market depth, and for the venues behind it."""

from __future__ import annotations

from typing import TYPE_CHECKING

from ibkr_gateway_server.simulator import venues
from ibkr_gateway_server.simulator.codec import reference
from ibkr_gateway_server.simulator.codec.requests import read_contract
from ibkr_gateway_server.simulator.feeds.depth import BookKind, Depth
from ibkr_gateway_server.simulator.listings import FIXED, Listing
from ibkr_gateway_server.simulator.market.book import venues_of
from ibkr_gateway_server.simulator.requests.contracts import one_contract
from ibkr_gateway_server.simulator.requests.permissions import DUPLICATE_ID, not_subscribed
from ibkr_gateway_server.simulator.wire import Fields

if TYPE_CHECKING:
    from ibkr_gateway_server.simulator.session import Session

# An account with a hundred market data lines may have as many books.
MAX_BOOKS = 3
# Deeper books are cut here: a guess, where IBKR names no limit.
MAX_ROWS = 50

RESET = "Market depth data has been RESET. Please empty deep book contents before applying any new entries."
UNSUPPORTED = "Deep market data is not supported for this combination of security type/exchange"


def subscribe(session: Session, fields: Fields) -> None:
    fields.skip()
    req_id, query = fields.integer(), read_contract(fields)
    rows, is_smart = fields.integer(), fields.flag()
    if session.feeds.find(Depth, req_id) is not None:
        session.error(req_id, 322, DUPLICATE_ID)
        return
    listing = one_contract(session, req_id, query)
    if listing is None:
        return
    kind = _kind_of(listing, query.exchange, is_smart=is_smart)
    if kind is None:
        session.error(req_id, 10092, UNSUPPORTED)
    elif not listing.is_subscribed:
        session.error(req_id, 354, not_subscribed(listing))
    elif len(session.feeds.of(Depth)) >= MAX_BOOKS:
        session.error(req_id, 309, f"Max number ({MAX_BOOKS}) of market depth requests has been reached")
    else:
        feed = Depth(req_id, listing, min(max(rows, 1), MAX_ROWS), kind)
        session.feeds.start(feed)
        session.send(*feed.changes(session.gateway.market, session.gateway.now))
        if kind is BookKind.SMART:
            # Which venues the book is made of; as captured, after its first rows.
            session.error(req_id, 2152, _made_of(listing))


def cancel(session: Session, fields: Fields) -> None:
    fields.skip()
    req_id = fields.integer()
    if session.feeds.stop(Depth, req_id) is None:
        session.error(req_id, 310, f"Can't find the subscribed market depth with tickerId:{req_id}")


def reset(session: Session) -> None:
    """Every book begins anew, as after a venue's trouble: error 317, and all rows again at the next look."""
    for feed in session.feeds.of(Depth):
        session.error(feed.req_id, 317, RESET)
        feed.forget()


def exchanges(session: Session, _fields: Fields) -> None:
    session.send(reference.market_depth_exchanges(venues.DEPTH_VENUES))


def smart_components(session: Session, fields: Fields) -> None:
    req_id, code = fields.integer(), fields.text()
    if code in venues.COMPONENTS:
        # While the exchanges are closed the list is empty.
        is_open = session.gateway.market.is_open(FIXED[0], session.gateway.now)
        session.send(reference.smart_components(req_id, venues.COMPONENTS[code] if is_open else ()))
    else:
        # A guess at the wording.
        session.error(req_id, 321, "Error validating request.-'cf' : cause - Invalid BBO exchange.")


def _kind_of(listing: Listing, exchange: str, *, is_smart: bool) -> BookKind | None:
    """What kind of book an exchange gives; SMART has one only on request."""
    if exchange == "SMART":
        return BookKind.SMART if is_smart and listing.sec_type in ("STK", "OPT") else None
    service = venues.service_at(listing, exchange)
    if not service:
        return None
    return BookKind.MAKERS if service == venues.MAKERS else BookKind.PRICES


def _made_of(listing: Listing) -> str:
    """The venues of a SMART book: those with a whole book, and those with the best row alone."""
    is_american = venues.bbo_code(listing) == venues.STOCK_CODE
    whole, tops = (venues.WHOLE_BOOKS, venues.TOPS) if is_american else (venues_of(listing), ())
    groups = {"Depth": whole, "Top": tops}
    told = (f"{label}: {'; '.join(names)}; " for label, names in groups.items() if names)
    return f"Exchanges - {''.join(told)}"
