"""What can be done within one transaction of the record."""

from __future__ import annotations

import hmac
import json
import time
from collections.abc import Callable, Mapping
from datetime import UTC, datetime
from typing import Any, TypeVar

from sqlalchemy import Connection, Row, Select, delete, func, select
from sqlalchemy.dialects.sqlite import insert as upsert

from ibkr_gateway_server.audit import schema, statements
from ibkr_gateway_server.audit.chain import COVERED, Place, link
from ibkr_gateway_server.audit.stored import (
    EXECUTION,
    SPEC,
    STATUS,
    TARGETS,
    TERMS,
    Appended,
    Cause,
    OrderIds,
    StoredModification,
    StoredOrder,
)
from ibkr_gateway_server.domain.audit import (
    AuditFilter,
    AuditRecord,
    ExecutionFilter,
    OrderFilter,
    Page,
    PageRequest,
)
from ibkr_gateway_server.domain.clock import utc_now
from ibkr_gateway_server.domain.orders import Execution, ModificationState, OrderStatus

T = TypeVar("T")

# What is about to leave for IBKR: the watermark follows such an event at once, and any other in a second or two.
COMMANDS = frozenset(
    {
        "order.intent",
        "order.send",
        "order.modify",
        "order.cancel",
        "order.cancel_all",
        "cancel.retry",
        "cancel.incomplete",
    }
)


class Transaction:
    """What can be done within one transaction, on the store's thread.

    `head` is the newest event, with those appended here; `is_urgent`: one of them is a command to IBKR.
    """

    def __init__(
        self,
        connection: Connection,
        key: bytes,
        head: Place,
        boot_id: str = "",
        now: Callable[[], datetime] = utc_now,
    ) -> None:
        self.head = head
        self.is_urgent = False
        self._connection = connection
        self._key = key
        self._boot_id = boot_id
        self._now = now

    # --- writing -------------------------------------------------------------------------------------------------

    def append(
        self,
        kind: str,
        body: Mapping[str, Any],
        *,
        order: OrderStatus | OrderIds | None = None,
        cause: Cause | None = None,
        epoch: int = 0,
    ) -> Appended:
        """Add one event to the record. Returns where and when it stands there."""
        cause = cause or Cause()
        now = self._now()
        row: dict[str, Any] = {
            "sequence": self.head.sequence + 1,
            "record_time": now.isoformat(timespec="microseconds"),
            "monotonic_ns": time.monotonic_ns(),
            "boot_id": self._boot_id,
            "kind": kind,
            "principal": cause.principal,
            "correlation_id": cause.correlation_id,
            "client_order_id": order.client_order_id if order else "",
            "order_id": order.order_id if order else 0,
            "perm_id": order.perm_id if order else 0,
            "epoch": epoch,
            "body_json": json.dumps(body, separators=(",", ":"), default=str),
        }
        mac = link(self._key, self.head.mac, [row[name] for name in COVERED])
        self._connection.execute(statements.APPEND, {**row, "previous_mac": self.head.mac, "mac": mac})
        self.head = Place(self.head.sequence + 1, mac)
        self.is_urgent = self.is_urgent or kind in COMMANDS
        return Appended(self.head.sequence, now)

    def save_order(self, order: StoredOrder, sequence: int) -> None:
        """Keep an order as it is now. `sequence` is that of its intent when it is new."""
        status = order.status
        values = {
            "payload_hash": order.payload_hash,
            "order_ref": order.order_ref,
            "client_id": order.client_id,
            "order_id": status.order_id,
            "perm_id": status.perm_id,
            "was_written": int(order.was_written),
            "principal": order.principal,
            "state": status.state.value,
            "account_id": status.account_id,
            "symbol": status.instrument.symbol,
            "create_time": status.create_time.isoformat(timespec="microseconds"),
            "spec_json": SPEC.dump_json(order.spec).decode(),
            "terms_json": TERMS.dump_json(order.terms).decode(),
            "status_json": STATUS.dump_json(status).decode(),
        }
        key = {"client_order_id": status.client_order_id, "leg_role": order.terms.role.value}
        self._connection.execute(statements.SAVE_ORDER, {**key, "intent_sequence": sequence, **values})

    def save_modification(self, change: StoredModification) -> None:
        """Keep a change as it is now."""
        values = {
            "client_order_id": change.client_order_id,
            "payload_hash": change.payload_hash,
            "state": change.state.value,
            "spec_json": SPEC.dump_json(change.spec).decode(),
            "targets_json": TARGETS.dump_json(change.targets).decode(),
        }
        self._connection.execute(statements.SAVE_MODIFICATION, {"modify_id": change.modify_id, **values})

    def save_execution(self, execution: Execution, sequence: int) -> None:
        """Keep an execution, or the commission that came for it; a correction supersedes those of the same stem."""
        values = {
            "client_order_id": execution.client_order_id,
            "account_id": execution.account_id,
            "symbol": execution.instrument.symbol,
            "execution_time": execution.execution_time.isoformat(timespec="microseconds"),
            "body_json": EXECUTION.dump_json(execution).decode(),
        }
        new = {"execution_id": execution.execution_id, "sequence": sequence, "is_superseded": 0}
        self._connection.execute(statements.SAVE_EXECUTION, {**new, **values})
        stem = {"stem": f"{execution.stem}.", "newest": execution.execution_id}
        self._connection.execute(statements.SUPERSEDE, stem)

    def raise_floor(self, client_id: int, order_id: int) -> None:
        """Order ids of this client go up from here, whatever TWS says later."""
        self._connection.execute(statements.RAISE_FLOOR, {"client_id": client_id, "order_id": order_id})

    def set_switch(self, name: str, body_json: str | None) -> None:
        """Keep a switch as it is now; None: it is off."""
        table = schema.switches
        if body_json is None:
            self._connection.execute(delete(table).where(table.c.name == name))
            return
        statement = upsert(table).values(name=name, body_json=body_json)
        self._connection.execute(
            statement.on_conflict_do_update(index_elements=["name"], set_={"body_json": body_json})
        )

    # --- reading -------------------------------------------------------------------------------------------------

    def switch(self, name: str) -> str | None:
        """A switch as it was last set; None: it is off."""
        table = schema.switches
        return self._connection.execute(select(table.c.body_json).where(table.c.name == name)).scalar_one_or_none()

    def floor(self, client_id: int) -> int:
        """The highest order id this client has used; 0: none."""
        table = schema.floors
        found = self._connection.execute(select(table.c.order_id).where(table.c.client_id == client_id))
        return found.scalar_one_or_none() or 0

    def all_orders(self) -> list[StoredOrder]:
        """Every order of the record, oldest first."""
        rows = self._connection.execute(select(schema.orders).order_by(schema.orders.c.intent_sequence))
        return [_stored_order(row) for row in rows]

    def all_modifications(self) -> list[StoredModification]:
        """Every change of the record."""
        return [_stored_modification(row) for row in self._connection.execute(select(schema.modifications))]

    def all_executions(self) -> list[Execution]:
        """Every execution that no correction has superseded, oldest first."""
        table = schema.executions
        rows = self._connection.execute(
            select(table.c.body_json).where(table.c.is_superseded == 0).order_by(table.c.sequence)
        )
        return [EXECUTION.validate_json(row.body_json) for row in rows]

    def orders(self, wanted: OrderFilter, page: PageRequest) -> Page[OrderStatus]:
        """Orders, newest first."""
        sequence = schema.orders.c.intent_sequence
        return self._page(_orders(wanted), sequence, page, lambda row: STATUS.validate_json(row.status_json))

    def executions(self, wanted: ExecutionFilter, page: PageRequest) -> Page[Execution]:
        """Executions, newest first; corrected ones are left out."""
        table = schema.executions
        query: Any = select(table.c.sequence, table.c.body_json).where(table.c.is_superseded == 0)
        for column, value in (
            (table.c.account_id, wanted.account_id),
            (table.c.symbol, wanted.symbol),
            (table.c.client_order_id, wanted.client_order_id),
        ):
            if value:
                query = query.where(column == value)
        query = _between(query, table.c.execution_time, wanted.start_time, wanted.end_time)
        return self._page(query, table.c.sequence, page, lambda row: EXECUTION.validate_json(row.body_json))

    def orders_after(self, sequence: int, wanted: OrderFilter, limit: int) -> list[tuple[int, OrderStatus]]:
        """At most `limit` orders whose intents come after a sequence, with those, oldest first."""
        table = schema.orders
        query = _orders(wanted).where(table.c.intent_sequence > sequence).order_by(table.c.intent_sequence).limit(limit)
        rows = self._connection.execute(query)
        return [(row.intent_sequence, STATUS.validate_json(row.status_json)) for row in rows]

    def events(self, wanted: AuditFilter, page: PageRequest) -> Page[AuditRecord]:
        """Events, newest first."""
        table = schema.events
        query = select(table)
        for column, value in (
            (table.c.kind, wanted.kind),
            (table.c.client_order_id, wanted.client_order_id),
            (table.c.correlation_id, wanted.correlation_id),
        ):
            if value:
                query = query.where(column == value)
        if wanted.after_sequence:
            query = query.where(table.c.sequence > wanted.after_sequence)
        query = _between(query, table.c.record_time, wanted.start_time, wanted.end_time)
        return self._page(query, table.c.sequence, page, _record)

    def events_after(self, sequence: int, limit: int) -> list[AuditRecord]:
        """At most `limit` events after a sequence, oldest first."""
        table = schema.events
        query = select(table).where(table.c.sequence > sequence).order_by(table.c.sequence).limit(limit)
        return [_record(row) for row in self._connection.execute(query)]

    def last_sequence(self) -> int:
        """Sequence of the newest event; 0: none."""
        return self._connection.execute(select(func.max(schema.events.c.sequence))).scalar_one() or 0

    def head_place(self) -> Place:
        """The newest event's place in the chain."""
        return self.place_at(self.last_sequence()) or Place()

    def place_at(self, sequence: int) -> Place | None:
        """The place of the event with this sequence; None when there is no such event. 0: before the first."""
        if sequence == 0:
            return Place()
        table = schema.events
        mac = self._connection.execute(select(table.c.mac).where(table.c.sequence == sequence)).scalar_one_or_none()
        return None if mac is None else Place(sequence, mac)

    def verify_after(self, place: Place, limit: int | None = None) -> tuple[Place, int]:
        """Check the hashes of at most `limit` events after a place.

        Returns the last event that fits, and the sequence of the first that does not; 0: they all fit.
        """
        table = schema.events
        columns = [*(table.c[name] for name in COVERED), table.c.previous_mac, table.c.mac]
        query = select(*columns).where(table.c.sequence > place.sequence).order_by(table.c.sequence).limit(limit)
        for row in self._connection.execute(query).yield_per(1000):
            *values, previous_mac, mac = tuple(row)
            follows = row.sequence == place.sequence + 1 and previous_mac == place.mac
            if not follows or not hmac.compare_digest(mac, link(self._key, place.mac, values)):
                return place, place.sequence + 1
            place = Place(row.sequence, mac)
        return place, 0

    def _page(self, query: Select[Any], sequence: Any, page: PageRequest, read: Callable[[Row[Any]], T]) -> Page[T]:
        if page.before:
            query = query.where(sequence < page.before)
        rows = self._connection.execute(query.order_by(sequence.desc()).limit(page.size + 1)).all()
        shown = rows[: page.size]
        more = len(rows) > page.size
        return Page(tuple(read(row) for row in shown), shown[-1]._mapping[sequence.name] if more else 0)


def _orders(wanted: OrderFilter) -> Select[Any]:
    table = schema.orders
    query: Any = select(table.c.intent_sequence, table.c.status_json)
    if wanted.symbol:
        query = query.where(table.c.symbol == wanted.symbol)
    if wanted.states:
        query = query.where(table.c.state.in_([state.value for state in wanted.states]))
    return _between(query, table.c.create_time, wanted.start_time, wanted.end_time)


def _between(query: Select[Any], column: Any, start: datetime | None, end: datetime | None) -> Select[Any]:
    """Times are stored as ISO text in UTC with microseconds, which sorts as they do."""
    if start is not None:
        query = query.where(column >= start.astimezone(UTC).isoformat(timespec="microseconds"))
    if end is not None:
        query = query.where(column < end.astimezone(UTC).isoformat(timespec="microseconds"))
    return query


def _record(row: Row[Any]) -> AuditRecord:
    return AuditRecord(
        sequence=row.sequence,
        record_time=datetime.fromisoformat(row.record_time),
        kind=row.kind,
        correlation_id=row.correlation_id,
        client_order_id=row.client_order_id,
        order_id=row.order_id,
        perm_id=row.perm_id,
        body_json=row.body_json,
        principal=row.principal,
        epoch=row.epoch,
    )


def _stored_order(row: Row[Any]) -> StoredOrder:
    return StoredOrder(
        spec=SPEC.validate_json(row.spec_json),
        terms=TERMS.validate_json(row.terms_json),
        status=STATUS.validate_json(row.status_json),
        payload_hash=row.payload_hash,
        order_ref=row.order_ref,
        client_id=row.client_id,
        was_written=bool(row.was_written),
        principal=row.principal,
    )


def _stored_modification(row: Row[Any]) -> StoredModification:
    return StoredModification(
        modify_id=row.modify_id,
        client_order_id=row.client_order_id,
        payload_hash=row.payload_hash,
        state=ModificationState(row.state),
        spec=SPEC.validate_json(row.spec_json),
        targets=TARGETS.validate_json(row.targets_json),
    )
