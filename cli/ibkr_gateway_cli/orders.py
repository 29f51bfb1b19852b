"""Orders: preview, place, cancel, status, list, events."""

from __future__ import annotations

import json
import os
import sys
from pathlib import Path
from typing import Annotated

import typer
from ibkr_gateway import decimal_text, new_client_order_id, parse_instrument
from ibkr_gateway.v1 import common_pb2
from ibkr_gateway.v1 import orders_service_pb2 as pb

from ibkr_gateway_cli.session import (
    ERROR,
    REFUSED,
    USAGE,
    Options,
    console,
    errors_as_exit_codes,
    gateway,
    print_json,
)

orders = typer.Typer(no_args_is_help=True, help="Preview, place, cancel and follow orders.")

SideArgument = Annotated[str, typer.Argument(metavar="buy|sell", help="Direction.")]
QuantityArgument = Annotated[str, typer.Argument(help="Units, as a decimal.")]
InstrumentArgument = Annotated[str, typer.Argument(help="AAPL, MES:FUT, EUR.USD, or a contract id.")]
LimitOption = Annotated[str, typer.Option("--limit", "-l", help="Limit price; without it a market order.")]
TifOption = Annotated[str, typer.Option("--tif", help="Time in force: DAY, GTC, IOC, FOK, OPG.")]
AccountOption = Annotated[str, typer.Option("--account", "-a", help="Account number; needed when there are several.")]
KeyArgument = Annotated[str, typer.Argument(help="client_order_id, or IBKR's order id.")]


@orders.command()
def preview(
    context: typer.Context,
    side: SideArgument,
    quantity: QuantityArgument,
    instrument: InstrumentArgument,
    limit: LimitOption = "",
    tif: TifOption = "DAY",
    account_id: AccountOption = "",
) -> None:
    """What an order would cost and need (SAFE: nothing is sent that could trade)."""
    options: Options = context.obj
    with errors_as_exit_codes(options.as_json):
        spec = _spec(side, quantity, instrument, limit, tif, account_id)
        with gateway(options) as connected:
            answer = connected.orders.PreviewOrder(pb.PreviewOrderRequest(order=spec))
        _show_preview(options, answer.preview)


@orders.command()
def place(
    context: typer.Context,
    side: SideArgument,
    quantity: QuantityArgument,
    instrument: InstrumentArgument,
    limit: LimitOption = "",
    tif: TifOption = "DAY",
    account_id: AccountOption = "",
    yes: Annotated[bool, typer.Option("--yes", "-y", help="Do not ask.")] = False,
    client_order_id: Annotated[
        str, typer.Option(help="Repeat an order whose fate is not known: the same id is the same order.")
    ] = "",
    require_transmit: Annotated[
        bool, typer.Option("--require-transmit", help="Fail instead of SIMULATED when orders are disabled.")
    ] = False,
) -> None:
    """Place an order (SAFE BY DEFAULT: with ORDERS_ENABLED=false it is SIMULATED). Shows the preview and asks first."""
    options: Options = context.obj
    with errors_as_exit_codes(options.as_json):
        spec = _spec(side, quantity, instrument, limit, tif, account_id)
        with gateway(options) as connected:
            if not yes:
                _show_preview(options, connected.orders.PreviewOrder(pb.PreviewOrderRequest(order=spec)).preview)
                _ask()
            key = client_order_id or new_client_order_id()
            _remember(key, spec)
            if not options.as_json:
                console(to_stderr=True).print(f"client_order_id {key}  (repeat it to retry; it is never sent twice)")
            request = pb.PlaceOrderRequest(client_order_id=key, order=spec, require_transmit=require_transmit)
            result = connected.orders.PlaceOrder(request).result
        if options.as_json:
            print_json(result)
        else:
            _show(options, "Order", [result.status])
        if result.state == pb.ORDER_STATE_REJECTED:
            raise typer.Exit(REFUSED)


@orders.command()
def cancel(context: typer.Context, order: KeyArgument) -> None:
    """Cancel an order. Repeating it is harmless."""
    options: Options = context.obj
    with errors_as_exit_codes(options.as_json):
        with gateway(options) as connected:
            answer = connected.orders.CancelOrder(pb.CancelOrderRequest(order=_key(order)))
        _show(options, "Order", [answer.status])


@orders.command()
def status(context: typer.Context, order: KeyArgument) -> None:
    """Where an order stands."""
    options: Options = context.obj
    with errors_as_exit_codes(options.as_json):
        with gateway(options) as connected:
            answer = connected.orders.GetOrderStatus(pb.GetOrderStatusRequest(order=_key(order)))
        _show(options, "Order", [answer.status])


@orders.command("list")
def list_orders(
    context: typer.Context,
    all_orders: Annotated[bool, typer.Option("--all", help="Also those that have ended, newest first.")] = False,
    external: Annotated[bool, typer.Option("--external", help="Also open orders placed elsewhere.")] = False,
) -> None:
    """Open orders, or all of the gateway's record."""
    options: Options = context.obj
    with errors_as_exit_codes(options.as_json):
        with gateway(options) as connected:
            if all_orders:
                found = list(connected.orders.ListOrders(pb.ListOrdersRequest(page_size=1000)).orders)
            else:
                found = list(
                    connected.orders.ListOpenOrders(pb.ListOpenOrdersRequest(include_external=external)).orders
                )
        _show(options, "Orders" if all_orders else "Open orders", found)


@orders.command()
def events(
    context: typer.Context,
    after: Annotated[int, typer.Option(help="Only events after this sequence.")] = 0,
    order: Annotated[str, typer.Option(help="Only of this client_order_id.")] = "",
    follow: Annotated[bool, typer.Option("--follow", "-f", help="Go on with live events until Ctrl-C.")] = False,
) -> None:
    """The story of the orders, from the record."""
    options: Options = context.obj
    heartbeat = pb.StreamOrderEventsRequest(resume_after_sequence=after, client_order_id=order)
    heartbeat.heartbeat_interval.seconds = 1
    with errors_as_exit_codes(options.as_json), gateway(options) as connected:
        for response in connected.orders.StreamOrderEvents(heartbeat):
            for event in response.events:
                if not event.HasField("heartbeat"):
                    _tell(options, event)
                elif not follow:
                    # Everything recorded comes before the first heartbeat.
                    return


def _tell(options: Options, event: pb.OrderEvent) -> None:
    if options.as_json:
        print_json(event)
    else:
        from ibkr_gateway_cli.render import event_line

        console().print(event_line(event))


def _spec(side: str, quantity: str, instrument: str, limit: str, tif: str, account_id: str) -> pb.OrderSpec:
    """The terms as typed. Raises ValueError for what is not even a term."""
    if side.upper() not in ("BUY", "SELL"):
        raise ValueError(f"side {side!r} is neither buy nor sell")
    if f"TIME_IN_FORCE_{tif.upper()}" not in pb.TimeInForce.keys():  # noqa: SIM118 - protobuf's enum wrapper is no mapping
        raise ValueError(f"time in force {tif!r} is not one of DAY, GTC, IOC, FOK, OPG")
    try:
        amount, limit_price = decimal_text(quantity), decimal_text(limit) if limit else None
    except ArithmeticError:
        raise ValueError(f"{quantity!r} or {limit!r} is not a decimal number") from None
    return pb.OrderSpec(
        account_id=account_id,
        instrument=parse_instrument(instrument),
        side=common_pb2.Side.Value(f"SIDE_{side.upper()}"),
        order_type=pb.ORDER_TYPE_LMT if limit else pb.ORDER_TYPE_MKT,
        time_in_force=pb.TimeInForce.Value(f"TIME_IN_FORCE_{tif.upper()}"),
        quantity=amount,
        limit_price=limit_price,
    )


def _key(text: str) -> pb.OrderKey:
    return (
        pb.OrderKey(order_id=int(text))
        if text.isascii() and text.isdigit() and len(text) < 12
        else pb.OrderKey(client_order_id=text)
    )


def _ask() -> None:
    """Have a person agree; without one at a terminal nothing is placed."""
    if not sys.stdin.isatty():
        console(to_stderr=True).print("Nothing was placed: there is no terminal to ask at; give --yes.")
        raise typer.Exit(USAGE)
    if not typer.confirm("Place this order?", err=True):
        console(to_stderr=True).print("Nothing was placed.")
        raise typer.Exit(ERROR)


def _remember(key: str, spec: pb.OrderSpec) -> None:
    """Write the id down before the order leaves, so that it can be repeated whatever happens to this program."""
    state = Path(os.environ.get("XDG_STATE_HOME") or Path.home() / ".local" / "state") / "ibkr-gateway"
    state.mkdir(parents=True, exist_ok=True)
    with (state / "orders.jsonl").open("a") as file:
        file.write(json.dumps({"client_order_id": key, "order": str(spec).replace("\n", " ")}) + "\n")


def _show(options: Options, title: str, found: list[pb.OrderStatus]) -> None:
    if options.as_json:
        for order in found:
            print_json(order)
    else:
        from ibkr_gateway_cli.render import orders_table

        console().print(orders_table(title, found))


def _show_preview(options: Options, shown: pb.OrderPreview) -> None:
    if options.as_json:
        print_json(shown)
    else:
        from ibkr_gateway_cli.render import preview_table

        console().print(preview_table(shown))
