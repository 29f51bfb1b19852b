"""Evidence about orders: what IBKR said, word for word, before anyone concludes anything from it.

Each is one callback of the TWS API, with absent values as None and the connection's epoch. Order ids are only unique
within a client and an epoch range; `perm_id` is unique in the account, for ever, and 0 until IBKR has given it.
"""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime
from decimal import Decimal

from ibkr_gateway_server.domain.instruments import Instrument
from ibkr_gateway_server.domain.orders import Side


@dataclass(frozen=True, slots=True)
class OpenOrderSeen:
    """openOrder, or completedOrder when `is_completed`: an order with its terms and IBKR's word for its state.

    Prices that the type does not have are None. A trailing order's limit and stop prices are where they are now.
    """

    epoch: int
    order_id: int
    client_id: int
    perm_id: int
    account_id: str
    order_ref: str
    instrument: Instrument
    side: Side
    broker_order_type: str
    quantity: Decimal
    time_in_force: str
    status: str
    limit_price: Decimal | None = None
    stop_price: Decimal | None = None
    is_completed: bool = False
    filled_quantity: Decimal | None = None
    completed_status: str = ""
    trailing_amount: Decimal | None = None
    trailing_percent: Decimal | None = None
    trail_stop_price: Decimal | None = None
    limit_offset: Decimal | None = None
    oca_group: str = ""
    parent_id: int = 0


@dataclass(frozen=True, slots=True)
class OrderStatusSeen:
    """orderStatus: IBKR's word for the state, with what has filled."""

    epoch: int
    order_id: int
    client_id: int
    perm_id: int
    status: str
    filled: Decimal
    remaining: Decimal
    average_fill_price: Decimal | None
    why_held: str = ""


@dataclass(frozen=True, slots=True)
class ExecutionSeen:
    """execDetails: one fill. `is_recovered` when it answers a request instead of arriving by itself."""

    epoch: int
    execution_id: str
    order_id: int
    client_id: int
    perm_id: int
    account_id: str
    order_ref: str
    instrument: Instrument
    side: Side
    quantity: Decimal
    price: Decimal
    execution_time: datetime
    exchange: str
    is_recovered: bool = False


@dataclass(frozen=True, slots=True)
class CommissionSeen:
    """commissionReport: what a fill cost."""

    epoch: int
    execution_id: str
    commission: Decimal | None
    currency: str
    realized_pnl: Decimal | None


@dataclass(frozen=True, slots=True)
class OrderErrorSeen:
    """error with an order's id: a rejection or a mere notice, as the table of notices says."""

    epoch: int
    order_id: int
    code: int
    text: str


Evidence = OpenOrderSeen | OrderStatusSeen | ExecutionSeen | CommissionSeen | OrderErrorSeen
