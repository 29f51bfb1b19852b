"""The state machine of an order, as pure functions of its status and one piece of evidence.

IBKR's evidence dominates what the gateway believed. A final state is kept, but executions always count: a late fill
of a cancelled order adds to what has filled. Notices never change a state; only the words of openOrder, orderStatus
and completedOrder, executions, and a rejection of an order that IBKR has never acknowledged do.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import replace
from decimal import Decimal

from ibkr_gateway_server.domain.evidence import OpenOrderSeen, OrderStatusSeen
from ibkr_gateway_server.domain.orders import BrokerNotice, Execution, OrderState, OrderStatus, TimeInForce

# IBKR's words for a state. Source: TWS API, orderStatus. PendingSubmit and ApiPending say no more than that it was
# sent.
STATE_OF_WORD = {
    "PreSubmitted": OrderState.WORKING,
    "Submitted": OrderState.WORKING,
    "PendingCancel": OrderState.CANCEL_PENDING,
    "Cancelled": OrderState.CANCELLED,
    "ApiCancelled": OrderState.CANCELLED,
    "Filled": OrderState.FILLED,
}

# Inactive is IBKR's word for an order that is not at the exchange. For one that fills at once or never that is its end;
# any other may be held and come back, so the word alone concludes nothing.
FILL_NOW_OR_NEVER = frozenset({TimeInForce.IOC, TimeInForce.FOK})

# A cancel that IBKR refuses: not found, not cancellable, no longer in a cancellable state. Source: TWS API, message
# codes.
CANCEL_REFUSED = frozenset({10147, 10148, 161, 135})
DUPLICATE_ORDER_ID = 103
# Said of every cancelled order after its status has; nothing to warn of.
ORDER_CANCELLED = 202

# States that no report changes any more; executions still do.
_STICKY = frozenset(
    {OrderState.SIMULATED, OrderState.NOT_SENT, OrderState.FILLED, OrderState.CANCELLED, OrderState.REJECTED}
)
# States in which IBKR has not acknowledged the order yet.
UNACKNOWLEDGED = frozenset({OrderState.PENDING, OrderState.SENT, OrderState.UNKNOWN, OrderState.PRESUMED_NOT_PLACED})


def after_report(status: OrderStatus, report: OpenOrderSeen | OrderStatusSeen) -> OrderStatus:
    """The status after openOrder, completedOrder or orderStatus: new facts, and the state that IBKR's word means."""
    facts = replace(status, perm_id=report.perm_id or status.perm_id, broker_status=report.status)
    filled = status.filled_quantity
    if isinstance(report, OrderStatusSeen):
        filled = max(filled, report.filled)
        facts = replace(facts, why_held=report.why_held, filled_quantity=filled)
        if facts.average_fill_price is None:
            facts = replace(facts, average_fill_price=report.average_fill_price if filled else None)
    elif report.is_completed:
        facts = replace(facts, filled_quantity=max(filled, report.filled_quantity or Decimal(0)))
    else:
        facts = replace(facts, quantity=report.quantity, limit_price=report.limit_price, stop_price=report.stop_price)
    return replace(facts, state=_concluded(facts, _state_of(facts, report)))


def after_fills(status: OrderStatus, fills: Iterable[Execution]) -> OrderStatus:
    """The status after its executions, each once: they decide what has filled, at which average price and cost."""
    fills = list(fills)
    quantity = sum((fill.quantity for fill in fills), Decimal(0))
    filled = max(quantity, status.filled_quantity)
    average = status.average_fill_price
    if quantity and quantity >= filled:
        average = sum((fill.quantity * fill.price for fill in fills), Decimal(0)) / quantity
    commissions = [fill.commission for fill in fills if fill.commission is not None]
    facts = replace(
        status,
        filled_quantity=filled,
        average_fill_price=average,
        commission=sum(commissions, Decimal(0)) if commissions else None,
        commission_currency=next((fill.commission_currency for fill in fills if fill.commission is not None), ""),
    )
    if filled >= status.quantity:
        return replace(facts, state=OrderState.FILLED)
    if status.state in (OrderState.CANCELLED, OrderState.CANCEL_PENDING, OrderState.CONFLICT):
        return facts
    return replace(facts, state=OrderState.PARTIAL)


def after_error(status: OrderStatus, notice: BrokerNotice, *, is_rejection: bool) -> OrderStatus:
    """The status after a message of IBKR about this order; most change nothing but the list of warnings."""
    if notice.code == DUPLICATE_ORDER_ID and status.state in UNACKNOWLEDGED:
        # TWS has seen this id before: in an earlier life, or because the first copy of this very order arrived.
        return replace(_warned(status, notice), state=OrderState.UNKNOWN)
    if is_rejection and (status.state in UNACKNOWLEDGED or status.broker_status == "Inactive"):
        return replace(status, state=OrderState.REJECTED, rejection=notice)
    if notice.code in CANCEL_REFUSED and status.state is OrderState.CANCEL_PENDING:
        # What the order is instead is for the evidence to say; a code alone never closes an order.
        return replace(_warned(status, notice), state=OrderState.UNKNOWN)
    return _warned(status, notice)


def _warned(status: OrderStatus, notice: BrokerNotice) -> OrderStatus:
    known = notice.code == ORDER_CANCELLED or notice in status.warnings
    return status if known else replace(status, warnings=(*status.warnings, notice))


def _state_of(status: OrderStatus, report: OpenOrderSeen | OrderStatusSeen) -> OrderState | None:
    if report.status == "Inactive" and status.time_in_force in FILL_NOW_OR_NEVER:
        return OrderState.CANCELLED
    if isinstance(report, OpenOrderSeen) and report.is_completed and report.status == "Inactive":
        return OrderState.CANCELLED
    return STATE_OF_WORD.get(report.status)


def _concluded(status: OrderStatus, said: OrderState | None) -> OrderState:
    if said is None or status.state in _STICKY or status.state is OrderState.CONFLICT:
        return status.state
    if said is OrderState.WORKING:
        # A report that was under way when the cancel left does not take the cancel back.
        if status.state is OrderState.CANCEL_PENDING:
            return OrderState.CANCEL_PENDING
        return OrderState.PARTIAL if status.filled_quantity else OrderState.WORKING
    return said
