"""Requests about orders and executions."""

from __future__ import annotations

from typing import TYPE_CHECKING

from ibkr_gateway_server.simulator import history, hours
from ibkr_gateway_server.simulator.acceptance import VALIDATION, OrderRefused
from ibkr_gateway_server.simulator.codec import messages, orders
from ibkr_gateway_server.simulator.codec.requests import read_cancel, read_contract, read_order
from ibkr_gateway_server.simulator.listings import FIXED
from ibkr_gateway_server.simulator.wire import Fields

if TYPE_CHECKING:
    from ibkr_gateway_server.simulator.session import Session


def place(session: Session, fields: Fields) -> None:
    order_id, query = fields.integer(), read_contract(fields)
    terms = read_order(session.version, fields, query)
    try:
        if not query.exchange:
            # A contract from a position has none; a live gateway does not guess.
            raise OrderRefused(321, f"{VALIDATION}Missing order exchange.")
        if not terms.what_if:
            session.gateway.place(session.client_id, order_id, query, terms)
            return
        order, preview = session.gateway.preview(session.client_id, order_id, query, terms)
    except OrderRefused as refused:
        session.error(order_id, refused.code, refused.text)
        return
    if session.gateway.behaviour.previews_twice:
        session.send(orders.open_order(session.version, order))
    session.send(orders.open_order(session.version, order, preview))


def cancel(session: Session, fields: Fields) -> None:
    order_id = read_cancel(session.version, fields)
    try:
        session.gateway.cancel(session.client_id, order_id)
    except OrderRefused as refused:
        session.error(order_id, refused.code, refused.text)


def cancel_all(session: Session, _fields: Fields) -> None:
    session.gateway.cancel_all(session.client_id)


def bind_automatically(session: Session, fields: Fields) -> None:
    """reqAutoOpenOrders: from now on orders placed by hand become client 0's own."""
    fields.skip()
    if session.client_id != 0:
        text = "Error validating request.-'cb' : cause - Only the default client (i.e 0) can auto bind orders."
        session.error(-1, 321, text)
        return
    session.binds_manual_orders = fields.flag()


def list_own(session: Session, _fields: Fields) -> None:
    """reqOpenOrders; client 0's also binds what has been placed by hand. Source: TWS API, "Modifying orders"."""
    if session.client_id == 0:
        session.gateway.bind_manual_orders()
    _send_open_orders(session, own=True)


def list_all(session: Session, _fields: Fields) -> None:
    _send_open_orders(session, own=False)


def _send_open_orders(session: Session, *, own: bool) -> None:
    for order in session.gateway.open_orders():
        if not own or order.client_id == session.client_id:
            order.told_revision = order.revision if session.client_id == order.client_id else order.told_revision
            session.send(orders.open_order(session.version, order), orders.order_status(order))
    session.send(messages.open_order_end())


def list_completed(session: Session, _fields: Fields) -> None:
    for order in session.gateway.completed_orders():
        session.send(orders.completed_order(session.version, order))
    session.send(messages.completed_orders_end())


def list_executions(session: Session, fields: Fields) -> None:
    """The day's executions that pass the filter, each with its commission."""
    fields.skip()
    req_id, client_id, account, since = fields.integer(), fields.integer(), fields.text(), fields.text()
    symbol, kind, exchange, side = (fields.text() for _ in range(4))
    now = session.gateway.now
    earliest, _ = hours.day_span(FIXED[0], now)
    try:
        earliest = max(earliest, history.end_of(since, now)) if since else earliest
    except history.BadRequest as refused:
        session.error(req_id, 321, f"Error validating request.-'bJ' : cause - {refused}")
        return
    for execution in session.gateway.executions:
        order = execution.order
        if (
            client_id in (0, order.client_id)
            and account in ("", order.terms.account)
            and execution.time >= earliest
            and symbol in ("", order.listing.symbol)
            and kind in ("", order.listing.sec_type)
            and exchange in ("", execution.exchange)
            and side in ("", order.terms.action, "BOT" if order.is_buy else "SLD")
        ):
            report = (execution.execution_id, execution.commission, order.listing.currency, execution.realized_pnl)
            session.send(orders.exec_details(session.version, req_id, execution), messages.commission_report(*report))
    session.send(messages.executions_end(req_id))
