"""Order events, as the durable record keeps them and the order stream tells them."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime

from ibkr_gateway_server.domain.orders import BrokerNotice, Execution, OrderStatus


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


OrderHappening = StatusChanged | Filled | CommissionReported | NoticeReceived


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
