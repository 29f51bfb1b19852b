"""The write path: record durably, check once more with nothing awaited in between, write, say what was written.

Nothing of an order leaves before its intent is on the disk, and nothing leaves twice: whatever happens after the
record, the order counts as possibly sent until IBKR says otherwise.
"""

from __future__ import annotations

import logging
from collections.abc import Callable
from dataclasses import dataclass, replace
from datetime import datetime
from typing import Any, Protocol

from ibkr_gateway_server.audit.store import AuditStore
from ibkr_gateway_server.audit.stored import SPEC, Cause
from ibkr_gateway_server.audit.transaction import Transaction
from ibkr_gateway_server.broker.connection import Connection
from ibkr_gateway_server.broker.pacing import Pacer, Priority
from ibkr_gateway_server.broker.session import Session
from ibkr_gateway_server.domain.errors import DomainError, OrderIdsExhausted, ReconciliationRequired
from ibkr_gateway_server.domain.orders import LegTerms, ModificationState, OrderSpec, OrderState
from ibkr_gateway_server.trading.changes import CHANGEABLE
from ibkr_gateway_server.trading.conclusions import moved, signed
from ibkr_gateway_server.trading.entries import Entry, Intent, Modification
from ibkr_gateway_server.trading.guard import Guard
from ibkr_gateway_server.trading.ledger import Ledger
from ibkr_gateway_server.trading.recorder import Recorder, stored, stored_change
from ibkr_gateway_server.trading.transitions import Sign

log = logging.getLogger(__name__)

# The market as it was known when an order was placed; None: no line of it flowed.
Market = dict[str, Any] | None


class Wire(Protocol):
    """Writes orders to TWS, now. Raises only what leaves open whether a byte has left, and refusals before any has."""

    def place(
        self,
        connection: Connection,
        order_id: int,
        spec: OrderSpec,
        terms: LegTerms,
        ref: str,
        parent_id: int = 0,
    ) -> None: ...

    def cancel(self, connection: Connection, order_id: int) -> None: ...
    def cancel_all(self, connection: Connection) -> None: ...


@dataclass(frozen=True, slots=True)
class Means:
    """What every command at the desk works with."""

    guard: Guard
    session: Session
    pacer: Pacer
    store: AuditStore
    ledger: Ledger
    recorder: Recorder


class OrderIds:
    """Ids above everything TWS has named and everything this gateway has ever used: TWS rolls its own back.

    `last` is the highest that TWS can hold.
    """

    def __init__(self, last: int) -> None:
        self.floor = 0
        self._last = last

    def next(self, connection: Connection) -> int:
        """Raises OrderIdsExhausted."""
        self.floor = self.look(connection)
        return self.floor

    def look(self, connection: Connection) -> int:
        """The next one, which is not taken. Raises OrderIdsExhausted."""
        order_id = max(connection.next_valid_order_id, self.floor + 1)
        if order_id > self._last:
            raise OrderIdsExhausted(order_id)
        return order_id


class Submission:
    """Sends what has been decided. The only user of the wire's `place` but for what-ifs."""

    def __init__(
        self,
        wire: Wire,
        ids: OrderIds,
        means: Means,
        *,
        pacing_timeout_s: float,
        in_doubt: Callable[[], None],
    ) -> None:
        self._wire = wire
        self._ids = ids
        self._means = means
        self._pacing_timeout_s = pacing_timeout_s
        self._in_doubt = in_doubt

    # --- new orders ----------------------------------------------------------------------------------------------

    async def simulate(self, intent: Intent, market: Market) -> None:
        """Record what would have been sent, and in which market. Raises AuditUnavailable."""
        for entry in intent:
            entry.status = replace(entry.status, state=OrderState.SIMULATED)
        await self._record(intent, market)

    async def place(self, intent: Intent, market: Market) -> None:
        """Record the intent, then write all of its legs: at most once, and only while this very connection stands.

        Raises a DomainError only while provably no byte has left.
        """
        connection = self._means.session.linked()
        await self._means.pacer.take(Priority.ORDER, self._pacing_timeout_s, count=len(intent.legs))
        entry_id = 0
        for entry in intent:
            entry.client_id = connection.client_id
            order_id = self._ids.next(connection)
            entry.status = replace(entry.status, order_id=order_id, parent_order_id=entry_id)
            entry_id = entry_id or order_id
            # Recorded as written before it is: should the process die in between, it counts as possibly sent.
            entry.was_written = True
        await self._record(intent, market, epoch=connection.epoch)
        # From here to the last write nothing is awaited: what is checked now still holds when the bytes leave.
        try:
            self._check(connection)
        except DomainError as refused:
            for entry in intent:
                entry.was_written = False
                self._means.recorder.put(signed(entry, Sign.WITHHELD, self._now()))
            self._means.recorder.note(
                intent.entry, "order.withheld", {"reason": refused.reason, "epoch": connection.epoch}
            )
            await self._means.recorder.settle()
            raise
        written = self._write(connection, intent.spec, {entry: entry.terms for entry in intent})
        for entry in intent:
            self._means.recorder.put(signed(entry, Sign.WRITTEN if written else Sign.SILENCE, self._now()))
        log.info("order sent", extra=ids_of(intent.entry))

    def _check(self, connection: Connection) -> None:
        self._means.guard.check()
        if self._means.session.linked() is not connection:
            raise connection.disconnected()

    def _write(self, connection: Connection, spec: OrderSpec, legs: dict[Entry, LegTerms | None]) -> bool:
        """Returns whether all was handed to the connection; otherwise it is not known how much has left."""
        try:
            for entry, terms in legs.items():
                assert terms is not None
                status = entry.status
                self._wire.place(
                    connection, status.order_id, spec, terms, entry.order_ref, parent_id=status.parent_order_id
                )
        except Exception:
            log.exception("writing an order failed", extra=ids_of(next(iter(legs))))
            self._in_doubt()
            return False
        return True

    async def _record(self, intent: Intent, market: Market, *, epoch: int = 0) -> None:
        """Make the intent durable; after this the key is used. Raises AuditUnavailable with nothing recorded."""
        cause = Cause.of_caller()
        rules = self._means.guard.rules
        config = {
            "mode": rules.mode,
            "orders_enabled": rules.orders_enabled,
            "max_notional": rules.max_notional,
            "max_size_per_symbol": rules.max_size_per_symbol,
        }
        legs = [(entry, stored(entry), entry.status) for entry in intent]

        def write(tx: Transaction) -> None:
            for entry, order, status in legs:
                assert order is not None
                body = {"spec": SPEC.dump_python(intent.spec, mode="json"), "leg_role": status.leg_role}
                body |= {"state": status.state, "order_ref": entry.order_ref, "rules": config, "market": market}
                appended = tx.append("order.intent", body, order=status, cause=cause, epoch=epoch)
                tx.save_order(order, appended.sequence)
                if status.order_id:
                    tx.append("order.send", {"order_id": status.order_id}, order=status, cause=cause, epoch=epoch)
                    tx.raise_floor(entry.client_id, status.order_id)

        await self._means.store.transact(write)
        self._means.ledger.add(intent)
        self._means.recorder.put(self._means.ledger.announce(intent))

    # --- changes -------------------------------------------------------------------------------------------------

    async def change(self, intent: Intent, change: Modification) -> None:
        """Record the change, then write the legs that differ, under their own order ids.

        Raises a DomainError only while provably no byte has left.
        """
        connection = self._means.session.linked()
        legs = {intent.legs[role]: terms for role, terms in change.targets.items()}
        await self._means.pacer.take(Priority.ORDER, self._pacing_timeout_s, count=len(legs))
        cause = Cause.of_caller()
        status, row = intent.entry.status, stored_change(change)
        body = {"modify_id": change.modify_id, "spec": SPEC.dump_python(change.spec, mode="json")}

        def write(tx: Transaction) -> None:
            tx.append("order.modify", body, order=status, cause=cause, epoch=connection.epoch)
            tx.save_modification(row)

        intent.modifications[change.modify_id] = change
        self._means.ledger.add_change(change)
        try:
            await self._means.store.transact(write)
        except BaseException:
            del intent.modifications[change.modify_id]
            self._means.ledger.forget_change(change)
            raise
        try:
            self._check(connection)
            for entry in legs:
                if entry.status.state not in CHANGEABLE:
                    raise ReconciliationRequired(intent.client_order_id, f"the order has become {entry.status.state}")
        except DomainError:
            change.state = ModificationState.NOT_SENT
            self._means.recorder.note(
                intent.entry, "order.modify.end", {"modify_id": change.modify_id, "state": change.state}
            )
            await self._means.recorder.settle()
            raise
        change.state = ModificationState.SENT
        for entry in legs:
            pending = replace(entry.status, pending_modify_id=change.modify_id)
            self._means.recorder.put(moved(entry, pending, self._now(), recovered=False))
        # A leg that was kept back with its plan is not kept back again.
        if not self._write(
            connection, change.spec, {leg: replace(terms, transmits=True) for leg, terms in legs.items()}
        ):
            log.warning("whether a change has been sent is not known", extra=ids_of(intent.entry))

    def _now(self) -> datetime:
        return self._means.session.now()


def ids_of(entry: Entry) -> dict[str, object]:
    """An order's ids, for a line of the log."""
    status = entry.status
    return {"client_order_id": status.client_order_id, "order_id": status.order_id, "perm_id": status.perm_id}
