"""The demo: a server on the simulator, live quotes, bars, the account, and an order's whole story."""

from __future__ import annotations

import os
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Annotated

import typer
from ibkr_gateway import (
    SyncGateway,
    Unavailable,
    bar_size,
    connect_sync,
    duration,
    forex,
    future,
    index,
    new_client_order_id,
    stock,
)
from ibkr_gateway.v1 import account_service_pb2, common_pb2, gateway_service_pb2, market_data_service_pb2
from ibkr_gateway.v1 import orders_service_pb2 as orders_pb
from rich.console import Console
from rich.live import Live
from rich.panel import Panel

from ibkr_gateway_cli import render
from ibkr_gateway_cli.session import ERROR, console, errors_as_exit_codes

INSTRUMENTS = {
    "AAPL": stock("AAPL"),
    "MSFT": stock("MSFT"),
    "SPY": stock("SPY"),
    "MES": future("MES"),
    "EUR.USD": forex("EUR.USD"),
    "SPX": index("SPX"),
}
START_TIMEOUT_S = 30.0
FILL_TIMEOUT_S = 10.0

NEXT_STEPS = """\
Start a server of your own on the simulator:   ibkr-gateway serve --mode simulation
Ask it, in another terminal:                   ibkr-gateway quote AAPL MES:FUT --watch
                                               ibkr-gateway order place buy 10 AAPL --limit 150
Point it at your paper IB Gateway:             README, "Your own paper account"
"""


def demo(
    seconds: Annotated[float, typer.Option(min=1, max=600, help="How long to stream quotes.")] = 5.0,
) -> None:
    """Show everything once, on the simulator: no account is needed and nothing real is touched."""
    out = console()
    out.print(
        Panel(
            "ibkr-gateway on its own simulator: no account, no real orders, whatever the environment says.",
            expand=False,
        )
    )
    with errors_as_exit_codes(as_json=False), _server() as target, connect_sync(target) as gateway:
        _wait_until_ready(gateway)
        _stream_quotes(out, gateway, seconds)
        _show_bars(out, gateway)
        _show_account(out, gateway)
        _trade(out, gateway)
    out.print(Panel(NEXT_STEPS.rstrip(), title="Next steps", title_align="left", expand=False))


@contextmanager
def _server() -> Iterator[str]:
    """A server with the simulator on free ports and a record of its own; gone with the demo."""
    with tempfile.TemporaryDirectory(prefix="ibkr-gateway-demo-") as folder:
        # Nothing of the caller's settings may reach it: the demo must never touch an account.
        kept = ("PATH", "HOME", "LANG", "LC_ALL", "SYSTEMROOT", "VIRTUAL_ENV")
        environment = {name: os.environ[name] for name in kept if name in os.environ}
        record = str(Path(folder) / "audit.db")
        command = [sys.executable, "-m", "ibkr_gateway_server", "--mode", "simulation", "--port", "0"]
        command += ["--audit-db", record, "--log-level", "WARNING", "--log-format", "text"]
        process = subprocess.Popen(command, stdout=subprocess.PIPE, text=True, env=environment, cwd=folder)
        try:
            assert process.stdout is not None
            line = process.stdout.readline()
            if not line.startswith("listening on "):
                console(to_stderr=True).print("the server did not start; what it said is above")
                raise typer.Exit(ERROR)
            yield line.removeprefix("listening on ").strip()
        finally:
            process.terminate()
            process.wait(timeout=30)


def _wait_until_ready(gateway: SyncGateway) -> None:
    deadline = time.monotonic() + START_TIMEOUT_S
    for response in gateway.gateway.WatchSession(
        gateway_service_pb2.WatchSessionRequest(), timeout=deadline - time.monotonic()
    ):
        if response.HasField("status") and response.status.state == common_pb2.SESSION_STATE_READY:
            return


def _stream_quotes(out: Console, gateway: SyncGateway, seconds: float) -> None:
    """A table that follows the market; without a terminal its last state is printed once."""
    request = market_data_service_pb2.StreamQuotesRequest(instruments=INSTRUMENTS.values())
    labels, updates = list(INSTRUMENTS), 0
    quotes: dict[int, market_data_service_pb2.Quote] = {}
    end = time.monotonic() + seconds

    def view() -> Panel:
        rows = [(label, quotes.get(position), "waiting") for position, label in enumerate(labels)]
        shown = [(label, quote, "" if quote else remark) for label, quote, remark in rows]
        return Panel(
            render.quotes_table(shown), title=f"Live quotes, {updates} updates", title_align="left", expand=False
        )

    with Live(view(), console=out, auto_refresh=False, transient=not out.is_terminal) as live:
        for response in gateway.market_data.StreamQuotes(request):
            for event in response.events:
                if event.HasField("quote"):
                    quotes[event.instrument_index] = event.quote
                    updates += 1
            if out.is_terminal:
                live.update(view(), refresh=True)
            if time.monotonic() > end:
                break
    if not out.is_terminal:
        out.print(view())


def _show_bars(out: Console, gateway: SyncGateway) -> None:
    request = market_data_service_pb2.GetHistoricalBarsRequest(
        instrument=stock("AAPL"), bar_size=bar_size("1 day"), duration=duration("1 W"), regular_hours_only=True
    )
    out.print(
        Panel(
            render.bars_table(gateway.market_data.GetHistoricalBars(request)),
            title="Daily bars",
            title_align="left",
            expand=False,
        )
    )


def _show_account(out: Console, gateway: SyncGateway) -> None:
    answer = gateway.account.GetAccountStatus(account_service_pb2.GetAccountStatusRequest())
    out.print(Panel(render.summary_table(answer.summary), title="Account", title_align="left", expand=False))
    out.print(Panel(render.positions_table(answer.positions), title="Positions", title_align="left", expand=False))


def _trade(out: Console, gateway: SyncGateway) -> None:
    """Preview, fill a market order, rest and cancel a limit order, then tell both stories from the record."""
    market = _order("10", orders_pb.ORDER_TYPE_MKT)
    preview = gateway.orders.PreviewOrder(orders_pb.PreviewOrderRequest(order=market)).preview
    out.print(Panel(render.preview_table(preview), title="Preview", title_align="left", expand=False))
    bought = _place(gateway, market)
    filled = _wait_for(gateway, bought, orders_pb.ORDER_STATE_FILLED)
    far_price = f"{preview.quote.last_price * 0.5:.2f}"
    rested = _place(gateway, _order("10", orders_pb.ORDER_TYPE_LMT, far_price))
    key = orders_pb.OrderKey(client_order_id=rested)
    gateway.orders.CancelOrder(orders_pb.CancelOrderRequest(order=key))
    cancelled = _wait_for(gateway, rested, orders_pb.ORDER_STATE_CANCELLED)
    out.print(Panel(render.orders_table("", [filled, cancelled]), title="Two orders", title_align="left", expand=False))
    _tell_events(out, gateway, (bought, rested))


def _order(
    quantity: str, order_type: orders_pb.OrderType.ValueType, limit_price: str | None = None
) -> orders_pb.OrderSpec:
    return orders_pb.OrderSpec(
        instrument=stock("AAPL"),
        side=common_pb2.SIDE_BUY,
        quantity=quantity,
        order_type=order_type,
        limit_price=limit_price,
    )


def _place(gateway: SyncGateway, spec: orders_pb.OrderSpec) -> str:
    key = new_client_order_id()
    request = orders_pb.PlaceOrderRequest(client_order_id=key, order=spec)
    try:
        gateway.orders.PlaceOrder(request)
    except Unavailable:
        # Safe whatever happened: the same id is the same order.
        gateway.orders.PlaceOrder(request)
    return key


def _wait_for(gateway: SyncGateway, key: str, state: orders_pb.OrderState.ValueType) -> orders_pb.OrderStatus:
    request = orders_pb.StreamOrderEventsRequest(resume_after_sequence=0, client_order_id=key)
    for response in gateway.orders.StreamOrderEvents(request, timeout=FILL_TIMEOUT_S):
        for event in response.events:
            if event.HasField("status") and event.status.state == state:
                return event.status
    raise AssertionError("unreachable: the stream ends by its deadline")


def _tell_events(out: Console, gateway: SyncGateway, keys: tuple[str, ...]) -> None:
    from rich.console import Group
    from rich.text import Text

    lines: list[Text] = []
    for key in keys:
        lines.append(Text(f"order {key}", style="bold"))
        request = orders_pb.StreamOrderEventsRequest(resume_after_sequence=0, client_order_id=key)
        request.heartbeat_interval.seconds = 1
        for response in gateway.orders.StreamOrderEvents(request):
            events = [event for event in response.events if not event.HasField("heartbeat")]
            lines += [render.event_line(event) for event in events]
            if len(events) < len(response.events):
                break
    out.print(Panel(Group(*lines), title="Their events, from the record", title_align="left", expand=False))
