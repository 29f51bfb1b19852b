"""Requests for single ticks: one by one as they come, of the past, and how often each price was traded."""

from __future__ import annotations

import itertools
from collections import Counter
from typing import TYPE_CHECKING

from ibkr_gateway_server.simulator import history
from ibkr_gateway_server.simulator.codec import ticks
from ibkr_gateway_server.simulator.codec.requests import read_contract
from ibkr_gateway_server.simulator.feeds.ticks import TickByTick
from ibkr_gateway_server.simulator.history import BadRequest
from ibkr_gateway_server.simulator.listings import Listing
from ibkr_gateway_server.simulator.market import scramble
from ibkr_gateway_server.simulator.past_ticks import News, PastTicks
from ibkr_gateway_server.simulator.requests.contracts import one_contract
from ibkr_gateway_server.simulator.requests.history import FIRST
from ibkr_gateway_server.simulator.requests.permissions import DUPLICATE_ID, no_permission, no_such_data
from ibkr_gateway_server.simulator.wire import Fields

if TYPE_CHECKING:
    from ibkr_gateway_server.simulator.session import Session

# Of a hundred market data lines, one in twenty. Source: TWS API, tick-by-tick data.
MAX_REQUESTS = 5
MAX_TICKS = 1000

KINDS = {"Last": ticks.LAST, "AllLast": ticks.ALL_LAST, "BidAsk": ticks.BID_ASK, "MidPoint": ticks.MIDPOINT}
SHOWN = {"TRADES": ticks.LAST, "BID_ASK": ticks.BID_ASK, "MIDPOINT": ticks.MIDPOINT}
_DATA = {ticks.LAST: "Last", ticks.ALL_LAST: "AllLast", ticks.BID_ASK: "BidAsk", ticks.MIDPOINT: "MidPoint"}
VALIDATION = "Error validating request.-'{letter}' : cause - {cause}"

# A histogram's span is gone through in bars of a size that its unit decides, and each of them in so many steps.
_PARTS = {"S": "1 min", "D": "1 hour", "W": "1 hour"}
HISTOGRAM_STEPS = 400


def subscribe(session: Session, fields: Fields) -> None:
    req_id, query = fields.integer(), read_contract(fields)
    name, count, ignores_size = fields.text(), fields.integer(), fields.flag()
    if session.feeds.find(TickByTick, req_id) is not None:
        session.error(req_id, 322, DUPLICATE_ID)
        return
    listing = one_contract(session, req_id, query)
    if listing is None:
        return
    kind = KINDS.get(name)
    if kind is None:
        # A guess at the wording.
        session.error(req_id, 321, VALIDATION.format(letter="cM", cause="Tick-by-tick type is missing or incorrect."))
    elif not listing.is_subscribed:
        session.error(req_id, 10189, f"Failed to request tick-by-tick data.{no_permission(listing)}.")
    elif not _exists(listing, kind) or listing.sec_type == "OPT" or not listing.is_quoted:
        # Options and indices have ticks of the past alone. Source: TWS API, tick-by-tick data.
        text = f"{name} tick-by-tick requests are not supported for {listing.symbol}."
        session.error(req_id, 10189, f"Failed to request tick-by-tick data.{text}")
    elif len(session.feeds.of(TickByTick)) >= MAX_REQUESTS:
        session.error(req_id, 10190, "Max number of tick-by-tick requests has been reached.")
    else:
        market, now = session.gateway.market, session.gateway.now
        feed = TickByTick(req_id, listing, News(kind, ignores_size), now)
        session.feeds.start(feed)
        if count > 0:
            past = PastTicks(listing, kind, min(count, MAX_TICKS), ignores_size=ignores_size).before(market, now)
            session.send(ticks.historical_ticks(req_id, kind, past, is_last=True))


def cancel(session: Session, fields: Fields) -> None:
    req_id = fields.integer()
    if session.feeds.stop(TickByTick, req_id) is None:
        session.error(req_id, 300, f"Can't find EId with tickerId:{req_id}")


def historical(session: Session, fields: Fields) -> None:
    req_id, query = fields.integer(), read_contract(fields)
    fields.skip()
    start, end, count = fields.text(), fields.text(), fields.integer()
    shown, regular, ignores_size = fields.text(), fields.flag(), fields.flag()
    listing = one_contract(session, req_id, query)
    if listing is None:
        return
    try:
        kind = _kind_shown(shown)
        if bool(start) == bool(end):
            raise BadRequest("Only one of start time and end time must be specified.")
        if not 1 <= count <= MAX_TICKS:
            raise BadRequest(f"Number of ticks must be between 1 and {MAX_TICKS}.")
        moment = max(history.end_of(start or end, session.gateway.now), FIRST.timestamp())
    except BadRequest as refused:
        session.error(req_id, 321, VALIDATION.format(letter="bG", cause=refused))
        return
    if not listing.is_subscribed:
        session.error(req_id, 10187, f"Failed to request historical ticks:{no_permission(listing)}")
        return
    if not _exists(listing, kind):
        text = no_such_data(_DATA[kind], listing, query.exchange)
        session.error(req_id, 10187, f"Failed to request historical ticks:{text}")
        return
    wanted = PastTicks(listing, kind, count, regular, ignores_size)
    market, now = session.gateway.market, session.gateway.now
    found = wanted.after(market, moment, now) if start else wanted.before(market, moment)
    session.send(ticks.historical_ticks(req_id, kind, found, is_last=True))


def histogram(session: Session, fields: Fields) -> None:
    req_id, query = fields.integer(), read_contract(fields)
    fields.skip()
    regular, period = fields.flag(), fields.text()
    listing = one_contract(session, req_id, query)
    if listing is None:
        return
    if not listing.is_subscribed:
        session.error(req_id, 10188, f"Failed to request histogram data:{no_permission(listing)}")
        return
    if listing.sec_type not in ("STK", "FUT", "OPT"):
        text = no_such_data("Histogram", listing, query.exchange)
        session.error(req_id, 10188, f"Failed to request histogram data:{text}")
        return
    count, _, unit = period.strip().partition(" ")
    try:
        duration, end = f"{count} {unit[:1].upper()}", session.gateway.now
        rows = _traded_at(session, listing, duration, end, regular=regular)
    except BadRequest:
        session.error(req_id, 10188, f"Failed to request histogram data:Invalid time period {period[:40]}")
        return
    session.send(ticks.histogram(req_id, rows))


def _traded_at(
    session: Session, listing: Listing, duration: str, end: float, *, regular: bool
) -> list[tuple[float, int]]:
    """How much was traded at each price, in no order, as captured. Raises BadRequest.

    Of each part of a span, all that was traded in it counts for its last price.
    """
    market = session.gateway.market
    size = _PARTS.get(history.span_of(duration)[1], "1 day")
    spans = history.bar_spans(market.hours, listing, size, duration, end, regular=regular)
    steps = max(HISTOGRAM_STEPS // max(len(spans), 1), 1)
    traded: Counter[float] = Counter()
    for span in spans:
        for begin, finish in span.parts:
            edges = [begin + (finish - begin) * step / steps for step in range(steps + 1)]
            for part, until in itertools.pairwise(edges):
                if int(until) > int(part):
                    traded[market.bar(listing, until - 1.0, until).close] += market.volume(listing, part, until)
    rows = [(price, size) for price, size in traded.items() if size]
    return sorted(rows, key=lambda row: scramble(round(row[0] * 1e6)))


def _kind_shown(shown: str) -> int:
    if shown not in SHOWN:
        raise BadRequest("What to show field is missing or incorrect.")
    return SHOWN[shown]


def _exists(listing: Listing, kind: int) -> bool:
    """Whether a contract has ticks of a kind: an index has no quotes, a currency no trades, a fund neither."""
    if listing.sec_type == "FUND":
        return False
    is_trade = kind in (ticks.LAST, ticks.ALL_LAST)
    return not (is_trade and listing.sec_type == "CASH") if listing.is_quoted else is_trade
