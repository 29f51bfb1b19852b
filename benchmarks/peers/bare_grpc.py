"""A bare grpc.aio server on uvloop: a message for every update of every subscriber, and a constant quote for a call."""

from __future__ import annotations

import asyncio
import signal
import sys
from collections.abc import AsyncIterator
from typing import Any

import grpc
import uvloop
from ibkr_gateway.v1 import market_data_service_pb2 as pb
from ibkr_gateway.v1.common_pb2 import Instrument
from ibkr_gateway.v1.market_data_service_pb2_grpc import (
    MarketDataServiceServicer,
    add_MarketDataServiceServicer_to_server,
)

from benchmarks.lines import CON_IDS
from benchmarks.peers.upstream import Update, Upstream


class Servicer(MarketDataServiceServicer):
    """Two of the contract's methods, without anything around them."""

    def __init__(self, upstream: Upstream) -> None:
        self._upstream = upstream
        self._quote = _quote(Update(CON_IDS[0], "AAPL", 190.01, 190.02, 190.01, 300.0, 200.0, 100.0))

    async def GetQuote(self, request: pb.GetQuoteRequest, context: Any) -> pb.GetQuoteResponse:
        return pb.GetQuoteResponse(quote=self._quote)

    async def StreamQuotes(
        self, request: pb.StreamQuotesRequest, context: Any
    ) -> AsyncIterator[pb.StreamQuotesResponse]:
        sequence = 0
        async for update in self._upstream.updates():
            sequence += 1
            yield pb.StreamQuotesResponse(events=[pb.QuoteEvent(sequence=sequence, quote=_quote(update))])


def _quote(update: Update) -> pb.Quote:
    return pb.Quote(
        instrument=Instrument(con_id=update.con_id, symbol=update.symbol),
        bid_price=update.bid_price,
        ask_price=update.ask_price,
        last_price=update.last_price,
        bid_size=update.bid_size,
        ask_size=update.ask_size,
        last_size=update.last_size,
    )


async def main(broker_port: int) -> None:
    stop = asyncio.Event()
    asyncio.get_running_loop().add_signal_handler(signal.SIGTERM, stop.set)
    upstream = Upstream()
    if broker_port:
        await upstream.start(broker_port)
    server = grpc.aio.server()
    # The methods that it lacks answer UNIMPLEMENTED.
    add_MarketDataServiceServicer_to_server(Servicer(upstream), server)  # type: ignore[abstract]
    port = server.add_insecure_port("127.0.0.1:0")
    await server.start()
    print(f"listening on 127.0.0.1:{port}", flush=True)
    await stop.wait()
    await server.stop(0)


if __name__ == "__main__":
    with asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner:
        runner.run(main(int(sys.argv[1])))
