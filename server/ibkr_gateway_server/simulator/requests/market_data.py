"""Requests for streaming market data, snapshots and five-second bars."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING

from ibkr_gateway_server.simulator.codec.requests import read_contract, skip_legs
from ibkr_gateway_server.simulator.feeds.bars import REAL_TIME_BAR_S, RealTimeBars
from ibkr_gateway_server.simulator.feeds.quotes import Quotes
from ibkr_gateway_server.simulator.requests.contracts import VALIDATION, one_contract
from ibkr_gateway_server.simulator.wire import Fields

if TYPE_CHECKING:
    from ibkr_gateway_server.simulator.session import Session

MAX_LINES = 100
DELAYED = 3

NOT_SUBSCRIBED = (
    "Requested market data is not subscribed. Check API status by selecting the Account menu then under Management "
    "choose Market Data Subscription Manager and/or availability of delayed data."
)
NOT_SUBSCRIBED_FOR_API = (
    "Requested market data requires additional subscription for API. See link in 'Market Data Connections' dialog for "
    "more details."
)


def choose_type(session: Session, fields: Fields) -> None:
    fields.skip()
    session.data_type = fields.integer(1)


def subscribe(session: Session, fields: Fields) -> None:
    fields.skip()
    req_id, query = fields.integer(), read_contract(fields)
    skip_legs(fields, query)
    fields.skip(3 if fields.flag() else 0)
    generic, is_snapshot = fields.text(), fields.flag()
    if session.feeds.find(Quotes, req_id) is not None:
        session.error(req_id, 322, "Error processing request.-'cl' : cause - Duplicate ticker id")
        return
    if is_snapshot and generic:
        text = "Snapshot market data subscription is not applicable to generic ticks"
        session.error(req_id, 321, f"{VALIDATION}{text}")
        return
    listing = one_contract(session, req_id, query)
    if listing is None:
        return
    if len(session.feeds.of(Quotes)) >= MAX_LINES:
        session.error(req_id, 101, "Max number of tickers has been reached")
        return
    is_delayed = not listing.is_subscribed
    if is_delayed and session.data_type < DELAYED:
        session.error(req_id, 354, f"{NOT_SUBSCRIBED}{listing.primary_exchange}/TOP")
        return
    if is_delayed:
        session.error(req_id, 10167, "Requested market data is not subscribed. Displaying delayed market data.")
    feed = Quotes(req_id, listing, is_delayed, frozenset(generic.split(",")), is_snapshot)
    session.send(*feed.start(session.gateway.market, session.gateway.now))
    if not is_snapshot:
        session.feeds.start(feed)


def cancel(session: Session, fields: Fields) -> None:
    fields.skip()
    req_id = fields.integer()
    if session.feeds.stop(Quotes, req_id) is None:
        session.error(req_id, 300, f"Can't find EId with tickerId:{req_id}")


def subscribe_real_time_bars(session: Session, fields: Fields) -> None:
    fields.skip()
    req_id, query = fields.integer(), read_contract(fields)
    fields.skip()
    shown = fields.text()
    listing = one_contract(session, req_id, query)
    if listing is None:
        return
    if not listing.is_subscribed:
        session.error(req_id, 10089, NOT_SUBSCRIBED_FOR_API)
        return
    first = math.floor(session.gateway.now / REAL_TIME_BAR_S) * REAL_TIME_BAR_S + REAL_TIME_BAR_S
    session.feeds.start(RealTimeBars(req_id, listing, shown, first))


def cancel_real_time_bars(session: Session, fields: Fields) -> None:
    fields.skip()
    session.feeds.stop(RealTimeBars, fields.integer())
