"""Loading: the ledger as the record left it, and what the end of the last life means for orders that were under way."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable
from dataclasses import replace

from ibkr_gateway_server.audit.store import AuditStore
from ibkr_gateway_server.audit.stored import StoredModification, StoredOrder
from ibkr_gateway_server.broker.session import Session
from ibkr_gateway_server.domain.events import Noted
from ibkr_gateway_server.domain.orders import Execution, ModificationState, OrderState
from ibkr_gateway_server.trading.conclusions import moved, signed
from ibkr_gateway_server.trading.entries import Change, Entry, Intent, Modification
from ibkr_gateway_server.trading.ledger import Ledger
from ibkr_gateway_server.trading.transitions import Sign

_UNDER_WAY = frozenset({OrderState.PENDING, OrderState.SENT})


async def load(store: AuditStore, ledger: Ledger, session: Session) -> tuple[int, list[Change]]:
    """Fill the ledger. Returns the highest order id this client has used, and what has changed by the restart."""
    orders, modifications, executions, floor = await store.transact(
        lambda tx: (tx.all_orders(), tx.all_modifications(), tx.all_executions(), tx.floor(session.client_id))
    )
    intents: dict[str, Intent] = {}
    for order in orders:
        key = order.status.client_order_id
        intent = intents.setdefault(key, Intent(key, order.spec, order.payload_hash, order.principal))
        intent.legs[order.terms.role] = _entry(order, intent)
    for change in modifications:
        intents[change.client_order_id].modifications[change.modify_id] = _modification(change)
    fills: defaultdict[str, list[Execution]] = defaultdict(list)
    for execution in executions:
        fills[execution.client_order_id].append(execution)
    changes: list[Change] = []
    for intent in intents.values():
        _attach(intent, fills[intent.client_order_id])
        ledger.add(intent)
        changes += _recovered(intent, session)
    return floor, changes


def _entry(order: StoredOrder, intent: Intent) -> Entry:
    return Entry(
        order.status,
        order.client_id,
        order.terms,
        order.order_ref,
        intent,
        order.was_written,
        recorded=order.status,
    )


def _modification(change: StoredModification) -> Modification:
    return Modification(
        change.modify_id,
        change.client_order_id,
        change.payload_hash,
        change.spec,
        change.state,
        dict(change.targets),
        has_ended_on_record=not change.state.is_pending,
    )


def _attach(intent: Intent, executions: Iterable[Execution]) -> None:
    """Give each fill to its leg."""
    for execution in executions:
        of = [leg for leg in intent if execution.perm_id and leg.status.perm_id == execution.perm_id]
        of = of or [leg for leg in intent if leg.status.order_id == execution.order_id] or [intent.entry]
        of[0].fills[execution.stem] = execution
    for leg in intent:
        leg.recorded_executions = leg.executions


def _recovered(intent: Intent, session: Session) -> list[Change]:
    """The last life ended before IBKR's word: what was not written is known, anything else is not."""
    changes: list[Change] = []
    for entry in intent:
        if entry.status.state in _UNDER_WAY:
            sign, kind = (Sign.SILENCE, "recovery.unknown") if entry.was_written else (Sign.WITHHELD, "recovery.unsent")
            changes += signed(entry, sign, session.now(), recovered=True)
            changes.append(Change(entry, Noted(kind, {}), recovered=True))
    for change in intent.modifications.values():
        # Recorded, and perhaps written: as good as sent until IBKR shows which terms it has.
        if change.state is ModificationState.PENDING:
            change.state = ModificationState.SENT
        if not change.state.is_pending:
            continue
        for leg in [intent.legs[role] for role in change.targets]:
            # It may have been recorded before its order was said to be changing.
            pending = replace(leg.status, pending_modify_id=change.modify_id)
            changes += moved(leg, pending, session.now(), recovered=True)
    return changes
