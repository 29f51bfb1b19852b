"""What follows from a piece of evidence for one order: pure rules over its entry, each giving what there is to tell.

Quantities come from executions alone, each counted once, a correction in place of what it corrects; what orderStatus
says has filled counts only until the executions have come.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import replace
from datetime import datetime
from decimal import Decimal

from ibkr_gateway_server.broker.notices import is_rejection
from ibkr_gateway_server.domain.events import (
    AlarmRaised,
    CommissionReported,
    Filled,
    ModifiedExternally,
    Noted,
    NoticeReceived,
    StatusChanged,
)
from ibkr_gateway_server.domain.evidence import (
    CommissionSeen,
    ExecutionSeen,
    OpenOrderSeen,
    OrderErrorSeen,
    OrderStatusSeen,
)
from ibkr_gateway_server.domain.orders import (
    AlarmKind,
    BrokerNotice,
    Execution,
    LegRole,
    LegTerms,
    ModificationState,
    OcaType,
    OrderState,
    OrderStatus,
)
from ibkr_gateway_server.trading.entries import Change, Entry, Modification, with_terms
from ibkr_gateway_server.trading.plan import same_terms, terms_shown
from ibkr_gateway_server.trading.transitions import (
    CANCEL_REFUSED,
    CHANGE_REFUSED,
    CONCLUDED,
    DUPLICATE_ORDER_ID,
    ORDER_CANCELLED,
    UNACKNOWLEDGED,
    Sign,
    after,
    sign_of,
)

# States after which nothing of a change can come true any more.
_OVER = frozenset({OrderState.FILLED, OrderState.CANCELLED, OrderState.REJECTED})


def signed(entry: Entry, sign: Sign, now: datetime, *, recovered: bool = False) -> list[Change]:
    """What a sign makes of an order."""
    state = after(entry.status.state, sign, entry.status.filled_quantity)
    return moved(entry, replace(entry.status, state=state), now, recovered)


def moved(entry: Entry, status: OrderStatus, now: datetime, recovered: bool) -> list[Change]:
    """The order has this status; nothing when that is no news."""
    before, made = entry.status, _made_by_fills(entry, status)
    if made is not None:
        entry.terms, status = made, with_terms(status, made)
    if status == before:
        return []
    if status.state.is_final and replace(status, broker_status=before.broker_status) == before:
        # IBKR's word for an end that its executions have told already is no news.
        entry.status = status
        return []
    entry.status = replace(status, update_time=now)
    changes = [Change(entry, StatusChanged(entry.status), recovered)]
    if before.state in CONCLUDED and status.state not in CONCLUDED:
        text = f"the order was taken for {before.state}, and IBKR shows it as {status.broker_status or status.state}"
        changes.append(Change(entry, AlarmRaised(AlarmKind.RESURRECTED, text), recovered))
    if status.state in _OVER and (change := entry.change) is not None:
        del change.targets[_role(entry)]
        if not change.targets:
            changes += _settled(entry, ModificationState.CONFIRMED if made else ModificationState.MOOT, now, recovered)
    return changes


def _made_by_fills(entry: Entry, status: OrderStatus) -> LegTerms | None:
    """The new terms of an order that has filled to just the quantity that a change gave it: so it has been made."""
    if status.state is not OrderState.FILLED or entry.change is None:
        return None
    target = entry.change.targets[_role(entry)]
    return target if target.quantity == status.filled_quantity != entry.status.quantity else None


def reported(
    entry: Entry, seen: OpenOrderSeen | OrderStatusSeen, now: datetime, recovered: bool, *, cancel_is_lost: bool = False
) -> list[Change]:
    """openOrder, completedOrder or orderStatus. `cancel_is_lost`: a listing as working means that no cancel is under
    way any more."""
    is_completed = isinstance(seen, OpenOrderSeen) and seen.is_completed
    sign = sign_of(seen.status, entry.status.time_in_force, is_completed=is_completed)
    changes: list[Change] = []
    if sign is Sign.FILLED:
        # Filled is all of the quantity that IBKR has, so that this comes first: a change down to what had filled fills.
        changes += _compared(entry, seen, now, recovered)
    status = replace(entry.status, perm_id=seen.perm_id or entry.status.perm_id, broker_status=seen.status)
    if isinstance(seen, OrderStatusSeen):
        status = _with_told(entry, replace(status, why_held=seen.why_held), seen.filled, seen.average_fill_price)
    elif is_completed or sign is Sign.FILLED:
        # openOrder does not say how much has filled; Filled means all of it.
        filled = status.quantity if sign is Sign.FILLED else Decimal(0)
        status = _with_told(entry, status, seen.filled_quantity or filled, None)
    elif entry.terms is None:
        status = replace(status, quantity=seen.quantity, limit_price=seen.limit_price, stop_price=seen.stop_price)
    if sign is Sign.WORKING and recovered:
        sign = Sign.CANCEL_LOST if cancel_is_lost else Sign.LISTED
    if sign is not None:
        status = replace(status, state=after(status.state, sign, status.filled_quantity))
    if sign is Sign.FILLED and status.state is OrderState.FILLED and status.filled_quantity:
        # All of it has filled, so that it was for so much: where it was changed or reduced, nobody may have heard.
        status = replace(status, quantity=status.filled_quantity)
    if entry.twins and status.state.is_open:
        status = replace(status, state=after(status.state, Sign.TWICE))
    return changes + moved(entry, status, now, recovered) + _compared(entry, seen, now, recovered)


def _with_told(entry: Entry, status: OrderStatus, filled: Decimal, average: Decimal | None) -> OrderStatus:
    """What a report says has filled; executions that add up to as much take its place."""
    executed = _executed_quantity(entry.fills.values())
    entry.told_filled = filled if filled > executed else Decimal(0)
    if not entry.told_filled:
        return status
    return replace(
        status,
        filled_quantity=max(filled, status.filled_quantity),
        average_fill_price=status.average_fill_price if status.average_fill_price is not None else average,
    )


def _compared(entry: Entry, seen: OpenOrderSeen | OrderStatusSeen, now: datetime, recovered: bool) -> list[Change]:
    """The terms that IBKR shows, beside those that the order should have."""
    terms = entry.terms
    if terms is None or not isinstance(seen, OpenOrderSeen) or seen.is_completed:
        return []
    shown, change = terms_shown(terms, seen), entry.change
    if change is not None and same_terms(seen, change.targets[_role(entry)]):
        entry.terms = change.targets.pop(_role(entry))
        changes = moved(entry, with_terms(entry.status, entry.terms), now, recovered)
        return changes if change.targets else changes + _settled(entry, ModificationState.CONFIRMED, now, recovered)
    if shown == terms or entry.status.state.is_final:
        return []
    before = entry.status
    entry.terms = shown
    entry.status = replace(with_terms(before, shown), update_time=now)
    told = [Change(entry, StatusChanged(entry.status), recovered)]
    if _is_reduced(terms, shown):
        return told
    return [Change(entry, ModifiedExternally(before, entry.status), recovered), *told]


def _is_reduced(terms: LegTerms, shown: LegTerms) -> bool:
    """Whether IBKR has only done what the order's group is for: another one of it has filled, and this one is less."""
    reduces = terms.oca_type in (OcaType.REDUCE_WITH_BLOCK, OcaType.REDUCE_WITHOUT_BLOCK)
    return reduces and shown.quantity < terms.quantity and replace(shown, quantity=terms.quantity) == terms


def change_presumed_lost(entry: Entry, now: datetime) -> list[Change]:
    """The change of this order is presumed to come to nothing: the terms of before stand."""
    change = entry.change
    if change is None:
        return []
    change.targets.clear()
    return _settled(entry, ModificationState.PRESUMED_NOT_APPLIED, now, recovered=True)


def _change_refused(entry: Entry, change: Modification, now: datetime, recovered: bool) -> list[Change]:
    """IBKR does not change this order. Other legs were sent with it, and each of them may still be changed."""
    del change.targets[_role(entry)]
    if not change.targets:
        return _settled(entry, ModificationState.REFUSED, now, recovered)
    change.state = ModificationState.PARTLY_REFUSED
    return moved(entry, replace(entry.status, pending_modify_id=""), now, recovered)


def _settled(entry: Entry, state: ModificationState, now: datetime, recovered: bool) -> list[Change]:
    """A change has come to its end, for all legs; one that was refused of a leg is refused, whatever the others are."""
    intent = entry.intent
    assert intent is not None
    pending = next(each for each in intent.modifications.values() if each.state.is_pending)
    if pending.state is ModificationState.PARTLY_REFUSED:
        state = ModificationState.REFUSED
    pending.state = state
    if state is ModificationState.CONFIRMED:
        intent.spec = pending.spec
    body = {"modify_id": pending.modify_id, "state": state}
    changes = [Change(entry, Noted("order.modify.end", body), recovered)]
    for leg in intent:
        if leg.status.pending_modify_id:
            changes += moved(leg, replace(leg.status, pending_modify_id=""), now, recovered)
    return changes


def executed(entry: Entry, seen: ExecutionSeen, now: datetime) -> list[Change]:
    """A fill, or the correction of one; nothing when a newer correction of it is known."""
    fill = Execution(
        execution_id=seen.execution_id,
        order_id=seen.order_id,
        perm_id=seen.perm_id,
        account_id=seen.account_id,
        instrument=seen.instrument,
        side=seen.side,
        quantity=seen.quantity,
        price=seen.price,
        execution_time=seen.execution_time,
        exchange=seen.exchange,
        client_order_id=entry.status.client_order_id,
        recovered=seen.is_recovered,
    )
    replaced = entry.fills.get(fill.stem)
    if replaced is not None and replaced.execution_id >= fill.execution_id:
        return []
    entry.fills[fill.stem] = fill
    if seen.perm_id and not entry.status.perm_id:
        entry.status = replace(entry.status, perm_id=seen.perm_id)
    changes = [Change(entry, Filled(fill), seen.is_recovered)]
    return changes + moved(entry, _after_fills(entry), now, seen.is_recovered)


def charged(entry: Entry, seen: CommissionSeen) -> list[Change]:
    """What a fill cost. A commission of a fill that a correction has replaced counts no more."""
    fill = next((fill for fill in entry.fills.values() if fill.execution_id == seen.execution_id), None)
    paid = fill and replace(
        fill, commission=seen.commission, commission_currency=seen.currency, realized_pnl=seen.realized_pnl
    )
    if paid is None or paid == fill:
        return []
    entry.fills[paid.stem] = paid
    entry.status = _with_costs(entry.status, entry.executions)
    return [Change(entry, CommissionReported(paid), paid.recovered)]


def told(entry: Entry, seen: OrderErrorSeen, now: datetime, recovered: bool) -> list[Change]:
    """A message of IBKR about this order: most change nothing but the list of warnings."""
    notice, status = BrokerNotice(seen.code, seen.text), entry.status
    refuses = is_rejection(seen.code)
    # After a cancel nobody can tell which of the two was refused, unless the code is of changes alone.
    is_cancelled = entry.cancel is not None or status.state is OrderState.CANCEL_PENDING
    is_of_change = seen.code in CHANGE_REFUSED or (refuses and not is_cancelled)
    if entry.change is not None and entry.is_acknowledged and is_of_change:
        # Of the change, not of the order: the terms of before go on.
        return [
            Change(entry, NoticeReceived(notice), recovered),
            *moved(entry, _warned(status, notice), now, recovered),
            *_change_refused(entry, entry.change, now, recovered),
        ]
    sign = _sign_of_error(entry, seen.code, refuses=refuses)
    if sign is Sign.REFUSED:
        return moved(entry, replace(status, state=OrderState.REJECTED, rejection=notice), now, recovered)
    if sign is Sign.CANCEL_REFUSED:
        entry.cancel = None
    if sign is not None:
        status = replace(status, state=after(status.state, sign))
    return [Change(entry, NoticeReceived(notice), recovered), *moved(entry, _warned(status, notice), now, recovered)]


def _sign_of_error(entry: Entry, code: int, *, refuses: bool) -> Sign | None:
    state = entry.status.state
    if code == DUPLICATE_ORDER_ID:
        return Sign.DUPLICATE_ID
    if refuses and not entry.fills:
        if state in UNACKNOWLEDGED and not entry.status.perm_id:
            # After a cancel of an order that IBKR has not named yet, nobody can tell which of the two was refused.
            return Sign.REFUSED if entry.cancel is None else Sign.SILENCE
        if entry.status.broker_status == "Inactive":
            return Sign.REFUSED
    return Sign.CANCEL_REFUSED if code in CANCEL_REFUSED else None


def _warned(status: OrderStatus, notice: BrokerNotice) -> OrderStatus:
    known = notice.code == ORDER_CANCELLED or notice in status.warnings
    return status if known else replace(status, warnings=(*status.warnings, notice))


def _executed_quantity(fills: Iterable[Execution]) -> Decimal:
    return sum((fill.quantity for fill in fills), Decimal(0))


def _after_fills(entry: Entry) -> OrderStatus:
    """The status that the executions make: they decide what has filled, at which average price and cost."""
    fills = entry.executions
    quantity = _executed_quantity(fills)
    if quantity >= entry.told_filled:
        entry.told_filled = Decimal(0)
    filled = max(quantity, entry.told_filled)
    status = _with_costs(replace(entry.status, filled_quantity=filled), fills)
    if quantity and quantity >= filled:
        value = sum((fill.quantity * fill.price for fill in fills), Decimal(0))
        status = replace(status, average_fill_price=value / quantity)
    # Of a change that is not confirmed nobody knows whether IBKR has made it: all is what is all either way.
    change = entry.change
    whole = max(status.quantity, change.targets[_role(entry)].quantity if change is not None else Decimal(0))
    sign = Sign.ALL_FILLED if filled >= whole else Sign.PART_FILLED
    return replace(status, state=after(status.state, sign))


def _with_costs(status: OrderStatus, fills: Iterable[Execution]) -> OrderStatus:
    paid = [fill for fill in fills if fill.commission is not None]
    return replace(
        status,
        commission=sum((fill.commission for fill in paid if fill.commission is not None), Decimal(0)) if paid else None,
        commission_currency=paid[0].commission_currency if paid else "",
    )


def _role(entry: Entry) -> LegRole:
    role = entry.status.leg_role
    assert role is not None
    return role
