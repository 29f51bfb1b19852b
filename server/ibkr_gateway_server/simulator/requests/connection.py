"""Requests about the connection itself and about its user."""

from __future__ import annotations

from typing import TYPE_CHECKING

from ibkr_gateway_server.simulator.codec import messages
from ibkr_gateway_server.simulator.wire import Fields

if TYPE_CHECKING:
    from ibkr_gateway_server.simulator.session import Session


def reserve_ids(session: Session, fields: Fields) -> None:
    fields.skip()
    session.send(messages.next_valid_id(session.gateway.reserve_order_ids(session.client_id, fields.integer(1))))


def managed_accounts(session: Session, _fields: Fields) -> None:
    session.send(messages.managed_accounts(tuple(session.gateway.ledgers)))


def current_time(session: Session, _fields: Fields) -> None:
    session.send(messages.current_time(session.gateway.now))


def current_time_in_millis(session: Session, _fields: Fields) -> None:
    session.send(messages.current_time_in_millis(session.gateway.now))


def accept(_session: Session, _fields: Fields) -> None:
    """Taken without a reply, as a live gateway does: log level, binding of manual orders, ends of what has ended."""


def family_codes(session: Session, _fields: Fields) -> None:
    session.send(messages.family_codes())


def soft_dollar_tiers(session: Session, fields: Fields) -> None:
    session.send(messages.soft_dollar_tiers(fields.integer()))


def user_info(session: Session, fields: Fields) -> None:
    session.send(messages.user_info(fields.integer()))
