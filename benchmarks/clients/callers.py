"""So many callers of one method, each asking again as soon as it has its answer: over gRPC or as a REST GET."""

from __future__ import annotations

import asyncio
import gc
import json
import sys
import time
from array import array
from collections.abc import Callable
from typing import cast

import uvloop
from ibkr_gateway.v1.common_pb2 import Instrument
from ibkr_gateway.v1.market_data_service_pb2 import GetQuoteRequest, GetQuoteResponse, StreamQuotesRequest

from benchmarks.clients.http2 import Grpc, connect
from benchmarks.clients.readers import STREAM_QUOTES
from benchmarks.lines import CON_IDS

GET_QUOTE = "/ibkr_gateway.v1.MarketDataService/GetQuote"
REST_GET = f"GET /quotes/{CON_IDS[0]} HTTP/1.1\r\nHost: localhost\r\nAccept: application/json\r\n\r\n".encode()
WARM_UP_S = 1.0


class Calls:
    """Times of answers since `begin`."""

    def __init__(self) -> None:
        self._took = array("d")
        self._is_counting = False

    def begin(self) -> None:
        """Count from now on; the harness waits for this line."""
        self._is_counting = True
        print("begin", flush=True)

    def add(self, asked_at: float) -> None:
        """One answer."""
        if self._is_counting:
            self._took.append(time.perf_counter() - asked_at)

    def end(self) -> dict[str, float]:
        """What was counted; times in milliseconds."""
        self._is_counting = False
        took = sorted(self._took)
        return {"calls": len(took), "p50": took[len(took) // 2] * 1e3, "p99": took[len(took) * 99 // 100] * 1e3}


async def main(kind: str, port: int, callers: int, seconds: float) -> None:
    calls = Calls()
    for _ in range(callers):
        await (_grpc(port, calls) if kind == "grpc" else _rest(port, calls))
    await asyncio.sleep(WARM_UP_S)
    gc.collect()
    gc.disable()
    calls.begin()
    await asyncio.sleep(seconds)
    print(json.dumps(calls.end()), flush=True)


async def _grpc(port: int, calls: Calls) -> None:
    instrument = Instrument(con_id=CON_IDS[0])
    request = GetQuoteRequest(instrument=instrument).SerializeToString()
    asked_at: dict[int, float] = {}

    def heard(stream: int, message: bytes) -> None:
        if stream in asked_at and not GetQuoteResponse.FromString(message).HasField("quote"):
            raise ValueError("an answer without a quote")

    def ended(stream: int) -> None:
        began = asked_at.pop(stream, None)
        if began is None:
            raise ConnectionError("the stream that keeps the line live has ended")
        calls.add(began)
        asked_at[connection.call(GET_QUOTE, request)] = time.perf_counter()

    connection = await connect(port, Grpc(heard, ended))
    # The line is live, as somebody follows it.
    connection.call(STREAM_QUOTES, StreamQuotesRequest(instruments=[instrument]).SerializeToString())
    asked_at[connection.call(GET_QUOTE, request)] = time.perf_counter()


async def _rest(port: int, calls: Calls) -> None:
    await asyncio.get_running_loop().create_connection(lambda: _Rest(calls.add), "127.0.0.1", port)


class _Rest(asyncio.Protocol):
    """One keep-alive connection."""

    def __init__(self, answered: Callable[[float], None]) -> None:
        self._answered = answered
        self._asked_at = 0.0
        self._rest = b""
        self._transport: asyncio.Transport | None = None

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self._transport = cast("asyncio.Transport", transport)
        self._ask()

    def data_received(self, data: bytes) -> None:
        self._rest += data
        head, found, body = self._rest.partition(b"\r\n\r\n")
        length = head.lower().partition(b"content-length: ")[2].partition(b"\r\n")[0]
        if not found or len(body) < int(length):
            return
        if not json.loads(body)["bid_price"]:
            raise ValueError("an answer without a quote")
        self._rest = b""
        self._answered(self._asked_at)
        self._ask()

    def _ask(self) -> None:
        assert self._transport is not None
        self._asked_at = time.perf_counter()
        self._transport.write(REST_GET)


if __name__ == "__main__":
    with asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner:
        runner.run(main(sys.argv[1], int(sys.argv[2]), int(sys.argv[3]), float(sys.argv[4])))
