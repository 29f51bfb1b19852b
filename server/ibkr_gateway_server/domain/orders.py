"""Orders: the terms a caller asks for, and where each stands. Prices and quantities are Decimals, per unit."""

from __future__ import annotations

import re
from dataclasses import dataclass
from datetime import datetime
from decimal import Decimal
from enum import StrEnum

from ibkr_gateway_server.domain.errors import Reason, Violations
from ibkr_gateway_server.domain.halts import Halt
from ibkr_gateway_server.domain.instruments import Instrument, SecurityType
from ibkr_gateway_server.domain.quotes import Quote

CLIENT_ORDER_ID_PATTERN = re.compile(r"[A-Za-z0-9_-]{16,64}", re.ASCII)

# TWS holds prices and quantities as doubles: 15 significant digits survive the journey, more may not.
MAX_SIGNIFICANT_DIGITS = 15


class Side(StrEnum):
    """IBKR's codes of an order's direction."""

    BUY = "BUY"
    SELL = "SELL"


class OrderType(StrEnum):
    """Order types under the contract's names; `IBKR_CODES` has IBKR's where they differ."""

    MKT = "MKT"
    LMT = "LMT"
    STP = "STP"
    STP_LMT = "STP_LMT"
    TRAIL = "TRAIL"
    TRAIL_LIMIT = "TRAIL_LIMIT"
    BRACKET = "BRACKET"
    MOC = "MOC"
    LOC = "LOC"
    OPG = "OPG"
    MIT = "MIT"
    LIT = "LIT"
    REL = "REL"


class TimeInForce(StrEnum):
    """IBKR's codes of how long an order lives."""

    DAY = "DAY"
    GTC = "GTC"
    IOC = "IOC"
    FOK = "FOK"
    GTD = "GTD"
    OPG = "OPG"


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


class OrderOrigin(StrEnum):
    """Who placed an order."""

    GATEWAY = "GATEWAY"
    EXTERNAL = "EXTERNAL"
    EXTERNAL_OWN = "EXTERNAL_OWN"


class LegRole(StrEnum):
    """The part a leg plays."""

    ENTRY = "ENTRY"
    TAKE_PROFIT = "TAKE_PROFIT"
    STOP_LOSS = "STOP_LOSS"


@dataclass(frozen=True, slots=True)
class OrderSpec:
    """The terms of an order. `account_id` empty: the login's only account."""

    instrument: Instrument
    side: Side
    quantity: Decimal
    order_type: OrderType
    limit_price: Decimal | None = None
    stop_price: Decimal | None = None
    time_in_force: TimeInForce = TimeInForce.DAY
    account_id: str = ""
    outside_regular_hours: bool = False
    strategy_id: str = ""
    note: str = ""

    def violations(self, found: Violations) -> None:
        """Note every term that is wrong by itself, without asking IBKR."""
        if self.instrument.security_type is SecurityType.IND:
            found.add("instrument.security_type", "an index cannot be traded; name a future, an option or a fund on it")
        _check_quantity(self.quantity, found)
        _check_price(
            "limit_price", self.limit_price, found, taken=self.order_type is OrderType.LMT, kind=self.order_type
        )
        _check_price("stop_price", self.stop_price, found, taken=False, kind=self.order_type)
        if len(self.strategy_id) > 64:
            found.add("strategy_id", f"has {len(self.strategy_id)} characters; 64 are allowed")
        if len(self.note) > 256:
            found.add("note", f"has {len(self.note)} characters; 256 are allowed")


def check_client_order_id(value: str, found: Violations) -> None:
    """Note a client_order_id that is missing or not of the contract's form."""
    if not value:
        found.add(
            "client_order_id",
            "is missing; make one of 16 to 64 characters A-Z a-z 0-9 _ - and keep it for retries",
            Reason.CLIENT_ORDER_ID_MISSING,
        )
    elif not CLIENT_ORDER_ID_PATTERN.fullmatch(value):
        found.add("client_order_id", "must be 16 to 64 characters of A-Z a-z 0-9 _ -")


def _check_quantity(quantity: Decimal, found: Violations) -> None:
    if not quantity.is_finite() or quantity <= 0:
        found.add("quantity", f"{quantity} is not a positive number; the side says whether to buy or sell")
    elif significant_digits(quantity) > MAX_SIGNIFICANT_DIGITS:
        found.add("quantity", f"has more than {MAX_SIGNIFICANT_DIGITS} significant digits")


def _check_price(name: str, price: Decimal | None, found: Violations, *, taken: bool, kind: OrderType) -> None:
    if taken and price is None:
        found.add(name, f"is needed for a {kind} order")
    elif price is None:
        return
    elif not taken:
        found.add(name, f"is not taken by a {kind} order; leave it out")
    elif not price.is_finite():
        found.add(name, f"{price} is not a price")
    elif significant_digits(price) > MAX_SIGNIFICANT_DIGITS:
        found.add(name, f"has more than {MAX_SIGNIFICANT_DIGITS} significant digits")


def significant_digits(number: Decimal) -> int:
    """Digits that matter: 100.50 has 4."""
    return len(number.normalize().as_tuple().digits)


@dataclass(frozen=True, slots=True)
class OrderKey:
    """Names one order by one of its ids; empty and 0 are not given."""

    client_order_id: str = ""
    order_id: int = 0
    perm_id: int = 0

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

    @property
    def remaining_quantity(self) -> Decimal:
        """Units that may still fill: none once the order is final."""
        return Decimal(0) if self.state.is_final else max(self.quantity - self.filled_quantity, Decimal(0))


@dataclass(frozen=True, slots=True)
class Order:
    """One order with its terms (None when placed elsewhere) and what has filled, oldest first."""

    status: OrderStatus
    spec: OrderSpec | None = None
    executions: tuple[Execution, ...] = ()


@dataclass(frozen=True, slots=True)
class Leg:
    """One order of a plan, with the price and value it is estimated at."""

    role: LegRole
    order_type: OrderType
    side: Side
    quantity: Decimal
    time_in_force: TimeInForce
    limit_price: Decimal | None = None
    stop_price: Decimal | None = None
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
