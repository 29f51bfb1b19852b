"""Changes of orders that are there: new prices or another quantity, and the cancel of all of them."""

from __future__ import annotations

import json
from typing import Annotated

import typer
from ibkr_gateway import new_client_order_id
from ibkr_gateway.v1 import orders_service_pb2 as pb

from ibkr_gateway_cli.order_terms import decimal_term
from ibkr_gateway_cli.orders import YesOption, order_key, remember, show
from ibkr_gateway_cli.session import (
    ERROR,
    REFUSED,
    Options,
    confirm,
    console,
    dictionary,
    errors_as_exit_codes,
    gateway,
    print_json,
)

KeyArgument = Annotated[str, typer.Argument(metavar="CLIENT_ORDER_ID", help="Or IBKR's order id.")]
ModifyIdOption = Annotated[
    str, typer.Option("--modify-id", help="Repeat a change whose fate is not known: the same id is one change.")
]

# The term that each figure of a leg's status is, by the leg's part.
_ENTRY = {name: name for name in ("quantity", "limit_price", "stop_price", "trailing_amount", "trailing_percent")}
_NAMES: dict[int, dict[str, str]] = {
    pb.LEG_ROLE_UNSPECIFIED: _ENTRY,
    pb.LEG_ROLE_ENTRY: _ENTRY,
    pb.LEG_ROLE_TAKE_PROFIT: {"take_profit_price": "limit_price"},
    pb.LEG_ROLE_STOP_LOSS: {"stop_loss_price": "stop_price", "stop_loss_limit_price": "limit_price"},
}


def modify(
    context: typer.Context,
    order: KeyArgument,
    quantity: Annotated[str, typer.Option("--quantity", "-q", help="Units, with what has filled.")] = "",
    limit: Annotated[str, typer.Option("--limit", "-l", help="Limit price; of a bracket its entry's.")] = "",
    stop: Annotated[str, typer.Option("--stop", "-s", help="Stop price, or the price to be touched.")] = "",
    trail: Annotated[str, typer.Option("--trail", help="Trailing distance as a price.")] = "",
    trail_percent: Annotated[str, typer.Option("--trail-percent", help="Trailing distance in percent.")] = "",
    trail_stop: Annotated[str, typer.Option("--trail-stop", help="First stop of a trailing order.")] = "",
    offset: Annotated[str, typer.Option("--offset", help="Distance of a TRAIL_LIMIT's or REL's limit.")] = "",
    take_profit: Annotated[str, typer.Option("--take-profit", help="Of a bracket: where to take the profit.")] = "",
    stop_loss: Annotated[str, typer.Option("--stop-loss", help="Of a bracket: where to stop the loss.")] = "",
    stop_loss_limit: Annotated[str, typer.Option("--stop-loss-limit", help="Of a bracket: its stop-limit's.")] = "",
    modify_id: ModifyIdOption = "",
    yes: YesOption = False,
) -> None:
    """Change prices or quantity of a working order. Shows before and after, and asks first.

    The order's terms as they are now are restated with what is given here; everything else stays.
    """
    options: Options = context.obj
    given = {
        "quantity": quantity,
        "limit_price": limit,
        "stop_price": stop,
        "trailing_amount": trail,
        "trailing_percent": trail_percent,
        "trail_stop_price": trail_stop,
        "limit_offset": offset,
        "take_profit_price": take_profit,
        "stop_loss_price": stop_loss,
        "stop_loss_limit_price": stop_loss_limit,
    }
    with errors_as_exit_codes(options.as_json):
        wanted = {name: decimal_term(name, text) for name, text in given.items() if text}
        if not wanted:
            raise ValueError("nothing to change: give a price or a quantity, as --limit 187.40")
        with gateway(options) as connected:
            known = connected.orders.GetOrder(pb.GetOrderRequest(order=order_key(order))).order
            if not known.HasField("spec"):
                raise ValueError(f"order {order} was placed elsewhere; it is changed there")
            before = terms_now(known)
            request = pb.ModifyOrderRequest(client_order_id=known.status.client_order_id, modify_id=modify_id)
            request.order.CopyFrom(before)
            for name, text in wanted.items():
                setattr(request.order, name, text)
            _show_change(options, before, request.order)
            if not yes:
                confirm("Change this order?", "Nothing was changed")
            request.modify_id = modify_id or new_client_order_id()
            remember(request.client_order_id, request.order, request.modify_id)
            if not options.as_json:
                console(to_stderr=True).print(
                    f"modify_id {request.modify_id}  (repeat the command with --modify-id to retry; it is sent once)"
                )
            result = connected.orders.ModifyOrder(request).result
        if options.as_json:
            print(json.dumps({"modify_id": request.modify_id, **dictionary(result)}))
        else:
            show(options, "Order", list(result.legs))
        if result.state == pb.ORDER_STATE_REJECTED:
            raise typer.Exit(REFUSED)


def terms_now(known: pb.Order) -> pb.OrderSpec:
    """The terms as placed, with the prices and the quantity that the legs have by now.

    A trailing order's first stop and limit offset are of the terms as placed: no status tells them.
    """
    made = pb.OrderSpec()
    made.CopyFrom(known.spec)
    for leg in known.legs or [known.status]:
        for name, told in _NAMES[leg.leg_role].items():
            # What the order was placed without is IBKR's own figure, not a term: a trailing stop as it moves.
            if getattr(made, name) and getattr(leg, told):
                setattr(made, name, getattr(leg, told))
    return made


def cancel_all(
    context: typer.Context,
    account_id: Annotated[
        str, typer.Option("--account", "-a", help="All of this gateway's in this account, whoever placed them.")
    ] = "",
    everything: Annotated[
        bool, typer.Option("--global", help="All of the login, also those placed in TWS (needs the scope admin).")
    ] = False,
    yes: YesOption = False,
) -> None:
    """Cancel all open orders that you placed. Shows what is open and asks first; tells each order's fate.

    Exit code 1 when an order could not be cancelled.
    """
    options: Options = context.obj
    with errors_as_exit_codes(options.as_json):
        if account_id and everything:
            raise ValueError("--account and --global exclude each other")
        scope = pb.CANCEL_SCOPE_GLOBAL if everything else pb.CANCEL_SCOPE_OWN
        scope = pb.CANCEL_SCOPE_ACCOUNT if account_id else scope
        with gateway(options) as connected:
            # Not with --yes: that the list cannot be had now must not keep anyone from the cancel.
            if not yes:
                asked = pb.ListOpenOrdersRequest(include_external=everything, account_id=account_id)
                _show_open(options, list(connected.orders.ListOpenOrders(asked).orders))
                confirm(f"Cancel {_whose(account_id, everything)}?", "Nothing was cancelled")
            answer = connected.orders.CancelAllOrders(pb.CancelAllOrdersRequest(scope=scope, account_id=account_id))
        if options.as_json:
            print_json(answer)
        else:
            from ibkr_gateway_cli.render_orders import cancels_table

            console().print(cancels_table(answer))
        if any(result.HasField("error") for result in answer.results):
            raise typer.Exit(ERROR)


def _whose(account_id: str, everything: bool) -> str:
    if everything:
        return "every order of the login, also those placed in TWS"
    return f"all of this gateway in {account_id}" if account_id else "those of them that you placed"


def _show_open(options: Options, found: list[pb.OrderStatus]) -> None:
    """Beside the question; stdout is for what the command answers."""
    from ibkr_gateway_cli.render import orders_table

    console(to_stderr=options.as_json).print(orders_table("Open orders", found))


def _show_change(options: Options, before: pb.OrderSpec, after: pb.OrderSpec) -> None:
    from ibkr_gateway_cli.render_orders import change_table

    console(to_stderr=options.as_json).print(change_table(before, after))
