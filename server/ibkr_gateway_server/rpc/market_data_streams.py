"""The streams of MarketDataService that have one feed each."""

from __future__ import annotations

import itertools
from collections.abc import AsyncIterator

from ibkr_gateway.v1 import market_data_service_pb2 as pb

from ibkr_gateway_server.rpc import parse, parse_market_data
from ibkr_gateway_server.rpc.calls import Call
from ibkr_gateway_server.rpc.commands import command
from ibkr_gateway_server.rpc.words import bar_event, depth_event, market_data_event, tick_event
from ibkr_gateway_server.streams.market_data import MarketDataHub

# Events in one message: history comes in pieces that every client takes, whatever its limit.
EVENTS_A_MESSAGE = 500


class MarketDataStreams:
    """Ticks, bars and books, one by one or many on one connection. `source` goes into each quote."""

    def __init__(self, hub: MarketDataHub, source: str) -> None:
        self._hub = hub
        self._hubs = hub.hubs
        self._source = source

    async def StreamTicks(self, request: pb.StreamTicksRequest, call: Call) -> AsyncIterator[pb.StreamTicksResponse]:
        named, tick_type = parse_market_data.tick_request(request)
        heartbeat_s = parse.heartbeat_s(request)
        async with self._hubs.ticks.subscribe(named, tick_type, heartbeat_s=heartbeat_s) as events:
            async for batch in events:
                yield pb.StreamTicksResponse(events=[tick_event(event, call.correlation_id) for event in batch])

    async def StreamBars(self, request: pb.StreamBarsRequest, call: Call) -> AsyncIterator[pb.StreamBarsResponse]:
        wanted, heartbeat_s = parse_market_data.live_bars_request(request), parse.heartbeat_s(request)
        sequence = itertools.count(1)
        stream = self._hubs.bars.subscribe(wanted, heartbeat_s=heartbeat_s, timeout_s=call.remaining_s)
        async with stream as batches:
            async for batch in batches:
                for first in range(0, len(batch), EVENTS_A_MESSAGE):
                    piece = batch[first : first + EVENTS_A_MESSAGE]
                    yield pb.StreamBarsResponse(
                        events=[bar_event(next(sequence), happening, call.correlation_id) for happening in piece]
                    )

    async def StreamMarketDepth(
        self, request: pb.StreamMarketDepthRequest, call: Call
    ) -> AsyncIterator[pb.StreamMarketDepthResponse]:
        wanted, heartbeat_s = parse_market_data.depth_request(request), parse.heartbeat_s(request)
        sequence = itertools.count(1)
        async with self._hubs.books.subscribe(wanted, heartbeat_s=heartbeat_s) as batches:
            async for batch in batches:
                yield pb.StreamMarketDepthResponse(
                    events=[depth_event(next(sequence), happening, call.correlation_id) for happening in batch]
                )

    async def SubscribeMarketData(
        self, requests: AsyncIterator[pb.SubscribeMarketDataRequest], call: Call
    ) -> AsyncIterator[pb.SubscribeMarketDataResponse]:
        sequence = itertools.count(1)
        async with self._hub.connect(command(request) async for request in requests) as connection:
            async for batch in connection:
                yield pb.SubscribeMarketDataResponse(
                    events=[
                        market_data_event(next(sequence), item, self._source, call.correlation_id) for item in batch
                    ]
                )
