"""The recorder: changes become durable in the order in which they happened, and are told only then.

Evidence arrives in bursts (an order's acknowledgement is two messages, a fill three); all that has gathered goes into
one transaction. While the store fails nothing is told and nothing is forgotten: the batch is tried again, and orders
are refused meanwhile.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable, Iterable, Sequence
from dataclasses import replace
from typing import Any

from pydantic import TypeAdapter

from ibkr_gateway_server.audit.order_events import encode
from ibkr_gateway_server.audit.store import AuditStore
from ibkr_gateway_server.audit.transaction import StoredModification, StoredOrder, Transaction
from ibkr_gateway_server.domain.errors import AuditUnavailable
from ibkr_gateway_server.domain.events import CommissionReported, Filled, Noted, OrderEvent, StatusChanged
from ibkr_gateway_server.domain.orders import OrderSpec
from ibkr_gateway_server.trading.entries import Change, Entry, Modification
from ibkr_gateway_server.trading.ledger import changed_orders

log = logging.getLogger(__name__)

RETRY_AFTER_S = 1.0

SPEC = TypeAdapter(OrderSpec)

Listener = Callable[[Sequence[OrderEvent]], None]


class Recorder:
    """Takes changes from the ledger, writes them, then tells them."""

    def __init__(self, store: AuditStore) -> None:
        self._store = store
        self._waiting: list[Change] = []
        self._work = asyncio.Event()
        self._settled = asyncio.Event()
        self._settled.set()
        self._committed = asyncio.Event()
        self._listeners: list[Listener] = []
        self._afterwards: list[Callable[[], None]] = []
        self.is_healthy = True

    def listen(self, listener: Listener) -> None:
        """Hear every order event once it is durable, in order."""
        self._listeners.append(listener)

    def put(self, changes: Sequence[Change]) -> None:
        """Take what has happened; returns at once."""
        if changes:
            self._waiting.extend(changes)
            self._settled.clear()
            self._work.set()

    def note(self, entry: Entry, kind: str, body: dict[str, Any]) -> None:
        """Take something about an order that is for the record alone."""
        self.put([Change(entry, Noted(kind, body), recovered=False)])

    def afterwards(self, act: Callable[[], None]) -> None:
        """Call `act` once everything put so far is durable and told."""
        self._afterwards.append(act)
        self._settled.clear()
        self._work.set()

    async def settle(self) -> None:
        """Returns when everything put so far is durable and told."""
        await self._settled.wait()

    async def next_commit(self) -> None:
        """Returns after the next batch is durable and told."""
        await self._committed.wait()

    async def run(self) -> None:
        """Write until cancelled."""
        while True:
            await self._work.wait()
            self._work.clear()
            while self._waiting:
                batch, self._waiting = self._waiting, []
                await self._write_until_durable(batch)
            acts, self._afterwards = self._afterwards, []
            for act in acts:
                act()
            self._settled.set()

    async def _write_until_durable(self, batch: list[Change]) -> None:
        # Each entry as it is now: the batch ends with that state, whatever happens while the disk works.
        orders = [(entry, entry.status, entry.executions, stored(entry)) for entry in changed_orders(batch)]
        changes = _changes_of(entry for entry, *_ in orders)
        while True:
            try:
                events = await self._store.transact(
                    lambda tx: _write(tx, batch, [order for *_, order in orders], changes)
                )
                break
            except AuditUnavailable:
                if self.is_healthy:
                    log.error("order events cannot be recorded; new orders are refused until they can")
                self.is_healthy = False
                await asyncio.sleep(RETRY_AFTER_S)
        self.is_healthy = True
        last_sequences = {id(change.entry): event.sequence for change, event in zip(batch, events, strict=True)}
        for entry, status, executions, _ in orders:
            entry.recorded_executions = executions
            entry.recorded = replace(status, last_sequence=last_sequences[id(entry)])
        committed, self._committed = self._committed, asyncio.Event()
        told = [event for event in events if not isinstance(event.happening, Noted)]
        for listener in self._listeners:
            listener(told)
        committed.set()


def stored(entry: Entry) -> StoredOrder | None:
    """The order as the record keeps it; None for one that was placed elsewhere."""
    if entry.intent is None or entry.terms is None:
        return None
    return StoredOrder(
        spec=entry.intent.spec,
        terms=entry.terms,
        status=entry.status,
        payload_hash=entry.intent.payload_hash,
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


def _changes_of(entries: Iterable[Entry]) -> list[StoredModification]:
    """Every change of the intents that these orders belong to."""
    intents = dict.fromkeys(entry.intent for entry in entries if entry.intent is not None)
    return [stored_change(change) for intent in intents for change in intent.modifications.values()]


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
    return OrderEvent(
        sequence=place.sequence,
        occurred_time=place.record_time,
        client_order_id=status.client_order_id,
        order_id=status.order_id,
        perm_id=status.perm_id,
        account_id=status.account_id,
        happening=happening,
        recovered=change.recovered,
        leg_role=status.leg_role,
    )
