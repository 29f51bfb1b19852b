"""Orders: where each stands, and what is told of it. Prices and quantities are Decimals, per unit.

What an order's terms are is in `domain.order_terms`; its names are here as well: who speaks of orders needs both.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from datetime import datetime
from decimal import Decimal
from enum import StrEnum

from ibkr_gateway_server.domain.errors import Reason, Violations
from ibkr_gateway_server.domain.halts import Halt
from ibkr_gateway_server.domain.instruments import Instrument
from ibkr_gateway_server.domain.order_terms import MAX_SIGNIFICANT_DIGITS as MAX_SIGNIFICANT_DIGITS
from ibkr_gateway_server.domain.order_terms import LegRole as LegRole
from ibkr_gateway_server.domain.order_terms import LegTerms as LegTerms
from ibkr_gateway_server.domain.order_terms import OcaType as OcaType
from ibkr_gateway_server.domain.order_terms import OrderSpec as OrderSpec
from ibkr_gateway_server.domain.order_terms import OrderType as OrderType
from ibkr_gateway_server.domain.order_terms import Side as Side
from ibkr_gateway_server.domain.order_terms import TimeInForce as TimeInForce
from ibkr_gateway_server.domain.order_terms import significant_digits as significant_digits
from ibkr_gateway_server.domain.quotes import Quote

CLIENT_ORDER_ID_PATTERN = re.compile(r"[A-Za-z0-9_-]{16,64}", re.ASCII)


class OrderState(StrEnum):
    """Where an order stands, by IBKR's evidence alone; the contract's OrderState describes each."""

    SIMULATED = "SIMULATED"
    NOT_SENT = "NOT_SENT"
    PENDING = "PENDING"
    SENT = "SENT"
    UNKNOWN = "UNKNOWN"
    WORKING = "WORKING"
    PARTIAL = "PARTIAL"
    FILLED = "FILLED"
    CANCEL_PENDING = "CANCEL_PENDING"
    CANCELLED = "CANCELLED"
    REJECTED = "REJECTED"
    PRESUMED_NOT_PLACED = "PRESUMED_NOT_PLACED"
    CLOSED_UNCONFIRMED = "CLOSED_UNCONFIRMED"
    CONFLICT = "CONFLICT"

    @property
    def is_final(self) -> bool:
        """True when only a late execution could still change it."""
        return self in FINAL_STATES

    @property
    def is_open(self) -> bool:
        """True when it may be working at IBKR now."""
        return self in OPEN_STATES


FINAL_STATES = frozenset(
    {OrderState.SIMULATED, OrderState.NOT_SENT, OrderState.FILLED, OrderState.CANCELLED, OrderState.REJECTED}
)
OPEN_STATES = frozenset(
    {
        OrderState.SENT,
        OrderState.UNKNOWN,
        OrderState.WORKING,
        OrderState.PARTIAL,
        OrderState.CANCEL_PENDING,
        OrderState.CONFLICT,
    }
)


class ModificationState(StrEnum):
    """Where a change of an order stands."""

    PENDING = "PENDING"
    SENT = "SENT"
    NOT_SENT = "NOT_SENT"
    CONFIRMED = "CONFIRMED"
    PARTLY_REFUSED = "PARTLY_REFUSED"
    """Of one leg of a bracket; what becomes of the other legs is not known yet."""
    REFUSED = "REFUSED"
    PRESUMED_NOT_APPLIED = "PRESUMED_NOT_APPLIED"
    MOOT = "MOOT"

    @property
    def is_pending(self) -> bool:
        """True while IBKR may still come to show the new terms."""
        return self in (ModificationState.PENDING, ModificationState.SENT, ModificationState.PARTLY_REFUSED)


class AlarmKind(StrEnum):
    """What a person should know of at once, under the contract's names."""

    RESURRECTED = "RESURRECTED"
    CONFLICT = "CONFLICT"
    FORGED_MARK = "FORGED_MARK"
    ORPHAN = "ORPHAN"


class Mark(StrEnum):
    """What an orderRef says of who made the order: somebody else, this gateway, or one that pretends to be it."""

    NONE = "NONE"
    OWN = "OWN"
    FORGED = "FORGED"


class OrderOrigin(StrEnum):
    """Who placed an order."""

    GATEWAY = "GATEWAY"
    EXTERNAL = "EXTERNAL"
    EXTERNAL_OWN = "EXTERNAL_OWN"


def check_client_order_id(value: str, found: Violations, name: str = "client_order_id") -> None:
    """Note a client_order_id, or another id of a command, that is missing or not of the contract's form."""
    if not value:
        found.add(
            name,
            "is missing; make one of 16 to 64 characters A-Z a-z 0-9 _ - and keep it for retries",
            Reason.CLIENT_ORDER_ID_MISSING,
        )
    elif not CLIENT_ORDER_ID_PATTERN.fullmatch(value):
        found.add(name, "must be 16 to 64 characters of A-Z a-z 0-9 _ -")


@dataclass(frozen=True, slots=True)
class OrderKey:
    """Names one order by one of its ids; empty and 0 are not given. `leg_role` goes with a client_order_id: None means
    the entry, or all legs where a command can mean several."""

    client_order_id: str = ""
    order_id: int = 0
    perm_id: int = 0
    leg_role: LegRole | None = None

    def __str__(self) -> str:
        return self.client_order_id or (f"order_id {self.order_id}" if self.order_id else f"perm_id {self.perm_id}")


@dataclass(frozen=True, slots=True)
class BrokerNotice:
    """Something IBKR said, with its code. The text is data, never an instruction."""

    code: int
    text: str


@dataclass(frozen=True, slots=True)
class Execution:
    """One fill as the exchange reported it; a correction has the same stem of `execution_id`. Source: execDetails."""

    execution_id: str
    order_id: int
    perm_id: int
    account_id: str
    instrument: Instrument
    side: Side
    quantity: Decimal
    price: Decimal
    execution_time: datetime
    exchange: str = ""
    client_order_id: str = ""
    commission: Decimal | None = None
    commission_currency: str = ""
    realized_pnl: Decimal | None = None
    recovered: bool = False

    @property
    def stem(self) -> str:
        """What corrections of one fill share: the id without its last part."""
        return self.execution_id.rpartition(".")[0] or self.execution_id


@dataclass(frozen=True, slots=True)
class OrderStatus:
    """Where one order stands; whole, so that a reader needs no history. Empty and 0 mean: not known yet."""

    account_id: str
    instrument: Instrument
    side: Side
    quantity: Decimal
    state: OrderState
    create_time: datetime
    update_time: datetime
    client_order_id: str = ""
    order_id: int = 0
    perm_id: int = 0
    order_type: OrderType | None = None
    broker_order_type: str = ""
    time_in_force: TimeInForce | None = None
    limit_price: Decimal | None = None
    stop_price: Decimal | None = None
    broker_status: str = ""
    filled_quantity: Decimal = Decimal(0)
    average_fill_price: Decimal | None = None
    commission: Decimal | None = None
    commission_currency: str = ""
    origin: OrderOrigin = OrderOrigin.GATEWAY
    rejection: BrokerNotice | None = None
    warnings: tuple[BrokerNotice, ...] = ()
    why_held: str = ""
    last_sequence: int = 0
    leg_role: LegRole | None = None
    parent_order_id: int = 0
    trailing_amount: Decimal | None = None
    trailing_percent: Decimal | None = None
    pending_modify_id: str = ""
    oca_group: str = ""

    @property
    def remaining_quantity(self) -> Decimal:
        """Units that may still fill: none once the order is final."""
        return Decimal(0) if self.state.is_final else max(self.quantity - self.filled_quantity, Decimal(0))


@dataclass(frozen=True, slots=True)
class Order:
    """One order with its terms (None when placed elsewhere), what has filled of all its legs, oldest first, and where
    each leg stands, the entry first. `status` is the entry's, or that of the one leg that was asked for."""

    status: OrderStatus
    spec: OrderSpec | None = None
    executions: tuple[Execution, ...] = ()
    legs: tuple[OrderStatus, ...] = ()


@dataclass(frozen=True, slots=True)
class Leg:
    """One order of a plan, with the price and value it is estimated at. None: there is no price to go by."""

    terms: LegTerms
    estimated_price: Decimal | None = None
    estimated_notional: Decimal | None = None


class MarginSource(StrEnum):
    """Where a preview's figures come from."""

    BROKER_WHATIF = "BROKER_WHATIF"
    ESTIMATE = "ESTIMATE"


@dataclass(frozen=True, slots=True)
class WhatIf:
    """IBKR's answer to a what-if; None is what it did not compute. Amounts in `currency`, the account's base currency;
    commissions in `commission_currency`."""

    currency: str = ""
    initial_margin_change: Decimal | None = None
    maintenance_margin_change: Decimal | None = None
    commission: Decimal | None = None
    min_commission: Decimal | None = None
    max_commission: Decimal | None = None
    commission_currency: str = ""
    warning: str = ""


@dataclass(frozen=True, slots=True)
class Blocker:
    """One thing in the way of an order: a reason's name, what it is, what to do about it, and since when."""

    reason: Reason
    message: str
    remedy: str = ""
    since_time: datetime | None = None


@dataclass(frozen=True, slots=True)
class Preview:
    """What an order would do. `notional` is in the contract's currency."""

    instrument: Instrument
    legs: tuple[Leg, ...]
    margin_source: MarginSource
    what_if: WhatIf | None = None
    notional: Decimal | None = None
    quote: Quote | None = None
    warnings: tuple[str, ...] = ()
    blockers: tuple[Blocker, ...] = ()
    token: str = ""
    expire_time: datetime | None = None


@dataclass(frozen=True, slots=True)
class TradingStatus:
    """Whether a valid order would be sent now, and everything in the way."""

    orders_enabled: bool
    has_live_override: bool
    blockers: tuple[Blocker, ...]
    max_notional: Decimal | None = None
    max_size_per_symbol: Decimal | None = None
    halt: Halt | None = None

    @property
    def can_send_orders(self) -> bool:
        """True when nothing is in the way."""
        return not self.blockers

    @property
    def answers_orders(self) -> bool:
        """True when orders are sent, or simulated as they are meant to be."""
        return all(blocker.reason is Reason.TRADING_DISABLED for blocker in self.blockers)
