"""Orders: preview, place, cancel, status, list, events; `order_changes` and `order_watch` have the others."""

from __future__ import annotations

import json
import os
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Annotated

import typer
from ibkr_gateway import new_client_order_id
from ibkr_gateway.v1 import orders_service_pb2 as pb

from ibkr_gateway_cli.order_terms import EXAMPLES, with_terms
from ibkr_gateway_cli.session import (
    REFUSED,
    Options,
    confirm,
    console,
    errors_as_exit_codes,
    gateway,
    print_json,
)

orders = typer.Typer(no_args_is_help=True, help="Preview, place, cancel and follow orders.")

Terms = Callable[[], pb.OrderSpec]
YesOption = Annotated[bool, typer.Option("--yes", "-y", help="Do not ask.")]
KeyOption = Annotated[
    str,
    typer.Option("--client-order-id", help="Repeat an order whose fate is not known: the same id is one order."),
]
TransmitOption = Annotated[
    bool, typer.Option("--require-transmit", help="Fail instead of SIMULATED when orders are disabled.")
]
TokenOption = Annotated[
    str, typer.Option("--preview-token", help="From preview --json: refuse unless this is exactly the order previewed.")
]
KeyArgument = Annotated[str, typer.Argument(help="client_order_id, or IBKR's order id.")]


@orders.command(epilog=EXAMPLES)
@with_terms
def preview(context: typer.Context, spec: Terms) -> None:
    """What an order would cost and need (SAFE: nothing is sent that could trade)."""
    options: Options = context.obj
    with errors_as_exit_codes(options.as_json):
        asked = pb.PreviewOrderRequest(order=spec())
        with gateway(options) as connected:
            answer = connected.orders.PreviewOrder(asked)
        _show_preview(options, answer.preview)


@orders.command(epilog=EXAMPLES)
@with_terms
def place(
    context: typer.Context,
    spec: Terms,
    yes: YesOption = False,
    client_order_id: KeyOption = "",
    require_transmit: TransmitOption = False,
    preview_token: TokenOption = "",
) -> None:
    """Place an order (SAFE BY DEFAULT: with ORDERS_ENABLED=false it is SIMULATED). Shows the preview and asks first."""
    options: Options = context.obj
    with errors_as_exit_codes(options.as_json):
        request = pb.PlaceOrderRequest(
            client_order_id=client_order_id,
            order=spec(),
            require_transmit=require_transmit,
            preview_token=preview_token,
        )
        _place(options, request, ask=not yes)


@orders.command(epilog=EXAMPLES)
@partial(with_terms, order_type="BRACKET")
def bracket(
    context: typer.Context,
    spec: Terms,
    yes: YesOption = False,
    client_order_id: KeyOption = "",
    require_transmit: TransmitOption = False,
    preview_token: TokenOption = "",
) -> None:
    """Place an entry with its take-profit and stop-loss, as one (SAFE BY DEFAULT, as place).

    It needs --take-profit and --stop-loss; without --limit it enters at the market. When one exit fills, the other is
    cancelled; nothing of it works before all three are there.
    """
    options: Options = context.obj
    with errors_as_exit_codes(options.as_json):
        request = pb.PlaceOrderRequest(
            client_order_id=client_order_id,
            order=spec(),
            require_transmit=require_transmit,
            preview_token=preview_token,
        )
        _place(options, request, ask=not yes)


def _place(options: Options, request: pb.PlaceOrderRequest, *, ask: bool) -> None:
    """Show what the order would do and ask, then place it."""
    with gateway(options) as connected:
        if ask:
            shown = connected.orders.PreviewOrder(pb.PreviewOrderRequest(order=request.order)).preview
            _show_preview(options, shown)
            confirm("Place this order?", "Nothing was placed")
        request.client_order_id = request.client_order_id or new_client_order_id()
        remember(request.client_order_id, request.order)
        if not options.as_json:
            console(to_stderr=True).print(
                f"client_order_id {request.client_order_id}  (repeat it to retry; it is never sent twice)"
            )
        result = connected.orders.PlaceOrder(request).result
    if options.as_json:
        print_json(result)
    else:
        show(options, "Order", list(result.legs))
    if result.state == pb.ORDER_STATE_REJECTED:
        raise typer.Exit(REFUSED)


@orders.command()
def cancel(context: typer.Context, order: KeyArgument) -> None:
    """Cancel an order. Repeating it is harmless."""
    options: Options = context.obj
    with errors_as_exit_codes(options.as_json):
        with gateway(options) as connected:
            answer = connected.orders.CancelOrder(pb.CancelOrderRequest(order=order_key(order)))
        show(options, "Order", list(answer.legs) or [answer.status])


@orders.command()
def status(context: typer.Context, order: KeyArgument) -> None:
    """Where an order stands, each leg of it."""
    options: Options = context.obj
    with errors_as_exit_codes(options.as_json):
        with gateway(options) as connected:
            known = connected.orders.GetOrder(pb.GetOrderRequest(order=order_key(order))).order
        show(options, "Order", list(known.legs))


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
        show(options, "Orders" if all_orders else "Open orders", found)


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
                    tell(options, event)
                elif not follow:
                    # Everything recorded comes before the first heartbeat.
                    return


def tell(options: Options, event: pb.OrderEvent) -> None:
    """Print one event."""
    if options.as_json:
        print_json(event)
    else:
        from ibkr_gateway_cli.render import event_line

        console().print(event_line(event))


def order_key(text: str) -> pb.OrderKey:
    """The order that a person means: digits are IBKR's order id."""
    return (
        pb.OrderKey(order_id=int(text))
        if text.isascii() and text.isdigit() and len(text) < 12
        else pb.OrderKey(client_order_id=text)
    )


def remember(key: str, spec: pb.OrderSpec, modify_id: str = "") -> None:
    """Write the id down before the order, or its change, leaves, so that it can be repeated whatever happens to this
    program."""
    state = Path(os.environ.get("XDG_STATE_HOME") or Path.home() / ".local" / "state") / "ibkr-gateway"
    state.mkdir(parents=True, exist_ok=True)
    with (state / "orders.jsonl").open("a") as file:
        ids = {"client_order_id": key} | ({"modify_id": modify_id} if modify_id else {})
        file.write(json.dumps({**ids, "order": str(spec).replace("\n", " ")}) + "\n")


def show(options: Options, title: str, found: list[pb.OrderStatus]) -> None:
    """Print orders as a table, or as JSON."""
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
        from ibkr_gateway_cli.render import legs_table, preview_table

        if len(shown.legs) > 1:
            console().print(legs_table(shown))
        console().print(preview_table(shown))
