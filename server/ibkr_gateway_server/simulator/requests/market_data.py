"""Requests for streaming market data, snapshots and five-second bars."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING

from ibkr_gateway_server.simulator import news
from ibkr_gateway_server.simulator.codec import messages
from ibkr_gateway_server.simulator.codec.requests import read_contract, skip_legs
from ibkr_gateway_server.simulator.feeds.bars import REAL_TIME_BAR_S, LiveBars, RealTimeBars
from ibkr_gateway_server.simulator.feeds.news import Headlines
from ibkr_gateway_server.simulator.feeds.quotes import DELAYED, DELAYED_FROZEN, FROZEN, Quotes
from ibkr_gateway_server.simulator.generic_ticks import FUNDAMENTALS, INDEPENDENT, GenericTicks, WrongList
from ibkr_gateway_server.simulator.instruments import ContractQuery
from ibkr_gateway_server.simulator.listings import Listing
from ibkr_gateway_server.simulator.requests import permissions
from ibkr_gateway_server.simulator.requests.contracts import NO_DEFINITION, VALIDATION, one_contract
from ibkr_gateway_server.simulator.requests.news import NOT_ALLOWED
from ibkr_gateway_server.simulator.wire import Fields

if TYPE_CHECKING:
    from ibkr_gateway_server.simulator.session import Session

NEWS = "NEWS"
DELAYED_FROM_NOW = 10167
LINE_NOTICES = frozenset({10090, 10091})
MAX_LINES = 100
# A snapshot ends when it is whole: at the latest after so long, as of an index, which has no bid and no ask.
SNAPSHOT_S = 11.0
# Source: TWS API, real-time bars: as many new requests in ten minutes.
MAX_BARS, BARS_SPAN_S = 60, 600.0
REAL_TIME_SHOWN = ("TRADES", "MIDPOINT", "BID", "ASK")


def choose_type(session: Session, fields: Fields) -> None:
    fields.skip()
    session.data_type = fields.integer(1)


def subscribe(session: Session, fields: Fields) -> None:
    fields.skip()
    req_id, query = fields.integer(), read_contract(fields)
    skip_legs(fields, query)
    fields.skip(3 if fields.flag() else 0)
    text, is_snapshot, is_regulatory = fields.text(), fields.flag(), fields.flag()
    feeds, generic = session.feeds, GenericTicks.read(text)
    if feeds.find(Quotes, req_id) is not None:
        session.error(req_id, 322, permissions.DUPLICATE_ID)
        return
    if (is_snapshot or is_regulatory) and text:
        cause = "Snapshot market data subscription is not applicable to generic ticks"
        session.error(req_id, 321, f"{VALIDATION}{cause}")
        return
    if query.sec_type == NEWS and generic.has_news:
        _follow_tape(session, req_id, query)
        return
    listing = one_contract(session, req_id, query)
    if listing is None:
        return
    try:
        generic.check(text, listing)
    except WrongList as wrong:
        session.error(req_id, 321, f"Error validating request.-'bQ' : cause - {wrong}")
        return
    if not generic.providers <= set(news.CODES):
        session.error(req_id, 10276, NOT_ALLOWED)
        return
    if len(feeds.of(Quotes)) >= MAX_LINES:
        session.error(req_id, 101, "Max number of tickers has been reached")
        return
    feed = _line(session, req_id, listing, generic, is_regulatory=is_regulatory)
    if feed is None:
        return
    if FUNDAMENTALS in generic.numbers:
        # The other ticks come all the same.
        session.error(req_id, 10358, "Fundamentals data is not allowed.")
    market, now = session.gateway.market, session.gateway.now
    session.send(*feed.start(market, now))
    if not (is_snapshot or is_regulatory):
        feeds.start(feed)
    elif feed.has_quote:
        session.send(messages.tick_snapshot_end(req_id))
    else:
        feeds.start_until(now + SNAPSHOT_S, feed, messages.tick_snapshot_end(req_id))
    if generic.has_news:
        _follow_news(session, Headlines(req_id, session.gateway.seed, (listing,), generic.providers))


def _follow_news(session: Session, headlines: Headlines) -> None:
    session.feeds.start(headlines)
    session.send(*headlines.start(session.gateway.market, session.gateway.now))


def _follow_tape(session: Session, req_id: int, query: ContractQuery) -> None:
    """All of a provider's headlines: its contract is "BRFG:BRFG_ALL" at the exchange "BRFG"."""
    provider = query.exchange
    if query.symbol != f"{provider}:{provider}_ALL":
        session.error(req_id, 200, NO_DEFINITION)
    elif provider not in news.CODES:
        session.error(req_id, 10276, NOT_ALLOWED)
    else:
        stocks = tuple(listing for listing in session.gateway.catalogue if listing.sec_type == "STK")
        _follow_news(session, Headlines(req_id, session.gateway.seed, stocks, frozenset({provider})))


def _line(
    session: Session, req_id: int, listing: Listing, generic: GenericTicks, *, is_regulatory: bool
) -> Quotes | None:
    """What the client gets of what it asked for; None when it has been told that it gets nothing."""
    wanted = session.data_type
    wants_frozen = wanted in (FROZEN, DELAYED_FROZEN)
    if listing.is_subscribed and session.gateway.faults.outage.live_is_elsewhere:
        if wanted in (DELAYED, DELAYED_FROZEN):
            return Quotes(req_id, listing, True, wants_frozen, generic)
        session.error(req_id, 10197, permissions.COMPETING_SESSION)
        return None
    # A regulatory snapshot is paid for one by one, instead of by subscription.
    if listing.is_subscribed or (is_regulatory and listing.sec_type == "STK"):
        return Quotes(req_id, listing, False, wants_frozen, generic)
    independent = generic.only(INDEPENDENT)
    if wanted in (DELAYED, DELAYED_FROZEN):
        line = independent if generic.is_top_off else GenericTicks(independent.numbers)
        notice = _error(session, req_id, 10167, permissions.DELAYED_INSTEAD)
        return Quotes(req_id, listing, True, wants_frozen, line, notice)
    if independent.numbers or (generic.has_news and generic.is_top_off):
        notice = _error(session, req_id, 10090, permissions.partly_subscribed(listing))
        return Quotes(req_id, listing, False, wants_frozen, independent, notice)
    if wants_frozen:
        # A guess at when a gateway says this and when the other.
        session.error(req_id, 10168, permissions.DELAYED_NOT_ENABLED)
    else:
        session.error(req_id, 354, permissions.not_subscribed(listing))
    return None


def _error(session: Session, req_id: int, code: int, text: str) -> list[str]:
    return messages.error(session.version, req_id, code, text, session.gateway.now)


def cancel(session: Session, fields: Fields) -> None:
    fields.skip()
    req_id = fields.integer()
    stopped = [session.feeds.stop(kind, req_id) for kind in (Headlines, Quotes)]
    if stopped == [None, None]:
        session.error(req_id, 300, f"Can't find EId with tickerId:{req_id}")


def revoke(session: Session, times: int = 1) -> None:
    """The same login trades elsewhere: error 10197 for every live line, often in bursts, and no more ticks of it."""
    for feed in session.feeds.of(Quotes):
        if not feed.is_delayed:
            for _ in range(times):
                session.error(feed.req_id, 10197, permissions.COMPETING_SESSION)
            session.feeds.stop(Quotes, feed.req_id)


def tell_lines(session: Session, code: int, text: str) -> None:
    """An error for every line that goes on: with 10167 it is delayed from now on, with other notices it stays as it is,
    and with what is none it ends."""
    for feed in session.feeds.of(Quotes):
        session.error(feed.req_id, code, text)
        if code == DELAYED_FROM_NOW:
            feed.delay()
        elif code not in LINE_NOTICES:
            session.feeds.stop(Quotes, feed.req_id)


def bust(session: Session) -> None:
    """Trades have been taken back, and bars with them: error 10225 ends all that go on; clients ask for them anew."""
    for kind in (RealTimeBars, LiveBars):
        for feed in session.feeds.of(kind):
            session.error(feed.req_id, 10225, permissions.BUST)
            session.feeds.stop(kind, feed.req_id)


def subscribe_real_time_bars(session: Session, fields: Fields) -> None:
    fields.skip()
    req_id, query = fields.integer(), read_contract(fields)
    # Whatever size is asked for, bars are of five seconds: live gateways ignore it.
    fields.skip()
    shown, regular = fields.text(), fields.flag()
    if session.feeds.find(RealTimeBars, req_id) is not None:
        session.error(req_id, 322, permissions.DUPLICATE_ID)
        return
    listing = one_contract(session, req_id, query)
    if listing is None:
        return
    if shown not in REAL_TIME_SHOWN:
        cause = "What to show field is missing or incorrect."
        session.error(req_id, 321, f"Error validating request.-'bQ' : cause - {cause}")
        return
    if not listing.is_subscribed and shown != "TRADES":
        session.error(req_id, 10089, permissions.NOT_SUBSCRIBED_FOR_API)
        return
    if refusal := _real_time_refusal(session, listing, query.exchange, shown):
        session.error(req_id, 420, f"Invalid Real-time Query:{refusal}")
        return
    first = math.floor(session.gateway.now / REAL_TIME_BAR_S) * REAL_TIME_BAR_S + REAL_TIME_BAR_S
    session.feeds.start(RealTimeBars(req_id, listing, shown, regular, first))


def _real_time_refusal(session: Session, listing: Listing, exchange: str, shown: str) -> str:
    """Why there can be no such bars; empty: there can."""
    is_traded = listing.sec_type not in ("CASH", "FUND")
    if not (is_traded if shown == "TRADES" else listing.is_quoted):
        return permissions.no_such_data(shown.title(), listing, exchange)
    if not listing.is_subscribed:
        return f"{permissions.no_permission(listing)}. {permissions.NOT_SUBSCRIBED_FOR_API}"
    recent, now = session.feeds.recent(RealTimeBars), session.gateway.now
    while recent and now - recent[0] >= BARS_SPAN_S:
        recent.popleft()
    if session.gateway.behaviour.enforces_pacing and len(recent) >= MAX_BARS:
        return "Historical data request pacing violation"
    recent.append(now)
    return ""


def cancel_real_time_bars(session: Session, fields: Fields) -> None:
    fields.skip()
    session.feeds.stop(RealTimeBars, fields.integer())
