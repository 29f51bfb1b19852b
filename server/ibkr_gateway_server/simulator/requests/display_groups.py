"""Requests about display groups, and the verification of programs: what only a screen, or a partner, makes use of."""

from __future__ import annotations

from typing import TYPE_CHECKING

from ibkr_gateway_server.simulator.codec import reference
from ibkr_gateway_server.simulator.feeds.groups import GROUPS, GroupEvents
from ibkr_gateway_server.simulator.wire import Fields

if TYPE_CHECKING:
    from ibkr_gateway_server.simulator.session import Session

# A guess at the wording: no partner's program has been seen to fail.
NOT_VERIFIED = "Verification of API programs is not available."


def query(session: Session, fields: Fields) -> None:
    fields.skip()
    session.send(reference.display_groups(fields.integer(), GROUPS))


def subscribe(session: Session, fields: Fields) -> None:
    fields.skip()
    req_id, group = fields.integer(), fields.integer()
    if group not in GROUPS:
        session.error(req_id, 321, "Error validating request.-'ca' : cause - Invalid group id.")
        return
    feed = GroupEvents(req_id, group)
    session.feeds.start(feed)
    session.send(reference.display_group_updated(req_id, feed.shown))


def update(session: Session, fields: Fields) -> None:
    """Show another contract. Here a group is seen by the connection that changes it and by no other."""
    fields.skip()
    req_id, contract = fields.integer(), fields.text()
    feed = session.feeds.find(GroupEvents, req_id)
    if feed is None:
        session.error(req_id, 321, "Error validating request.-'cc' : cause - Not subscribed to group events.")
        return
    for member in session.feeds.of(GroupEvents):
        if member.group == feed.group:
            member.shown = contract or "none"
            session.send(reference.display_group_updated(member.req_id, member.shown))


def unsubscribe(session: Session, fields: Fields) -> None:
    fields.skip()
    session.feeds.stop(GroupEvents, fields.integer())


def verify(session: Session, _fields: Fields) -> None:
    session.send(reference.verify_completed(66, NOT_VERIFIED))


def verify_and_authenticate(session: Session, _fields: Fields) -> None:
    session.send(reference.verify_completed(70, NOT_VERIFIED))
