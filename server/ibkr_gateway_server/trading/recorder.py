"""The recorder: changes become durable in the order in which they happened, and are told only then.

Evidence arrives in bursts (an order's acknowledgement is two messages, a fill three); all that has gathered goes into
one transaction. While the store fails nothing is forgotten: the batch is tried again, what happens is told as not
recorded yet and once more when it is, and orders are refused meanwhile.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable, Iterable, Sequence
from dataclasses import replace
from typing import Any

from ibkr_gateway_server.audit.order_events import encode
from ibkr_gateway_server.audit.store import AuditStore
from ibkr_gateway_server.audit.stored import Appended, StoredModification, StoredOrder
from ibkr_gateway_server.audit.transaction import Transaction
from ibkr_gateway_server.domain.errors import AuditUnavailable
from ibkr_gateway_server.domain.events import (
    CommissionReported,
    Filled,
    Noted,
    OrderEvent,
    OrderHappening,
    StatusChanged,
)
from ibkr_gateway_server.domain.orders import OrderStatus
from ibkr_gateway_server.trading.entries import Change, Entry, Modification
from ibkr_gateway_server.trading.ledger import changed_orders

log = logging.getLogger(__name__)

RETRY_AFTER_S = 1.0

# Changes that may wait for the record. Of more only an order's newest status is kept, beside everything else.
BACKLOG_LIMIT = 10_000

Listener = Callable[[Sequence[OrderEvent]], None]


class Recorder:
    """Takes changes from the ledger, writes them, then tells them."""

    def __init__(self, store: AuditStore) -> None:
        self._store = store
        self._writing: list[Change] = []
        self._waiting: list[Change] = []
        self._work = asyncio.Event()
        self._settled = asyncio.Event()
        self._settled.set()
        self._committed = asyncio.Event()
        self._listeners: list[Listener] = []
        self._pending_listeners: list[Listener] = []
        self._afterwards: list[Callable[[], None]] = []
        self.is_healthy = True

    def listen(self, listener: Listener) -> None:
        """Hear every order event once it is durable, in order."""
        self._listeners.append(listener)

    def listen_pending(self, listener: Listener) -> None:
        """Hear every order event that cannot be made durable yet, as it happens; it is told again when it is."""
        self._pending_listeners.append(listener)

    @property
    def backlog(self) -> int:
        """Changes that the record does not hold yet."""
        return len(self._writing) + len(self._waiting)

    def check(self) -> None:
        """Whether an order could be recorded. Raises AuditRolledBack, AuditUnavailable."""
        if not self.is_healthy or self.backlog >= BACKLOG_LIMIT:
            raise AuditUnavailable
        self._store.check()

    def shown(self, entry: Entry) -> OrderStatus | None:
        """What readers are told of an order: what is durable, or what is known while nothing can be made durable."""
        return entry.recorded if self.is_healthy else entry.status

    def pending(self) -> tuple[OrderEvent, ...]:
        """Everything that happened and cannot be made durable yet; empty while the record is well."""
        return () if self.is_healthy else _as_pending([*self._writing, *self._waiting])

    def put(self, changes: Sequence[Change]) -> None:
        """Take what has happened; returns at once."""
        if not changes:
            return
        if self.backlog >= BACKLOG_LIMIT:
            self._conflate(changes)
        self._waiting.extend(changes)
        self._work.set()
        if self.is_healthy:
            self._settled.clear()
        else:
            self._tell_pending(_as_pending(changes))

    def note(self, entry: Entry, kind: str, body: dict[str, Any]) -> None:
        """Take something about an order that is for the record alone."""
        self.put([Change(entry, Noted(kind, body), recovered=False)])

    def afterwards(self, act: Callable[[], None]) -> None:
        """Call `act` once everything put so far is durable and told."""
        self._afterwards.append(act)
        self._settled.clear()
        self._work.set()

    async def settle(self) -> None:
        """Returns when everything put so far is durable and told, or told without that while the record fails."""
        await self._settled.wait()

    async def next_commit(self) -> None:
        """Returns after the next batch is durable and told, or told without that while the record fails."""
        await self._committed.wait()

    async def run(self) -> None:
        """Write until cancelled."""
        while True:
            await self._work.wait()
            self._work.clear()
            while self._waiting:
                self._writing, self._waiting = self._waiting, []
                await self._write_until_durable(self._writing)
                self._writing = []
            acts, self._afterwards = self._afterwards, []
            for act in acts:
                act()
            self._settled.set()

    async def _write_until_durable(self, batch: list[Change]) -> None:
        # Each entry as it is now: the batch ends with that state, whatever happens while the disk works.
        orders = [(entry, entry.status, entry.executions, stored(entry)) for entry in changed_orders(batch)]
        modifications = [(each, stored_change(each)) for each in _unrecorded(entry for entry, *_ in orders)]
        while True:
            try:
                events = await self._store.transact(
                    lambda tx: _write(tx, batch, [order for *_, order in orders], [kept for _, kept in modifications])
                )
                break
            except AuditUnavailable:
                if self.is_healthy:
                    log.error("order events cannot be recorded; new orders are refused until they can")
                    self.is_healthy = False
                    self._tell_pending(self.pending())
                    self._settled.set()
                await asyncio.sleep(RETRY_AFTER_S)
        if not self.is_healthy:
            self.is_healthy = True
            self._settled.clear()
        last_sequences = {id(change.entry): event.sequence for change, event in zip(batch, events, strict=True)}
        for entry, status, executions, _ in orders:
            entry.recorded_executions = executions
            entry.recorded = replace(status, last_sequence=last_sequences[id(entry)])
        for modification, kept in modifications:
            modification.has_ended_on_record = not kept.state.is_pending
        told = [event for event in events if not isinstance(event.happening, Noted)]
        for listener in self._listeners:
            listener(told)
        self._wake()

    def _tell_pending(self, events: Sequence[OrderEvent]) -> None:
        for listener in self._pending_listeners:
            listener(events)
        self._wake()

    def _wake(self) -> None:
        committed, self._committed = self._committed, asyncio.Event()
        committed.set()

    def _conflate(self, changes: Sequence[Change]) -> None:
        """Drop statuses that wait and that newer ones of the same orders replace; fills and all else stay."""
        newer = {id(change.entry) for change in changes if isinstance(change.happening, StatusChanged)}
        self._waiting = [
            change
            for change in self._waiting
            if not isinstance(change.happening, StatusChanged) or id(change.entry) not in newer
        ]


def stored(entry: Entry) -> StoredOrder | None:
    """The order as the record keeps it; None for one that was placed elsewhere."""
    if entry.intent is None or entry.terms is None:
        return None
    return StoredOrder(
        spec=entry.intent.spec,
        terms=entry.terms,
        status=entry.status,
        payload_hash=entry.intent.payload_hash,
        principal=entry.intent.principal,
        order_ref=entry.order_ref,
        client_id=entry.client_id,
        was_written=entry.was_written,
    )


def stored_change(change: Modification) -> StoredModification:
    """The change as the record keeps it."""
    return StoredModification(
        modify_id=change.modify_id,
        client_order_id=change.client_order_id,
        payload_hash=change.payload_hash,
        state=change.state,
        spec=change.spec,
        targets=dict(change.targets),
    )


def _unrecorded(entries: Iterable[Entry]) -> list[Modification]:
    """Changes of the intents that these orders belong to whose end is not in the record."""
    intents = dict.fromkeys(entry.intent for entry in entries if entry.intent is not None)
    return [each for intent in intents for each in intent.modifications.values() if not each.has_ended_on_record]


def _write(
    tx: Transaction,
    batch: Sequence[Change],
    orders: Sequence[StoredOrder | None],
    modifications: Sequence[StoredModification],
) -> list[OrderEvent]:
    events = [_write_change(tx, change) for change in batch]
    for order in orders:
        if order is not None:
            tx.save_order(order, sequence=0)
    for modification in modifications:
        tx.save_modification(modification)
    return events


def _write_change(tx: Transaction, change: Change) -> OrderEvent:
    status, happening = change.entry.status, change.happening
    if isinstance(happening, StatusChanged):
        status = happening.status
    kind, body = encode(happening, status, recovered=change.recovered)
    place = tx.append(kind, body, order=status)
    if isinstance(happening, StatusChanged):
        happening = StatusChanged(replace(status, last_sequence=place.sequence))
    elif isinstance(happening, Filled | CommissionReported):
        tx.save_execution(happening.execution, place.sequence)
    return _event(change, status, happening, place)


def _as_pending(changes: Iterable[Change]) -> tuple[OrderEvent, ...]:
    """The events as they can be told now: without a sequence, at the time of the order's newest state."""
    return tuple(
        _event(change, change.entry.status, change.happening, None)
        for change in changes
        if not isinstance(change.happening, Noted)
    )


def _event(change: Change, status: OrderStatus, happening: OrderHappening, place: Appended | None) -> OrderEvent:
    return OrderEvent(
        sequence=place.sequence if place else 0,
        occurred_time=place.record_time if place else status.update_time,
        client_order_id=status.client_order_id,
        order_id=status.order_id,
        perm_id=status.perm_id,
        account_id=status.account_id,
        happening=happening,
        recovered=change.recovered,
        leg_role=status.leg_role,
        audit_pending=place is None,
    )
