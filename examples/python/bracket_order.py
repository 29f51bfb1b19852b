"""Previews a bracket, an entry with a take-profit and a stop-loss, and with --yes places it and follows its legs.

Without --keep it is cancelled again once its entry works.
"""

from __future__ import annotations

import sys

import options
from ibkr_gateway import GatewayError, SyncGateway, bracket_order, follow_orders_sync, new_client_order_id
from ibkr_gateway.v1 import orders_service_pb2 as pb

FINAL = {
    pb.ORDER_STATE_SIMULATED,
    pb.ORDER_STATE_NOT_SENT,
    pb.ORDER_STATE_FILLED,
    pb.ORDER_STATE_CANCELLED,
    pb.ORDER_STATE_REJECTED,
    pb.ORDER_STATE_PRESUMED_NOT_PLACED,
    pb.ORDER_STATE_CLOSED_UNCONFIRMED,
}


def main() -> None:
    parser = options.parser(__doc__)
    parser.add_argument("instrument", help="AAPL, MES:FUT, EUR.USD, or a contract id")
    parser.add_argument("quantity", help="units, as a decimal")
    parser.add_argument("--side", default="BUY", choices=["BUY", "SELL"], help="direction of the entry")
    parser.add_argument("--entry", help="limit price of the entry; without it at the market")
    parser.add_argument("--take-profit", required=True, help="limit price to close with a profit")
    parser.add_argument("--stop-loss", required=True, help="stop price to close with a loss")
    parser.add_argument("--yes", action="store_true", help="place it; without it the order is only previewed")
    parser.add_argument("--keep", action="store_true", help="leave it working")
    arguments = parser.parse_args()
    order = bracket_order(
        arguments.instrument,
        arguments.side,
        arguments.quantity,
        arguments.entry,
        take_profit=arguments.take_profit,
        stop_loss=arguments.stop_loss,
    )
    with options.connected(arguments) as gateway:
        try:
            if preview(gateway, order) and arguments.yes:
                follow(gateway, place(gateway, order), keep=arguments.keep)
        except GatewayError as error:
            sys.exit(f"{error.reason or error.code.name}: {error.message}")


def preview(gateway: SyncGateway, order: pb.OrderSpec) -> bool:
    """Shows what it would do; whether it would be taken."""
    shown = gateway.orders.PreviewOrder(pb.PreviewOrderRequest(order=order)).preview
    for leg in shown.legs:
        prices = " ".join(getattr(leg, name) for name in ("limit_price", "stop_price") if getattr(leg, name))
        print(f"{role(leg.role):<12} {pb.OrderType.Name(leg.order_type).removeprefix('ORDER_TYPE_'):<4} {prices}")
    print(f"value {shown.total_notional.amount} {shown.total_notional.currency_code}")
    for blocker in shown.blockers:
        print(f"would be refused: {blocker.error_code}: {blocker.message}")
    return not shown.blockers


def place(gateway: SyncGateway, order: pb.OrderSpec) -> str:
    """Places it under an id of its own, which is shown before the first try: whoever repeats it, it is one order."""
    client_order_id = new_client_order_id()
    print(f"client_order_id {client_order_id}")
    gateway.orders.PlaceOrder(pb.PlaceOrderRequest(client_order_id=client_order_id, order=order))
    return client_order_id


def follow(gateway: SyncGateway, client_order_id: str, *, keep: bool) -> None:
    """Shows what happens to each leg: until the entry works when it is kept, else until every leg has ended."""
    open_legs = {pb.LEG_ROLE_ENTRY, pb.LEG_ROLE_TAKE_PROFIT, pb.LEG_ROLE_STOP_LOSS}
    is_cancelled = False
    for event in follow_orders_sync(gateway, after=0, client_order_id=client_order_id):
        if not event.HasField("status"):
            continue
        state = event.status.state
        name = pb.OrderState.Name(state).removeprefix("ORDER_STATE_")
        print(f"{event.sequence:>8}  {role(event.leg_role):<12} {name}")
        if event.leg_role == pb.LEG_ROLE_ENTRY and state in (pb.ORDER_STATE_WORKING, pb.ORDER_STATE_FILLED):
            if keep:
                return
            if not is_cancelled:
                is_cancelled = True
                gateway.orders.CancelOrder(pb.CancelOrderRequest(order=pb.OrderKey(client_order_id=client_order_id)))
        if state in FINAL:
            open_legs.discard(event.leg_role)
        if not open_legs:
            return


def role(number: pb.LegRole.ValueType) -> str:
    return pb.LegRole.Name(number).removeprefix("LEG_ROLE_").lower().replace("_", " ")


if __name__ == "__main__":
    main()
