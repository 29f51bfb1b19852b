"""Order events, as the durable record keeps them and the order stream tells them."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime
from typing import Any

from ibkr_gateway_server.domain.orders import AlarmKind, BrokerNotice, Execution, LegRole, OrderStatus


@dataclass(frozen=True, slots=True)
class StatusChanged:
    """The order's state, or something of it, is new."""

    status: OrderStatus


@dataclass(frozen=True, slots=True)
class Filled:
    """A fill."""

    execution: Execution


@dataclass(frozen=True, slots=True)
class CommissionReported:
    """The commission of a fill is known: the whole execution again."""

    execution: Execution


@dataclass(frozen=True, slots=True)
class NoticeReceived:
    """IBKR said something of this order; its state did not change by it."""

    notice: BrokerNotice


@dataclass(frozen=True, slots=True)
class ModifiedExternally:
    """Somebody changed the order in TWS, or by another program."""

    before: OrderStatus
    after: OrderStatus


@dataclass(frozen=True, slots=True)
class AlarmRaised:
    """Something that a person should know of now."""

    kind: AlarmKind
    text: str


@dataclass(frozen=True, slots=True)
class Noted:
    """Something for the record alone, that no stream tells: what was looked for, sent again, or found."""

    kind: str
    body: dict[str, Any]


OrderHappening = StatusChanged | Filled | CommissionReported | NoticeReceived | ModifiedExternally | AlarmRaised | Noted


@dataclass(frozen=True, slots=True)
class OrderEvent:
    """One event with the four ids; `sequence` is the durable one and the resume cursor."""

    sequence: int
    occurred_time: datetime
    client_order_id: str
    order_id: int
    perm_id: int
    account_id: str
    happening: OrderHappening
    recovered: bool = False
    leg_role: LegRole | None = None
    audit_pending: bool = False
    """The record does not hold it yet: `sequence` is 0, and it is told again with its own once it does."""
