"""Quotes and bars."""

from __future__ import annotations

from typing import Annotated

import typer
from ibkr_gateway import bar_size, duration, parse_instrument
from ibkr_gateway.v1 import market_data_service_pb2 as pb

from ibkr_gateway_cli import history
from ibkr_gateway_cli.session import NOT_FOUND, Options, console, errors_as_exit_codes, gateway, print_json
from ibkr_gateway_cli.times import set_span

Instruments = Annotated[list[str], typer.Argument(help="AAPL, MES:FUT, SPX:IND, EUR.USD, or a contract id")]


def quote(
    context: typer.Context,
    instruments: Instruments,
    watch: Annotated[bool, typer.Option("--watch", "-w", help="Stream and redraw until Ctrl-C.")] = False,
    count: Annotated[int, typer.Option(min=0, help="With --watch: end after so many updates; 0: never.")] = 0,
) -> None:
    """Show quotes, once or live. A future without an expiry is its front month."""
    options: Options = context.obj
    with errors_as_exit_codes(options.as_json):
        wanted = [parse_instrument(text) for text in instruments]
        if watch:
            _watch(options, instruments, pb.StreamQuotesRequest(instruments=wanted), count)
            return
        with gateway(options) as connected:
            answer = connected.market_data.GetQuotes(pb.GetQuotesRequest(instruments=wanted))
        if options.as_json:
            for result in answer.results:
                print_json(result)
        else:
            from ibkr_gateway_cli.render import quotes_table

            rows = [
                (text, result.quote if result.HasField("quote") else None, result.error.message)
                for text, result in zip(instruments, answer.results, strict=True)
            ]
            console().print(quotes_table(rows))
        if not any(result.HasField("quote") for result in answer.results):
            raise typer.Exit(NOT_FOUND)


def _watch(options: Options, labels: list[str], request: pb.StreamQuotesRequest, count: int) -> None:
    from rich.live import Live

    from ibkr_gateway_cli.render import quotes_table

    quotes: dict[int, pb.Quote] = {}
    remarks: dict[int, str] = {}
    updates = 0
    out = console()
    with gateway(options) as connected, Live(console=out, auto_refresh=False, transient=False) as live:
        for response in connected.market_data.StreamQuotes(request):
            for event in response.events:
                if options.as_json:
                    live.stop()
                    print_json(event)
                _note(event, quotes, remarks)
                updates += event.HasField("quote")
            if not options.as_json and out.is_terminal:
                rows = [(label, quotes.get(index), remarks.get(index, "")) for index, label in enumerate(labels)]
                live.update(quotes_table(rows), refresh=True)
            if count and updates >= count:
                break
        if not options.as_json and not out.is_terminal:
            rows = [(label, quotes.get(index), remarks.get(index, "")) for index, label in enumerate(labels)]
            out.print(quotes_table(rows))


def _note(event: pb.QuoteEvent, quotes: dict[int, pb.Quote], remarks: dict[int, str]) -> None:
    """Keep what an event says, and take back what it ends."""
    kind, index = event.WhichOneof("event"), event.instrument_index
    if kind == "quote":
        quotes[index] = event.quote
        remarks.pop(index, None)
    elif kind == "gap":
        remarks[index] = f"gap: {event.gap.reason}"
    elif kind == "stale":
        remarks[index] = "stale"
    elif kind == "error":
        remarks[index] = event.error.message


def bars(
    context: typer.Context,
    instrument: Annotated[str, typer.Argument(help="AAPL, MES:FUT, SPX:IND, EUR.USD, or a contract id")],
    size: Annotated[str, typer.Option("--size", "-s", help='Width of a bar: "5 mins", "1 hour", "1 day".')] = "1 day",
    span: Annotated[str, typer.Option("--duration", "-d", help='How far back: "1 D", "1 W", "1 M", "1 Y".')] = "1 M",
    show: Annotated[str, typer.Option("--show", help="TRADES, MIDPOINT, BID, ASK; by default what is usual.")] = "",
    all_hours: Annotated[bool, typer.Option("--all-hours", help="Also outside regular trading hours.")] = False,
    start: Annotated[str, typer.Option("--start", help="From this time on, however long: 2026-01-02, UTC.")] = "",
    end: Annotated[str, typer.Option("--end", help="With --start: only before this time; by default now.")] = "",
    resume: Annotated[str, typer.Option("--resume", help="With --start: the token where an earlier run ended.")] = "",
    as_csv: Annotated[bool, typer.Option("--csv", help="Comma-separated; with a header line unless resumed.")] = False,
) -> None:
    """Show historical bars, oldest first; with --start any length, in slices, as fast as IBKR's pacing allows."""
    options: Options = context.obj
    with errors_as_exit_codes(options.as_json):
        if (end or resume) and not start:
            raise ValueError("--end and --resume belong to --start")
        name = f"WHAT_TO_SHOW_{show.upper() or 'UNSPECIFIED'}"
        if name not in pb.WhatToShow.keys():  # noqa: SIM118 - protobuf's enum wrapper is no mapping
            raise ValueError(f"--show {show} is not one of TRADES, MIDPOINT, BID, ASK, BID_ASK, ADJUSTED_LAST")
        target = history.sink(options, parse_instrument(instrument), as_csv=as_csv, goes_on=bool(resume))
        if start:
            long_request = pb.StreamHistoricalBarsRequest(
                instrument=parse_instrument(instrument),
                bar_size=bar_size(size),
                what_to_show=pb.WhatToShow.Value(name),
                regular_hours_only=not all_hours,
                resume_token=resume,
            )
            set_span(long_request, start, end)
            with gateway(options) as connected:
                history.stream(options, connected, long_request, target)
            return
        request = pb.GetHistoricalBarsRequest(
            instrument=parse_instrument(instrument),
            bar_size=bar_size(size),
            duration=duration(span),
            what_to_show=pb.WhatToShow.Value(name),
            regular_hours_only=not all_hours,
        )
        with gateway(options) as connected:
            answer = connected.market_data.GetHistoricalBars(request)
        if isinstance(target, history.Rows):
            from ibkr_gateway_cli.render import bars_table

            console().print(bars_table(answer))
        else:
            target.take(answer.bars)
