"""The clients of the benchmarks: they count what was sent to them, however it is cut."""

from __future__ import annotations

import asyncio
import json
import time
from collections.abc import Iterable

import pytest
from ibkr_gateway_server.simulator.listener import Simulator

from benchmarks.clients.ages import Ages
from benchmarks.clients.http2 import DATA, END_STREAM, HEADERS, PING, PREFACE, Grpc, frame
from benchmarks.clients.readers import _Sse, _WebSocket
from benchmarks.firehose import Firehose
from benchmarks.lines import CON_IDS


class Transport(asyncio.Transport):
    """Keeps what is written."""

    def __init__(self) -> None:
        super().__init__()
        self.written = b""

    def write(self, data: bytes | bytearray | memoryview) -> None:
        self.written += bytes(data)


def pieces(data: bytes, size: int) -> Iterable[bytes]:
    return (data[begin : begin + size] for begin in range(0, len(data), size))


def message(text: bytes) -> bytes:
    return b"\0" + len(text).to_bytes(4) + text


@pytest.mark.parametrize("size", [1, 7, 1000])
def test_grpc_messages_are_heard_however_they_are_cut_and_the_end_of_a_stream(size: int) -> None:
    heard: list[tuple[int, bytes]] = []
    ended: list[int] = []
    connection = Grpc(lambda stream, text: heard.append((stream, text)), ended.append)
    connection.connection_made(Transport())
    # The first message is spread over two frames, with one of another stream between them.
    first, other = message(b"first"), message(b"other")
    told = frame(DATA, 0, 1, first[:3]) + frame(DATA, 0, 3, other + message(b"more")) + frame(DATA, 0, 1, first[3:])
    for piece in pieces(told + frame(HEADERS, END_STREAM, 3, b"trailers"), size):
        connection.data_received(piece)
    assert heard == [(3, b"other"), (3, b"more"), (1, b"first")]
    assert ended == [3]


def test_a_ping_is_answered_with_what_it_holds() -> None:
    transport = Transport()
    connection = Grpc(lambda _stream, _text: None)
    connection.connection_made(transport)
    assert transport.written.startswith(PREFACE)
    connection.data_received(frame(PING, 0, 0, b"12345678"))
    assert transport.written.endswith(frame(PING, 1, 0, b"12345678"))


def counted(ages: Ages) -> tuple[float, float]:
    found = ages.end()
    return found["updates"], found["conflated"]


@pytest.mark.parametrize("size", [37, 1000, 100_000])
def test_readers_over_http_count_quotes_one_by_one_and_in_lists(size: int) -> None:
    quote = {"bid_price": time.monotonic(), "symbol": "AAPL"}
    single, many = json.dumps(quote).encode(), json.dumps([quote] * 2000).encode()
    assert len(single) < 126 < 65_536 < len(many)
    sse = b"".join(f"{len(text) + 8:x}\r\n".encode() + b"data: " + text + b"\n\n\r\n" for text in (single, many))
    websocket = bytes([0x81, len(single)]) + single + bytes([0x81, 127]) + len(many).to_bytes(8) + many
    for reader, told in ((_Sse, sse), (_WebSocket, websocket)):
        ages = Ages()
        connection = reader(b"", ages)
        ages.begin()
        for piece in pieces(b"HTTP/1.1 200 OK\r\n\r\n" + told, size):
            connection.data_received(piece)
        assert counted(ages) == (2001, 0)


def test_what_came_before_the_beginning_and_prices_that_are_no_times_are_not_counted() -> None:
    ages = Ages()
    ages.add(time.monotonic())
    ages.begin()
    ages.add(time.monotonic() - 190.0)
    ages.add(time.monotonic() + 190.0)
    ages.add(time.monotonic(), conflated=3)
    assert counted(ages) == (1, 3)


async def test_the_firehose_sends_each_line_in_turn_what_it_counts() -> None:
    """Two lines of an unmodified client: bids that are the time, sizes that count up, as many as the firehose says."""
    from ib_async import IB, Contract, Ticker

    simulator = Simulator(tick_interval_s=3600.0)
    firehose = Firehose(simulator, rate=1000.0)
    sizes: dict[int, list[float]] = {con_id: [] for con_id in CON_IDS[:2]}
    is_enough = asyncio.Event()
    began = round(time.monotonic(), 6)

    def heard(tickers: set[Ticker]) -> None:
        for ticker in tickers:
            assert ticker.contract is not None
            if began <= ticker.bid <= time.monotonic():
                sizes[ticker.contract.conId].append(ticker.bidSize)
        if all(len(each) >= 20 for each in sizes.values()):
            is_enough.set()

    async with simulator.listen() as address, asyncio.timeout(30):
        ib = IB()
        await ib.connectAsync(address.host, address.port, clientId=1, readonly=True)
        ib.pendingTickersEvent += heard
        for contract in await ib.qualifyContractsAsync(*(Contract(conId=con_id) for con_id in sizes)):
            assert isinstance(contract, Contract)
            ib.reqMktData(contract)
        sending = asyncio.create_task(firehose.run())
        await is_enough.wait()
        sending.cancel()
        assert firehose.sent >= 40
        ib.disconnect()
    for each in sizes.values():
        assert each == sorted(set(each))
        assert each[-1] <= firehose.sent
    # What was read is what was sent first: the lines were told in turn.
    one, other = sizes.values()
    assert abs(one[-1] - other[-1]) <= 1
