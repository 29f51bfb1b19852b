"""How changes, cancels and executions look."""

from __future__ import annotations

from collections.abc import Iterable

from ibkr_gateway.v1 import account_service_pb2, common_pb2, orders_service_pb2
from rich.table import Table
from rich.text import Text

from ibkr_gateway_cli.render import DASH, amount, name_of, signed, state_name, state_text, table

# In the order of the contract; those that an order has not are not shown.
_TERMS = (
    *("quantity", "limit_price", "stop_price", "trailing_amount", "trailing_percent", "trail_stop_price"),
    *("limit_offset", "take_profit_price", "stop_loss_price", "stop_loss_limit_price"),
)


def change_table(before: orders_service_pb2.OrderSpec, after: orders_service_pb2.OrderSpec) -> Table:
    """Prices and quantity before and after a change."""
    side = state_name(after.side, common_pb2.Side, "SIDE_")
    kind = state_name(after.order_type, orders_service_pb2.OrderType, "ORDER_TYPE_")
    made = table(f"{side} {name_of(after.instrument)} {kind}", "term", "before", "after", numbers=("before", "after"))
    for name in _TERMS:
        old, new = getattr(before, name), getattr(after, name)
        if old or new:
            made.add_row(name.replace("_", " "), old or DASH, Text(new, style="" if old == new else "bold yellow"))
    return made


def cancels_table(answer: orders_service_pb2.CancelAllOrdersResponse) -> Table:
    """What has become of each order that was to be cancelled."""
    title = f"Cancels: {answer.requested_count} sent, {answer.cancelled_count} confirmed"
    made = table(title, "order", "instrument", "state")
    for result in answer.results:
        key = result.order
        name = key.client_order_id or str(key.order_id or key.perm_id)
        if result.HasField("error"):
            error = Text(f"{result.error.error_code}: {result.error.message}", style="red")
            made.add_row(name, DASH, error)
        else:
            made.add_row(name, name_of(result.status.instrument), state_text(result.status))
    return made


def executions_table(executions: Iterable[account_service_pb2.Execution]) -> Table:
    """Executions, one row each."""
    numbers = ("quantity", "price", "commission", "realized P&L")
    columns = ("time", "client_order_id", "order", "instrument", "side", *numbers, "exchange")
    made = table("Executions", *columns, numbers=("order", *numbers))
    for execution in executions:
        fee = execution.commission
        made.add_row(
            execution.execution_time.ToDatetime().strftime("%Y-%m-%d %H:%M:%SZ"),
            execution.client_order_id or DASH,
            str(execution.order_id or DASH),
            name_of(execution.instrument),
            state_name(execution.side, common_pb2.Side, "SIDE_"),
            amount(execution.quantity, 0),
            execution.price,
            f"{amount(fee.amount)} {fee.currency_code}" if execution.HasField("commission") else DASH,
            signed(execution.realized_pnl),
            execution.exchange,
        )
    return made
