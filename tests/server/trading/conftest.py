"""What the trading tests share."""

from __future__ import annotations

from datetime import UTC, datetime
from decimal import Decimal
from typing import Any

from ibkr_gateway_server.domain.evidence import CommissionSeen, ExecutionSeen, OpenOrderSeen, OrderStatusSeen
from ibkr_gateway_server.domain.instruments import Instrument, SecurityType
from ibkr_gateway_server.domain.orders import (
    LegRole,
    LegTerms,
    Mark,
    OrderSpec,
    OrderState,
    OrderStatus,
    OrderType,
    Side,
    TimeInForce,
)
from ibkr_gateway_server.trading.entries import Entry, Intent
from ibkr_gateway_server.trading.ledger import Ledger

NOW = datetime(2026, 11, 23, 15, tzinfo=UTC)
AAPL = Instrument(265598, "AAPL", SecurityType.STK, "SMART", "USD")
KEY = "0123456789abcdef"


def market_order(**changed: Any) -> OrderSpec:
    return OrderSpec(
        **{"instrument": AAPL, "side": Side.BUY, "quantity": Decimal(10), "order_type": OrderType.MKT, **changed}
    )


def entry(state: OrderState = OrderState.SENT, **changed: Any) -> Entry:
    """The only leg of an intent, for ten of AAPL."""
    fields = {"order_id": 7, "client_order_id": KEY, "time_in_force": TimeInForce.DAY, "leg_role": LegRole.ENTRY}
    status = OrderStatus("DU1", AAPL, Side.BUY, Decimal(10), state, NOW, NOW, **{**fields, **changed})
    terms = LegTerms(
        LegRole.ENTRY,
        status.order_type or OrderType.MKT,
        status.side,
        status.quantity,
        status.time_in_force or TimeInForce.DAY,
        status.limit_price,
    )
    intent = Intent(status.client_order_id, market_order(), "hash")
    made = Entry(status, 1, terms, "g1.mine", intent, was_written=True)
    intent.legs[LegRole.ENTRY] = made
    return made


def mark_of(order_ref: str) -> Mark:
    """Marks that begin with g1. are this gateway's, those with g0. pretend to be."""
    return Mark.OWN if order_ref.startswith("g1.") else Mark.FORGED if order_ref.startswith("g0.") else Mark.NONE


def ledger_with(*entries: Entry) -> Ledger:
    ledger = Ledger(mark_of)
    for each in entries:
        assert each.intent is not None
        ledger.add(each.intent)
    return ledger


def open_order(status: str, **changed: Any) -> OpenOrderSeen:
    fields = {"epoch": 1, "order_id": 7, "client_id": 1, "perm_id": 900, "account_id": "DU1", "order_ref": "g1.mine"}
    fields |= {"instrument": AAPL, "side": Side.BUY, "broker_order_type": "MKT", "quantity": Decimal(10)}
    return OpenOrderSeen(**{**fields, "time_in_force": "DAY", "status": status, **changed})


def status_seen(status: str, filled: int = 0, **changed: Any) -> OrderStatusSeen:
    fields = {"epoch": 1, "order_id": 7, "client_id": 1, "perm_id": 900, "status": status, "filled": Decimal(filled)}
    average = Decimal("10.5") if filled else None
    return OrderStatusSeen(**{**fields, "remaining": Decimal(10 - filled), "average_fill_price": average, **changed})


def execution(number: str = "01", quantity: int = 10, price: str = "10.5", **changed: Any) -> ExecutionSeen:
    fields = {"epoch": 1, "execution_id": f"e.{number}.01", "order_id": 7, "client_id": 1, "perm_id": 900}
    fields |= {"account_id": "DU1", "order_ref": "g1.mine", "instrument": AAPL, "side": Side.BUY}
    fields |= {"quantity": Decimal(quantity), "price": Decimal(price), "execution_time": NOW, "exchange": "IEX"}
    return ExecutionSeen(**{**fields, **changed})


def commission(number: str = "01", amount: str = "1.00") -> CommissionSeen:
    return CommissionSeen(1, f"e.{number}.01", Decimal(amount), "USD", None)
