"""Order events in the record: how each kind is written, and read again for streams that resume."""

from __future__ import annotations

import json
from dataclasses import replace
from typing import Any

from pydantic import TypeAdapter

from ibkr_gateway_server.domain.audit import AuditRecord
from ibkr_gateway_server.domain.events import (
    AlarmRaised,
    CommissionReported,
    Filled,
    ModifiedExternally,
    Noted,
    NoticeReceived,
    OrderEvent,
    OrderHappening,
    StatusChanged,
)
from ibkr_gateway_server.domain.orders import AlarmKind, LegRole, OrderOrigin, OrderStatus

# The record's kinds of events that streams tell, and what each is.
_HAPPENINGS: dict[str, type[Any]] = {
    "order.status": StatusChanged,
    "external.seen": StatusChanged,
    "execution": Filled,
    "commission": CommissionReported,
    "order.notice": NoticeReceived,
    "external.modify": ModifiedExternally,
    "order.resurrected": AlarmRaised,
    "order.conflict": AlarmRaised,
    "orderref.spoof": AlarmRaised,
    "orphan.found": AlarmRaised,
}
_ADAPTERS: dict[str, TypeAdapter[Any]] = {kind: TypeAdapter(happening) for kind, happening in _HAPPENINGS.items()}
_ALARMS = {
    AlarmKind.RESURRECTED: "order.resurrected",
    AlarmKind.CONFLICT: "order.conflict",
    AlarmKind.FORGED_MARK: "orderref.spoof",
    AlarmKind.ORPHAN: "orphan.found",
}


def encode(happening: OrderHappening, status: OrderStatus, *, recovered: bool) -> tuple[str, dict[str, Any]]:
    """The kind and the body of the record's event, of the order with this status."""
    kind = _kind_of(happening)
    body = {"account_id": status.account_id, "leg_role": status.leg_role, "recovered": recovered}
    if isinstance(happening, Noted):
        return kind, {**body, **happening.body}
    return kind, {**body, **_ADAPTERS[kind].dump_python(happening, mode="json")}


def _kind_of(happening: OrderHappening) -> str:
    match happening:
        case Noted(kind):
            return kind
        case AlarmRaised(alarm):
            return _ALARMS[alarm]
        case StatusChanged(status):
            return "order.status" if status.origin is OrderOrigin.GATEWAY else "external.seen"
    return next(kind for kind, each in _HAPPENINGS.items() if isinstance(happening, each))


def decode(record: AuditRecord) -> OrderEvent | None:
    """The order event that a record holds; None when it is of another kind (an intent, a session's change)."""
    adapter = _ADAPTERS.get(record.kind)
    if adapter is None:
        return None
    body = json.loads(record.body_json)
    account_id, recovered = body.pop("account_id"), body.pop("recovered")
    role = body.pop("leg_role", None)
    happening: OrderHappening = adapter.validate_python(body, strict=False)
    if isinstance(happening, StatusChanged):
        # The sequence is only known once the event is written, so the body cannot hold it.
        happening = StatusChanged(replace(happening.status, last_sequence=record.sequence))
    return OrderEvent(
        sequence=record.sequence,
        occurred_time=record.record_time,
        client_order_id=record.client_order_id,
        order_id=record.order_id,
        perm_id=record.perm_id,
        account_id=account_id,
        happening=happening,
        recovered=recovered,
        leg_role=LegRole(role) if role else None,
    )
