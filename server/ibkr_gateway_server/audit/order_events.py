"""Order events in the record: how each kind is written, and read again for streams that resume."""

from __future__ import annotations

import json
from dataclasses import replace
from typing import Any, TypeVar

from pydantic import TypeAdapter

from ibkr_gateway_server.domain.audit import AuditRecord
from ibkr_gateway_server.domain.events import (
    CommissionReported,
    Filled,
    NoticeReceived,
    OrderEvent,
    OrderHappening,
    StatusChanged,
)

T = TypeVar("T")

_KINDS: dict[type[Any], str] = {
    StatusChanged: "order.status",
    Filled: "execution",
    CommissionReported: "commission",
    NoticeReceived: "order.notice",
}
_ADAPTERS: dict[str, TypeAdapter[Any]] = {kind: TypeAdapter(happening) for happening, kind in _KINDS.items()}


def encode(happening: OrderHappening, account_id: str, *, recovered: bool) -> tuple[str, dict[str, Any]]:
    """The kind and the body of the record's event."""
    kind = _KINDS[type(happening)]
    body = _ADAPTERS[kind].dump_python(happening, mode="json")
    return kind, {"account_id": account_id, "recovered": recovered, **body}


def decode(record: AuditRecord) -> OrderEvent | None:
    """The order event that a record holds; None when it is of another kind (an intent, a session's change)."""
    adapter = _ADAPTERS.get(record.kind)
    if adapter is None:
        return None
    body = json.loads(record.body_json)
    account_id, recovered = body.pop("account_id"), body.pop("recovered")
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
    )
