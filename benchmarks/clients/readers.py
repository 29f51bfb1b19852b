"""So many readers of a stream, a connection each, over gRPC, SSE or WebSocket, that cost next to nothing themselves.

Some more of them can stop reading: the stream they have asked for is taken until the window is full, and no further.
"""

from __future__ import annotations

import argparse
import asyncio
import gc
import json
from base64 import b64encode
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import cast

import uvloop
from google.protobuf.duration_pb2 import Duration
from ibkr_gateway.v1.common_pb2 import Instrument
from ibkr_gateway.v1.market_data_service_pb2 import StreamQuotesRequest, StreamQuotesResponse

from benchmarks.clients.ages import Ages
from benchmarks.clients.http2 import Grpc, connect
from benchmarks.lines import CON_IDS

STREAM_QUOTES = "/ibkr_gateway.v1.MarketDataService/StreamQuotes"


async def main(arguments: argparse.Namespace) -> None:
    ages = Ages()
    open_readers = {"grpc": _grpc, "sse": _sse, "websocket": _websocket}[arguments.kind]
    async with open_readers(arguments, ages):
        await asyncio.sleep(arguments.warm_up)
        gc.collect()
        gc.disable()
        ages.begin()
        await asyncio.sleep(arguments.seconds)
        print(json.dumps(ages.end()), flush=True)


@asynccontextmanager
async def _grpc(arguments: argparse.Namespace, ages: Ages) -> AsyncIterator[None]:
    request = StreamQuotesRequest(instruments=[Instrument(con_id=con_id) for con_id in CON_IDS[: arguments.lines]])
    if arguments.interval_ms:
        request.min_interval.CopyFrom(Duration(nanos=int(arguments.interval_ms * 1e6)))
    asked = request.SerializeToString()

    def heard(_stream: int, message: bytes) -> None:
        for event in StreamQuotesResponse.FromString(message).events:
            if event.HasField("quote"):
                ages.add(event.quote.bid_price, event.conflated_count)

    connections = [await connect(arguments.port, Grpc(heard)) for _ in range(arguments.readers)]
    connections += [await connect(arguments.port, Grpc(_nothing, gives_window=False)) for _ in range(arguments.stalled)]
    for connection in connections:
        connection.call(STREAM_QUOTES, asked)
    yield
    for connection in connections:
        connection.close()


def _nothing(_stream: int, _message: bytes) -> None:
    """What a reader that has stopped does with what still comes."""


@asynccontextmanager
async def _sse(arguments: argparse.Namespace, ages: Ages) -> AsyncIterator[None]:
    asked = b"GET /quotes HTTP/1.1\r\nHost: localhost\r\nAccept: text/event-stream\r\n\r\n"
    transports = [await _open(arguments.port, _Sse(asked, ages)) for _ in range(arguments.readers)]
    yield
    for transport in transports:
        transport.abort()


@asynccontextmanager
async def _websocket(arguments: argparse.Namespace, ages: Ages) -> AsyncIterator[None]:
    key = b64encode(bytes(16)).decode()
    asked = (
        "GET /quotes HTTP/1.1\r\nHost: localhost\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n"
        f"Sec-WebSocket-Key: {key}\r\nSec-WebSocket-Version: 13\r\n\r\n"
    ).encode()
    transports = [await _open(arguments.port, _WebSocket(asked, ages)) for _ in range(arguments.readers)]
    yield
    for transport in transports:
        transport.abort()


async def _open(port: int, reader: _Reader) -> asyncio.Transport:
    transport, _ = await asyncio.get_running_loop().create_connection(lambda: reader, "127.0.0.1", port)
    return transport


class _Reader(asyncio.Protocol):
    """One connection over HTTP/1.1: its request, and the quotes that follow the answer's head."""

    def __init__(self, asked: bytes, ages: Ages) -> None:
        self._asked = asked
        self._ages = ages
        self._rest = b""
        self._has_head = False

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        # uvloop's transports are asyncio's in all but their base class.
        cast("asyncio.Transport", transport).write(self._asked)

    def data_received(self, data: bytes) -> None:
        data = self._rest + data
        if not self._has_head:
            head, found, data = data.partition(b"\r\n\r\n")
            if not found:
                self._rest = head
                return
            self._has_head = True
        self._rest = self._cut(data)

    def _cut(self, data: bytes) -> bytes:
        """Take what is whole; returns the rest."""
        raise NotImplementedError

    def _heard(self, text: bytes) -> None:
        """One message: a quote or a list of them."""
        found = json.loads(text)
        for quote in found if isinstance(found, list) else (found,):
            self._ages.add(quote["bid_price"] or 0.0)


class _Sse(_Reader):
    def _cut(self, data: bytes) -> bytes:
        *events, rest = data.split(b"\n\n")
        for event in events:
            # Chunks have their own head; the events in them begin with "data: ".
            _, found, text = event.partition(b"data: ")
            if found:
                self._heard(text)
        return rest


class _WebSocket(_Reader):
    def _cut(self, data: bytes) -> bytes:
        begin = 0
        while len(data) - begin >= 2:
            length, head = data[begin + 1] & 127, 2
            if length >= 126:
                size = 2 if length == 126 else 8
                length, head = int.from_bytes(data[begin + 2 : begin + 2 + size]), 2 + size
            end = begin + head + length
            if end > len(data) or len(data) - begin < head:
                break
            if data[begin] & 15 == 1:
                self._heard(data[begin + head : end])
            begin = end
        return data[begin:]


def _parsed() -> argparse.Namespace:
    parser = argparse.ArgumentParser()
    parser.add_argument("kind", choices=("grpc", "sse", "websocket"))
    parser.add_argument("port", type=int)
    parser.add_argument("--readers", type=int, default=1)
    parser.add_argument("--stalled", type=int, default=0)
    parser.add_argument("--lines", type=int, default=len(CON_IDS))
    parser.add_argument("--interval-ms", type=float, default=0.0)
    parser.add_argument("--warm-up", type=float, default=1.0)
    parser.add_argument("--seconds", type=float, default=3.0)
    return parser.parse_args()


if __name__ == "__main__":
    with asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner:
        runner.run(main(_parsed()))
