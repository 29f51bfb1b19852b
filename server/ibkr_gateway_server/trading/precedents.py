"""Precedents: what the orders that are there already have to say about a new one."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from datetime import datetime
from itertools import chain

from ibkr_gateway_server.domain.errors import (
    ClientOrderIdConflict,
    DuplicateOrder,
    MaxOpenOrders,
    ReconciliationRequired,
)
from ibkr_gateway_server.domain.orders import OrderState
from ibkr_gateway_server.trading.entries import Entry, Intent
from ibkr_gateway_server.trading.guard import Guard
from ibkr_gateway_server.trading.ledger import Ledger

# These never became orders, so that the next one is no repetition.
_CAME_TO_NOTHING = frozenset({OrderState.NOT_SENT, OrderState.REJECTED, OrderState.SIMULATED})


class Precedents:
    """Holds new orders against those before them: of the ledger, and on their way there."""

    def __init__(self, ledger: Ledger, guard: Guard) -> None:
        self._ledger = ledger
        self._guard = guard
        # What has been admitted and may not be in the ledger yet: being recorded takes its time.
        self._admitted: dict[Intent, None] = {}

    @contextmanager
    def admitting(self, intent: Intent, now: datetime) -> Iterator[None]:
        """Admit a resolved order; meanwhile those that come after it are held against it.

        Raises ClientOrderIdConflict when IBKR has shown an order with its mark that the record does not know,
        ReconciliationRequired while an order of this contract is in conflict, MaxOpenOrders, DuplicateOrder.
        """
        if any(self._ledger.orphan(leg.order_ref) for leg in intent):
            raise ClientOrderIdConflict(intent.client_order_id)
        self._check_open(intent)
        if window_s := self._guard.rules.duplicate_window_s:
            self._check_repetition(intent, window_s, now)
        self._admitted[intent] = None
        try:
            yield
        finally:
            del self._admitted[intent]

    def _check_open(self, intent: Intent) -> None:
        spec, limit, same_side = intent.spec, self._guard.rules.max_open_orders, 0
        for status in (entry.status for entry in self._open()):
            if status.account_id != spec.account_id or status.instrument.con_id != spec.instrument.con_id:
                continue
            if status.state is OrderState.CONFLICT:
                raise ReconciliationRequired(
                    status.client_order_id, "IBKR shows two orders for one intent on this contract"
                )
            same_side += status.side is spec.side
        if limit is not None and same_side >= limit:
            raise MaxOpenOrders(same_side, limit)

    def _open(self) -> Iterator[Entry]:
        yield from self._ledger.open_entries()
        for intent in self._admitted:
            yield from (entry for entry in intent if entry.status.state is OrderState.PENDING)

    def _check_repetition(self, intent: Intent, window_s: float, now: datetime) -> None:
        for known in chain(reversed(self._admitted), self._ledger.newest_intents()):
            status = known.entry.status
            if (now - status.create_time).total_seconds() > window_s:
                return
            if known.payload_hash == intent.payload_hash and status.state not in _CAME_TO_NOTHING:
                raise DuplicateOrder(known.client_order_id, window_s)
