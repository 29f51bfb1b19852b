"""Requests about the connection itself, and those that are not simulated."""

from __future__ import annotations

from typing import TYPE_CHECKING

from ibkr_gateway_server.simulator.codec import messages
from ibkr_gateway_server.simulator.wire import Fields

if TYPE_CHECKING:
    from ibkr_gateway_server.simulator.session import Session

# A request's id may stand behind a version, which is a small number.
_HIGHEST_VERSION = 20


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
    """Taken without a reply, as a live gateway does: log level, binding of manual orders, bulletins that never come."""


def family_codes(session: Session, _fields: Fields) -> None:
    session.send(messages.family_codes())


def soft_dollar_tiers(session: Session, fields: Fields) -> None:
    session.send(messages.soft_dollar_tiers(fields.integer()))


def news_providers(session: Session, _fields: Fields) -> None:
    session.send(messages.news_providers())


def user_info(session: Session, fields: Fields) -> None:
    session.send(messages.user_info(fields.integer()))


def refuse(session: Session, fields: Fields) -> None:
    """A request of the protocol that this gateway does not simulate yet: an error under its id, never silence."""
    first = [fields.text() for _ in range(min(fields.left, 2))]
    ids = (int(field) for field in first if field.isascii() and field.isdigit() and len(field) < 11)
    req_id = next((number for number in ids if number > _HIGHEST_VERSION), -1)
    session.error(req_id, 322, "Error processing request.-'cB' : cause - This request is not simulated.")
