"""Requests for what this login does not have: advisors' groups, the event calendar, fundamentals."""

from __future__ import annotations

from typing import TYPE_CHECKING

from ibkr_gateway_server.simulator.requests.news import NOT_ALLOWED
from ibkr_gateway_server.simulator.wire import Fields

if TYPE_CHECKING:
    from ibkr_gateway_server.simulator.session import Session

# As captured from logins that are no advisors; the request has no id, and the replacement's is not repeated.
_NOT_AN_ADVISOR = "FA data operations ignored for non FA customers."


def request_groups(session: Session, fields: Fields) -> None:
    fields.skip()
    _kind_of(session, fields.integer(), "b4")


def replace_groups(session: Session, fields: Fields) -> None:
    fields.skip()
    _kind_of(session, fields.integer(), "b1")


def _kind_of(session: Session, kind: int, letter: str) -> None:
    # 1 groups, 2 profiles, 3 aliases.
    cause = _NOT_AN_ADVISOR if kind in (1, 2, 3) else "Non-existent FA data operation request."
    session.error(-1, 321, f"Error validating request.-'{letter}' : cause - {cause}")


def event_calendar(session: Session, fields: Fields) -> None:
    """reqWshMetaData, reqWshEventData: error 10276, as captured from logins without the calendar."""
    session.error(fields.integer(), 10276, NOT_ALLOWED)


def fundamental_data(session: Session, fields: Fields) -> None:
    """reqFundamentalData: no longer sold, and refused so since 2026."""
    fields.skip()
    session.error(fields.integer(), 10358, "Fundamentals data is not allowed.")
