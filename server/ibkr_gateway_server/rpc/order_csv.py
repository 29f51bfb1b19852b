"""Orders as CSV (RFC 4180): a row for each leg, times in ISO 8601 and UTC, decimals as they are, unknown values empty.

Spreadsheets take text that begins as a formula does for one and run it. Such text comes from IBKR and from callers, so
a quote mark is put before it; ids and numbers are left alone, since what they may hold can do nothing.
"""

from __future__ import annotations

import csv
import io
from collections.abc import AsyncIterator, Callable
from datetime import UTC, datetime
from decimal import Decimal
from enum import StrEnum

from ibkr_gateway_server.audit.store import AuditStore
from ibkr_gateway_server.domain.audit import OrderFilter
from ibkr_gateway_server.domain.orders import BrokerNotice, OrderStatus

PIECE_BYTES = 64 * 1024
# Orders that are read from the record at a time.
PAGE = 500

_FORMULA = ("=", "+", "-", "@", "\t", "\r", "\n")

Value = str | int | Decimal | datetime | StrEnum | None

COLUMNS: dict[str, Callable[[OrderStatus], Value]] = {
    "client_order_id": lambda order: order.client_order_id,
    "leg_role": lambda order: order.leg_role,
    "order_id": lambda order: order.order_id,
    "perm_id": lambda order: order.perm_id,
    "parent_order_id": lambda order: order.parent_order_id,
    "account_id": lambda order: order.account_id,
    "con_id": lambda order: order.instrument.con_id,
    "symbol": lambda order: safe(order.instrument.symbol),
    "security_type": lambda order: order.instrument.security_type,
    "exchange": lambda order: safe(order.instrument.exchange),
    "currency": lambda order: safe(order.instrument.currency),
    "local_symbol": lambda order: safe(order.instrument.local_symbol),
    "expiry": lambda order: order.instrument.expiry,
    "strike": lambda order: order.instrument.strike,
    "right": lambda order: order.instrument.right,
    "multiplier": lambda order: order.instrument.multiplier,
    "side": lambda order: order.side,
    "quantity": lambda order: order.quantity,
    "order_type": lambda order: order.order_type,
    "broker_order_type": lambda order: safe(order.broker_order_type),
    "time_in_force": lambda order: order.time_in_force,
    "limit_price": lambda order: order.limit_price,
    "stop_price": lambda order: order.stop_price,
    "trailing_amount": lambda order: order.trailing_amount,
    "trailing_percent": lambda order: order.trailing_percent,
    "oca_group": lambda order: safe(order.oca_group),
    "state": lambda order: order.state,
    "broker_status": lambda order: safe(order.broker_status),
    "filled_quantity": lambda order: order.filled_quantity,
    "remaining_quantity": lambda order: order.remaining_quantity,
    "average_fill_price": lambda order: order.average_fill_price,
    "commission": lambda order: order.commission,
    "commission_currency": lambda order: safe(order.commission_currency),
    "origin": lambda order: order.origin,
    "rejection_code": lambda order: order.rejection.code if order.rejection else None,
    "rejection_text": lambda order: safe(order.rejection.text) if order.rejection else None,
    "warnings": lambda order: safe("; ".join(map(_notice, order.warnings))),
    "why_held": lambda order: safe(order.why_held),
    "pending_modify_id": lambda order: order.pending_modify_id,
    "last_sequence": lambda order: order.last_sequence,
    "create_time": lambda order: order.create_time,
    "update_time": lambda order: order.update_time,
}


async def pieces(store: AuditStore, wanted: OrderFilter) -> AsyncIterator[bytes]:
    """The file in pieces of at most `PIECE_BYTES`, oldest order first. Raises AuditUnavailable."""
    buffer = io.StringIO(newline="")
    writer = csv.writer(buffer)
    writer.writerow(COLUMNS)
    position = 0
    while True:
        page = await store.orders_after(position, wanted, PAGE)
        for sequence, order in page:
            writer.writerow([_text(column(order)) for column in COLUMNS.values()])
            position = sequence
        data = buffer.getvalue().encode()
        buffer.seek(0)
        buffer.truncate()
        for start in range(0, len(data), PIECE_BYTES):
            yield data[start : start + PIECE_BYTES]
        if not page:
            return


def safe(text: str) -> str:
    """The text, with a quote mark before it where a spreadsheet would take it for a formula."""
    return f"'{text}" if text.startswith(_FORMULA) else text


def _notice(notice: BrokerNotice) -> str:
    return f"{notice.code} {notice.text}"


def _text(value: Value) -> str:
    match value:
        case None:
            return ""
        case datetime():
            return value.astimezone(UTC).isoformat(timespec="microseconds")
        case Decimal():
            return f"{value:f}"
    return str(value)
