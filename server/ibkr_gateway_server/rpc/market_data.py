"""MarketDataService."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator

from ibkr_gateway.v1 import market_data_service_pb2 as pb

from ibkr_gateway_server.broker.history import History
from ibkr_gateway_server.broker.long_history import LongHistory
from ibkr_gateway_server.broker.market_data import MarketData
from ibkr_gateway_server.domain.errors import DomainError
from ibkr_gateway_server.domain.instruments import Instrument
from ibkr_gateway_server.rpc import parse, parse_market_data, present
from ibkr_gateway_server.rpc.calls import Call
from ibkr_gateway_server.rpc.market_data_streams import MarketDataStreams
from ibkr_gateway_server.rpc.quote_frames import QuoteFrames
from ibkr_gateway_server.rpc.status import gateway_error
from ibkr_gateway_server.streams.market_data import MarketDataHub

# IBKR's own snapshot takes up to 11 seconds; a caller who waits longer would not learn more.
QUOTE_TIMEOUT_S = 11.0
MAX_MIN_INTERVAL_S = 60.0


class MarketDataServicer(MarketDataStreams):
    """Quotes and bars; the other streams are those of the class it is made of."""

    def __init__(
        self,
        market_data: MarketData,
        history: History,
        long_history: LongHistory,
        hub: MarketDataHub,
        source: str,
    ) -> None:
        super().__init__(hub, source)
        self._market_data = market_data
        self._history = history
        self._long_history = long_history
        self._frames = QuoteFrames(source)

    async def GetQuote(self, request: pb.GetQuoteRequest, call: Call) -> bytes:
        named = parse.one_instrument(request)
        quote = await self._market_data.snapshot(named, min(call.remaining_s, QUOTE_TIMEOUT_S))
        return self._frames.snapshot(quote)

    async def GetQuotes(self, request: pb.GetQuotesRequest, call: Call) -> pb.GetQuotesResponse:
        wanted = parse.instruments(request.instruments)
        results = await asyncio.gather(*(self._quote_result(named, call) for named in wanted))
        return pb.GetQuotesResponse(results=results)

    async def StreamQuotes(self, request: pb.StreamQuotesRequest, call: Call) -> AsyncIterator[bytes]:
        wanted = parse.instruments(request.instruments)
        heartbeat_s = parse.heartbeat_s(request)
        interval_s = 0.0
        if request.HasField("min_interval"):
            interval_s = parse.seconds(request.min_interval, "min_interval", 0.0, MAX_MIN_INTERVAL_S)
        async with self._hubs.quotes.subscribe(wanted, min_interval_s=interval_s, heartbeat_s=heartbeat_s) as events:
            async for batch in events:
                yield self._frames.frame(batch, call.correlation_id)

    async def GetHistoricalBars(self, request: pb.GetHistoricalBarsRequest, call: Call) -> pb.GetHistoricalBarsResponse:
        bars = await self._history.bars(parse_market_data.bars_request(request), call.remaining_s)
        return pb.GetHistoricalBarsResponse(
            instrument=present.instrument(bars.instrument),
            bars=[present.bar(bar) for bar in bars.bars],
            time_zone=bars.time_zone,
            is_cached=bars.is_cached,
        )

    async def GetHeadTimestamp(self, request: pb.GetHeadTimestampRequest, call: Call) -> pb.GetHeadTimestampResponse:
        named, shown = parse_market_data.head_timestamp_request(request)
        moment = await self._history.head_timestamp(
            named, shown, call.remaining_s, regular_hours_only=request.regular_hours_only
        )
        return pb.GetHeadTimestampResponse(head_time=present.time(moment))

    async def StreamHistoricalBars(
        self, request: pb.StreamHistoricalBarsRequest, _call: Call
    ) -> AsyncIterator[pb.StreamHistoricalBarsResponse]:
        async for part in self._long_history.stream(
            parse_market_data.long_history_request(request), request.resume_token
        ):
            yield pb.StreamHistoricalBarsResponse(
                bars=[present.bar(bar) for bar in part.bars],
                progress=pb.HistoryProgress(
                    completed_count=part.completed_count,
                    total_count=part.total_count,
                    eta=present.duration(part.eta_s),
                    resume_token=part.resume_token,
                ),
            )

    async def GetMarketDataUsage(
        self, _request: pb.GetMarketDataUsageRequest, _call: Call
    ) -> pb.GetMarketDataUsageResponse:
        usage = self._market_data.usage()
        lines = [
            pb.MarketDataLine(
                instrument=present.instrument(line.instrument),
                subscriber_count=line.subscriber_count,
                last_tick_time=present.time(line.last_tick_time),
            )
            for line in usage
        ]
        ticks = self._hubs.ticks.usage()
        return pb.GetMarketDataUsageResponse(
            used_count=len(lines),
            limit_count=self._market_data.settings.line_limit,
            lines=lines,
            tick_by_tick_used_count=ticks.used_count,
            tick_by_tick_limit_count=ticks.limit_count,
        )

    async def _quote_result(self, named: Instrument, call: Call) -> pb.QuoteResult:
        """One bad symbol spoils nothing: its result is its error."""
        try:
            quote = await self._market_data.snapshot(named, min(call.remaining_s, QUOTE_TIMEOUT_S))
        except DomainError as error:
            return pb.QuoteResult(error=gateway_error(error, call.correlation_id))
        return pb.QuoteResult(quote=present.quote(quote, self._source, is_snapshot=True))
