"""Quotes, books and bars."""

from __future__ import annotations

import math
import time
from collections.abc import Iterable, Iterator
from typing import Annotated

import typer
from ibkr_gateway import SyncGateway, bar_size, duration, parse_instrument
from ibkr_gateway.v1 import market_data_service_pb2 as pb

from ibkr_gateway_cli import history
from ibkr_gateway_cli.live import LEAST_INTERVAL_MS, CountOption, WatchOption, follow
from ibkr_gateway_cli.session import NOT_FOUND, Options, console, errors_as_exit_codes, gateway, print_json
from ibkr_gateway_cli.times import set_span

PLOTS = ("candles", "line")
PIPE_COLUMNS = 80
# As long as a snapshot may take (GetQuote).
BOOK_S = 11.0
# How long a book that lacks rows may still get them.
SETTLE_S = 1.0

Instruments = Annotated[list[str], typer.Argument(help="AAPL, MES:FUT, SPX:IND, EUR.USD, or a contract id")]


def quote(
    context: typer.Context,
    instruments: Instruments,
    watch: WatchOption = False,
    count: CountOption = 0,
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
    """Follow quotes; ends with NOT_FOUND once every instrument has failed."""
    from ibkr_gateway_cli.market_views import QuotesView

    view = QuotesView(labels)
    if not options.as_json and console().is_terminal:
        request.min_interval.FromMilliseconds(LEAST_INTERVAL_MS)

    def responses(connected: SyncGateway) -> Iterator[pb.StreamQuotesResponse]:
        for response in connected.market_data.StreamQuotes(request):
            yield response
            if view.is_over:
                return

    with gateway(options) as connected:
        follow(options, responses(connected), view, count)
    if view.is_over:
        raise typer.Exit(NOT_FOUND)


def depth(
    context: typer.Context,
    instrument: Annotated[str, typer.Argument(help="AAPL, MES:FUT, EUR.USD, or a contract id")],
    rows: Annotated[int, typer.Option("--rows", "-n", min=1, max=20, help="Rows on each side.")] = 5,
    watch: WatchOption = False,
    count: CountOption = 0,
) -> None:
    """Show an order book, once or live. A stock's is that of all exchanges together."""
    options: Options = context.obj
    with errors_as_exit_codes(options.as_json):
        request = pb.StreamMarketDepthRequest(instrument=parse_instrument(instrument), row_count=rows)
        from ibkr_gateway_cli.market_views import DepthView, depth_table

        with gateway(options) as connected:
            if watch:
                stream = connected.market_data.StreamMarketDepth(request)
                follow(options, stream, DepthView(instrument, rows), count)
                return
            request.heartbeat_interval.FromSeconds(1)
            book = _first_book(connected.market_data.StreamMarketDepth(request, timeout=BOOK_S), rows)
        if options.as_json:
            print_json(book)
        else:
            out = console()
            out.print(depth_table(instrument, book, rows, out.width if out.is_terminal else PIPE_COLUMNS))


def _first_book(responses: Iterable[pb.StreamMarketDepthResponse], rows: int) -> pb.MarketDepth:
    """The first book with all its rows, or what there is of it some time after its first: IBKR tells row by row.

    Needs heartbeats. Raises TimedOut where there was none, and what else the stream ends with.
    """
    book, settled_at = pb.MarketDepth(), math.inf
    for response in responses:
        for event in response.events:
            if event.HasField("depth"):
                book = event.depth
        has_rows = bool(book.bids or book.asks)
        settled_at = min(settled_at, time.monotonic() + SETTLE_S) if has_rows else math.inf
        if min(len(book.bids), len(book.asks)) >= rows or time.monotonic() >= settled_at:
            break
    return book


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
    plot: Annotated[
        str, typer.Option("--plot", metavar="[candles|line]", help="Draw them: candles, which --plot alone means.")
    ] = "",
    width: Annotated[
        int | None, typer.Option("--width", min=20, max=500, help="Columns of the drawing; by default the terminal's.")
    ] = None,
) -> None:
    """Show historical bars, oldest first, as a table or drawn; with --start any length, in slices, as fast as IBKR's
    pacing allows."""
    options: Options = context.obj
    with errors_as_exit_codes(options.as_json):
        if (end or resume) and not start:
            raise ValueError("--end and --resume belong to --start")
        if plot not in ("", *PLOTS):
            raise ValueError(f"--plot {plot} is neither {' nor '.join(PLOTS)}")
        if plot and (start or as_csv):
            raise ValueError("--plot draws what --size and --duration ask for; it goes with neither --start nor --csv")
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
        if plot and not options.as_json:
            from ibkr_gateway_cli.plots import bars_plot

            out = console()
            # A pipe has no width of its own; 80 columns fit everywhere.
            out.print(bars_plot(answer, plot, width or (out.width if out.is_terminal else PIPE_COLUMNS)))
        elif isinstance(target, history.Rows):
            from ibkr_gateway_cli.render import bars_table

            console().print(bars_table(answer))
        else:
            target.take(answer.bars)
