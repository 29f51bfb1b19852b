"""What the trading tests share."""

from __future__ import annotations

from datetime import UTC, datetime
from decimal import Decimal
from typing import Any

from ibkr_gateway_server.domain.evidence import CommissionSeen, ExecutionSeen, OpenOrderSeen, OrderStatusSeen
from ibkr_gateway_server.domain.instruments import Instrument, SecurityType
from ibkr_gateway_server.domain.orders import OrderSpec, OrderState, OrderStatus, OrderType, Side, TimeInForce
from ibkr_gateway_server.trading.ledger import Entry, Ledger

NOW = datetime(2026, 11, 23, 15, tzinfo=UTC)
AAPL = Instrument(265598, "AAPL", SecurityType.STK, "SMART", "USD")
KEY = "0123456789abcdef"


def market_order(**changed: Any) -> OrderSpec:
    return OrderSpec(
        **{"instrument": AAPL, "side": Side.BUY, "quantity": Decimal(10), "order_type": OrderType.MKT, **changed}
    )


def entry(state: OrderState = OrderState.SENT, **changed: Any) -> Entry:
    fields = {"order_id": 7, "client_order_id": KEY, "time_in_force": TimeInForce.DAY, **changed}
    status = OrderStatus("DU1", AAPL, Side.BUY, Decimal(10), state, NOW, NOW, **fields)
    return Entry(status, 1, market_order(), "hash", "g1.mine", was_written=True)


def ledger_with(*entries: Entry) -> Ledger:
    ledger = Ledger("g1.")
    for each in entries:
        ledger.add(each)
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
