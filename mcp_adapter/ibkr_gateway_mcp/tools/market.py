"""Quotes and bars."""

from __future__ import annotations

import asyncio
from typing import Annotated, Literal

from ibkr_gateway import AsyncGateway, bar_size, duration, parse_instrument
from ibkr_gateway.v1 import market_data_service_pb2 as pb
from mcp.server.mcpserver import Context, MCPServer
from pydantic import AfterValidator, Field

from ibkr_gateway_mcp.adapter import Adapter
from ibkr_gateway_mcp.answers.market import Bar, Bars, Quote, QuoteResult, Quotes
from ibkr_gateway_mcp.inputs import Rows, SymbolText, Time, flat, timestamp
from ibkr_gateway_mcp.reads import quote
from ibkr_gateway_mcp.refusals import Refusal
from ibkr_gateway_mcp.terms import InstrumentFields
from ibkr_gateway_mcp.tools import READ

LONG_HISTORY_TIMEOUT_S = 600.0
"""Seconds for bars of any period: IBKR's pacing decides how many come in that time."""

WhatToShow = Literal[
    "TRADES",
    "MIDPOINT",
    "BID",
    "ASK",
    "BID_ASK",
    "HISTORICAL_VOLATILITY",
    "OPTION_IMPLIED_VOLATILITY",
    "ADJUSTED_LAST",
]


def _bar_size(text: str) -> str:
    bar_size(text)
    return text


def _duration(text: str) -> str:
    duration(text)
    return text


BarSizeText = Annotated[
    str,
    Field(pattern=r"^[0-9]{1,2} ?[A-Za-z]{1,7}$", description="'5 mins', '1 hour', '1 day'"),
    AfterValidator(_bar_size),
]
DurationText = Annotated[
    str,
    Field(pattern=r"^[0-9]{1,6} ?[A-Za-z]{1,7}$", description="'1 D', '2 W', '6 M', '1 Y'"),
    AfterValidator(_duration),
]


def register(server: MCPServer, adapter: Adapter) -> None:
    """Offer the tools of MarketDataService."""
    gateway = adapter.gateway

    @server.tool(title="Quote", annotations=READ)
    @flat
    async def get_quote(instrument: InstrumentFields) -> Quote:
        """Quote of one instrument: bid, ask, last, sizes, the day's figures, and how fresh they are."""
        return await quote(gateway, instrument.instrument())

    @server.tool(title="Quotes", annotations=READ)
    async def get_quotes(
        symbols: Annotated[
            list[SymbolText],
            Field(min_length=1, max_length=20, description="AAPL, MES:FUT, SPX:IND, EUR.USD, or contract ids"),
        ],
    ) -> Quotes:
        """Quotes of up to 20 instruments; one that fails says why and the others are answered."""
        request = pb.GetQuotesRequest(instruments=[parse_instrument(symbol) for symbol in symbols])
        results = (await gateway.market_data.GetQuotes(request)).results
        return Quotes(results=[QuoteResult.of(each, symbol=name) for name, each in zip(symbols, results, strict=True)])

    @server.tool(title="Historical bars", annotations=READ)
    @flat
    async def get_historical_data(
        instrument: InstrumentFields,
        context: Context,
        bar_size: BarSizeText,
        duration: Annotated[
            DurationText | None, Field(description="How far back from end_time; or give start_time")
        ] = None,
        what_to_show: WhatToShow = "TRADES",
        rth_only: Annotated[bool, Field(description="True: regular trading hours only")] = True,
        start_time: Annotated[Time | None, Field(description="Bars from this moment on, of any length of time")] = None,
        end_time: Annotated[Time | None, Field(description="Missing: now")] = None,
        max_rows: Rows = 200,
    ) -> Bars:
        """Historical bars: of a duration back from end_time (the newest max_rows of them), or from start_time on (the
        first max_rows of them; long periods come slice by slice, with progress). Small bars cost IBKR's pacing."""
        named = instrument.instrument()
        if (duration is None) is (start_time is None):
            raise Refusal("FIELD_INVALID", "give either duration or start_time")
        if start_time is not None:
            request = pb.StreamHistoricalBarsRequest(
                instrument=named,
                bar_size=_size(bar_size),
                what_to_show=_prices(what_to_show),
                regular_hours_only=rth_only,
                start_time=timestamp(start_time),
                end_time=timestamp(end_time),
            )
            return await _long_history(gateway, request, context, max_rows)
        assert duration is not None
        answer = await gateway.market_data.GetHistoricalBars(
            pb.GetHistoricalBarsRequest(
                instrument=named,
                bar_size=_size(bar_size),
                duration=_span(duration),
                what_to_show=_prices(what_to_show),
                regular_hours_only=rth_only,
                end_time=timestamp(end_time),
            )
        )
        return _newest(answer, max_rows)


_size, _span = bar_size, duration


def _prices(name: WhatToShow) -> pb.WhatToShow.ValueType:
    return pb.WhatToShow.Value(f"WHAT_TO_SHOW_{name}")


def _newest(answer: pb.GetHistoricalBarsResponse, limit: int) -> Bars:
    kept = answer.bars[-limit:]
    note = None
    if len(kept) < len(answer.bars):
        note = (
            f"Showing the newest {limit} of {len(answer.bars)} bars. For earlier ones: the same with "
            f"end_time={_start(kept[0])}, or raise max_rows."
        )
    shown = pb.GetHistoricalBarsResponse(
        instrument=answer.instrument, bars=kept, time_zone=answer.time_zone, is_cached=answer.is_cached
    )
    return Bars.of(shown, note=note)


async def _long_history(
    gateway: AsyncGateway, request: pb.StreamHistoricalBarsRequest, context: Context, limit: int
) -> Bars:
    """The first bars of a period, telling how far it is. Raises Refusal when the time for it is over."""
    found: list[pb.Bar] = []
    try:
        async with asyncio.timeout(LONG_HISTORY_TIMEOUT_S):
            async for response in gateway.market_data.StreamHistoricalBars(request):
                found.extend(response.bars)
                done = response.progress
                await context.report_progress(done.completed_count, done.total_count, f"{len(found)} bars")
                if len(found) > limit:
                    break
    except TimeoutError:
        raise Refusal(
            "BROKER_TIMEOUT",
            f"IBKR's pacing gave {len(found)} bars in {LONG_HISTORY_TIMEOUT_S:g} s",
            next_step="ask for a shorter period or wider bars",
        ) from None
    note = None
    if len(found) > limit:
        note = f"Showing the first {limit} bars. For the rest: the same with start_time={_start(found[limit])}."
    return Bars(bars=[Bar.of(bar) for bar in found[:limit]], note=note)


def _start(bar: pb.Bar) -> str:
    return bar.date or str(bar.start_time.ToJsonString())
