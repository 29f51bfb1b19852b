"""Precedents: what the orders that are there already have to say about a new one."""

from __future__ import annotations

from datetime import datetime

from ibkr_gateway_server.domain.errors import DuplicateOrder, MaxOpenOrders, ReconciliationRequired
from ibkr_gateway_server.domain.orders import OrderSpec, OrderState
from ibkr_gateway_server.trading.guard import TradingRules
from ibkr_gateway_server.trading.ledger import Ledger

# These never became orders, so that the next one is no repetition.
_CAME_TO_NOTHING = frozenset({OrderState.NOT_SENT, OrderState.REJECTED, OrderState.SIMULATED})


def check(spec: OrderSpec, payload_hash: str, ledger: Ledger, rules: TradingRules, now: datetime) -> None:
    """Hold a resolved order against those before it.

    Raises ReconciliationRequired while an order of this contract is in conflict, MaxOpenOrders, DuplicateOrder.
    """
    same_side = 0
    for entry in ledger.open_entries():
        status = entry.status
        if status.account_id != spec.account_id or status.instrument.con_id != spec.instrument.con_id:
            continue
        if status.state is OrderState.CONFLICT:
            raise ReconciliationRequired(
                status.client_order_id, "IBKR shows two orders for one intent on this contract"
            )
        same_side += status.side is spec.side
    if rules.max_open_orders is not None and same_side >= rules.max_open_orders:
        raise MaxOpenOrders(same_side, rules.max_open_orders)
    if rules.duplicate_window_s:
        _check_repetition(payload_hash, ledger, rules.duplicate_window_s, now)


def _check_repetition(payload_hash: str, ledger: Ledger, window_s: float, now: datetime) -> None:
    for intent in ledger.newest_intents():
        status = intent.entry.status
        if (now - status.create_time).total_seconds() > window_s:
            return
        if intent.payload_hash == payload_hash and status.state not in _CAME_TO_NOTHING:
            raise DuplicateOrder(intent.client_order_id, window_s)
