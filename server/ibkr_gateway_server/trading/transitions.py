"""The state machine of an order: one table of what each sign means in each state, and what IBKR's words are signs of.

IBKR's evidence dominates what the gateway believed. A final state is kept, but executions always count: a late fill of
a cancelled order adds to what has filled. Notices never change a state; only the words of openOrder, orderStatus and
completedOrder, executions, and a refusal of an order that IBKR has never acknowledged do.
"""

from __future__ import annotations

from collections.abc import Iterable
from decimal import Decimal
from enum import Enum, auto

from ibkr_gateway_server.domain.orders import OrderState, TimeInForce

S = OrderState


class Sign(Enum):
    """Something that says where an order stands."""

    WRITTEN = auto()
    """Its bytes have been handed to the connection."""
    WITHHELD = auto()
    """It was refused in the last moment: no byte has left."""
    SILENCE = auto()
    """IBKR has not said a word of it: in time, before the connection broke, or before the gateway stopped."""
    WORKING = auto()
    """IBKR says that it works, by itself."""
    LISTED = auto()
    """IBKR lists it as open, in answer to a question."""
    CANCELLING = auto()
    """IBKR says that a cancel is under way."""
    CANCELLED = auto()
    """IBKR says that it is cancelled."""
    FILLED = auto()
    """IBKR says that it is filled; the executions may still come."""
    PART_FILLED = auto()
    """Executions of less than its quantity."""
    ALL_FILLED = auto()
    """Executions of all its quantity."""
    REFUSED = auto()
    """An error that refuses an order, of one that IBKR has never acknowledged."""
    DUPLICATE_ID = auto()
    """103: TWS has seen this id before, in an earlier life, or since the first copy of this very order arrived."""
    CANCEL_SENT = auto()
    """A cancel of it has been handed to the connection."""
    CANCEL_REFUSED = auto()
    """An error that refuses its cancel: what it is instead is for the evidence to say."""
    CANCEL_LOST = auto()
    """IBKR lists it as working, and no cancel is under way any more: where one was sent, it was never taken."""
    ABSENT = auto()
    """A complete evidence set does not name it."""
    NEVER_PLACED = auto()
    """Never acknowledged, and absent from complete sets for longer than an order may be late."""
    GONE = auto()
    """Acknowledged once, and absent from complete sets for so long that it must have ended."""
    TWICE = auto()
    """IBKR shows another live order with its mark."""
    ALONE = auto()
    """Of two live orders with its mark only this one is left."""


# Ends that no report takes back.
ENDED = frozenset({S.SIMULATED, S.FILLED, S.CANCELLED})
# What may be at IBKR unacknowledged, and what the gateway has concluded of it by itself.
UNACKNOWLEDGED = frozenset({S.PENDING, S.SENT, S.UNKNOWN, S.PRESUMED_NOT_PLACED})
CONCLUDED = frozenset({S.NOT_SENT, S.PRESUMED_NOT_PLACED, S.CLOSED_UNCONFIRMED})
_UNHEARD = UNACKNOWLEDGED | CONCLUDED
# A conflict is over when either of the two orders has ended.
_ANY = frozenset(S) - ENDED - {S.REJECTED}


def _to(state: OrderState, *sources: Iterable[OrderState]) -> dict[OrderState, OrderState]:
    return {source: state for group in sources for source in group}


# What each sign makes of each state; where nothing is said the state stays.
TABLE: dict[Sign, dict[OrderState, OrderState]] = {
    Sign.WRITTEN: _to(S.SENT, {S.PENDING}),
    Sign.WITHHELD: _to(S.NOT_SENT, {S.PENDING}),
    Sign.SILENCE: _to(S.UNKNOWN, {S.PENDING, S.SENT}),
    # A report that was under way when a cancel left does not take the cancel back. That an order works which was
    # refused is a contradiction: one of the two was misread, and the evidence will say which.
    Sign.WORKING: {**_to(S.WORKING, _UNHEARD), S.REJECTED: S.UNKNOWN},
    Sign.LISTED: _to(S.WORKING, _UNHEARD, {S.REJECTED}),
    Sign.CANCELLING: _to(S.CANCEL_PENDING, _UNHEARD, {S.WORKING, S.PARTIAL}),
    Sign.CANCELLED: _to(S.CANCELLED, _ANY),
    Sign.FILLED: _to(S.FILLED, _ANY),
    Sign.PART_FILLED: _to(S.PARTIAL, _UNHEARD, {S.WORKING, S.REJECTED}),
    Sign.ALL_FILLED: _to(S.FILLED, frozenset(S) - {S.SIMULATED}),
    Sign.REFUSED: _to(S.REJECTED, UNACKNOWLEDGED),
    Sign.DUPLICATE_ID: _to(S.UNKNOWN, {S.PENDING, S.SENT}),
    Sign.CANCEL_SENT: _to(S.CANCEL_PENDING, {S.WORKING, S.PARTIAL}),
    Sign.CANCEL_REFUSED: _to(S.UNKNOWN, {S.CANCEL_PENDING}),
    Sign.CANCEL_LOST: _to(S.WORKING, _UNHEARD, {S.REJECTED, S.CANCEL_PENDING}),
    Sign.ABSENT: _to(S.UNKNOWN, {S.WORKING, S.PARTIAL, S.CANCEL_PENDING}),
    Sign.NEVER_PLACED: _to(S.PRESUMED_NOT_PLACED, {S.UNKNOWN}),
    Sign.GONE: _to(S.CLOSED_UNCONFIRMED, {S.UNKNOWN}),
    Sign.TWICE: _to(S.CONFLICT, _ANY),
    Sign.ALONE: _to(S.UNKNOWN, {S.CONFLICT}),
}

# IBKR's words for a state. Source: TWS API, orderStatus. PendingSubmit and ApiPending say no more than that it was
# sent.
SIGN_OF_WORD = {
    "PreSubmitted": Sign.WORKING,
    "Submitted": Sign.WORKING,
    "PendingCancel": Sign.CANCELLING,
    "Cancelled": Sign.CANCELLED,
    "ApiCancelled": Sign.CANCELLED,
    "Filled": Sign.FILLED,
}

# Inactive is IBKR's word for an order that is not at the exchange. For one that fills at once or never that is its end,
# and so it is for one that is told as completed; any other may be held and come back, so the word alone concludes
# nothing.
FILL_NOW_OR_NEVER = frozenset({TimeInForce.IOC, TimeInForce.FOK})

# A cancel that IBKR refuses: not found, not cancellable, no longer in a cancellable state. A change that it refuses: of
# what has filled, of what it knows otherwise, that failed. Source: TWS API, message codes.
CANCEL_REFUSED = frozenset({10147, 10148, 161, 135})
CHANGE_REFUSED = frozenset({104, 105, 134})
DUPLICATE_ORDER_ID = 103
# Said of every cancelled order after its status has; nothing to warn of.
ORDER_CANCELLED = 202


def after(state: OrderState, sign: Sign, filled: Decimal = Decimal(0)) -> OrderState:
    """The state that a sign makes of another; an order that works and has filled in part is PARTIAL."""
    new = TABLE[sign].get(state, state)
    return S.PARTIAL if new is S.WORKING and filled else new


def sign_of(word: str, time_in_force: TimeInForce | None, *, is_completed: bool = False) -> Sign | None:
    """What IBKR's word for a state is a sign of; None: of nothing."""
    if word == "Inactive" and (is_completed or time_in_force in FILL_NOW_OR_NEVER):
        return Sign.CANCELLED
    return SIGN_OF_WORD.get(word)
