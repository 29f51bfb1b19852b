"""What a tick message costs from the socket's bytes to a published quote, and how long a burst holds the loop."""

from __future__ import annotations

import asyncio
import logging
import time
from collections.abc import Callable
from datetime import datetime
from functools import partial
from typing import Any

from ib_async import IB, Stock
from ibkr_gateway.v1 import market_data_service_pb2
from ibkr_gateway_server.broker.connection import BrokerAddress, Connection
from ibkr_gateway_server.broker.line import Line
from ibkr_gateway_server.domain.clock import utc_now
from ibkr_gateway_server.domain.errors import DomainError
from ibkr_gateway_server.domain.instruments import Instrument, SecurityType
from ibkr_gateway_server.domain.orders import BrokerNotice
from ibkr_gateway_server.domain.quotes import MarketDataType
from ibkr_gateway_server.domain.tallies import Tallies

from benchmarks.harness import Benchmark

BURST_BYTES = 4 * 1024 * 1024


def benchmark(*, quick: bool) -> Benchmark:
    """The gateway's path beside ib_async's, whose handler makes the same message of its ticker."""
    count = 20_000 if quick else 100_000
    cases: dict[str, Callable[[], dict[str, float]]] = {}
    for per_read in (1, 4, 32):
        each = f"{per_read} to a read"
        cases[f"ib_async, {each}"] = partial(_ib_async, count // 4, per_read)
        cases[f"gateway, {each}"] = partial(_gateway, count, per_read, takes=False)
        cases[f"gateway, {each}, every quote taken"] = partial(_gateway, count, per_read, takes=True)
    return Benchmark(
        name="tick-path",
        question="CPU from a tick message to a published quote, in process",
        cases=cases,
        units={"cost": "µs per tick"},
    )


def burst(*, quick: bool) -> Benchmark:
    """Four megabytes of ticks that arrive in one piece; ib_async gets a sixteenth, since its cost is quadratic."""
    whole = BURST_BYTES // (4 if quick else 1)
    return Benchmark(
        name="burst",
        question="longest stall of the event loop while a burst of ticks that came in one piece is worked off",
        cases={
            f"ib_async, {whole // 16 // 1024} KiB": partial(_burst_of_ib_async, whole // 16),
            f"gateway, {whole // 1024} KiB": partial(_burst_of_gateway, whole),
        },
        units={"stall": "ms"},
    )


def _frame(*fields: object) -> bytes:
    payload = "".join(f"{field}\0" for field in fields).encode()
    return len(payload).to_bytes(4, "big") + payload


def _ticks(req_id: int, count: int) -> list[bytes]:
    """What a quote's line brings: bid, ask and last with their sizes, and the time of the last trade."""
    made = []
    for number in range(count):
        price = 100 + number % 50 / 100
        kind = number % 8
        if kind in (0, 2, 4):
            made.append(_frame(1, 6, req_id, {0: 1, 2: 2, 4: 4}[kind], price, 100 + number % 7, 0))
        elif kind == 6:
            made.append(_frame(46, 6, req_id, 45, 1795446000 + number))
        else:
            made.append(_frame(2, 6, req_id, {1: 0, 3: 3, 5: 5, 7: 8}[kind], 100 + number % 7))
    return made


def _reads(ticks: list[bytes], per_read: int) -> list[bytes]:
    return [b"".join(ticks[begin : begin + per_read]) for begin in range(0, len(ticks), per_read)]


class _Owner:
    tallies = Tallies()

    def outbid(self, line: Line) -> bool:
        raise AssertionError("nobody else has the data here")

    def regained(self, line: Line) -> None:
        raise AssertionError("nobody else has had the data here")

    def refused(self, line: Line, code: int, text: str) -> DomainError:
        raise AssertionError("nothing is refused here")


class _Counting:
    """A reader that is told of every quote and does nothing with it; `takes`: it has each of them made."""

    def __init__(self, line: Line, *, takes: bool) -> None:
        self.count = 0
        self._line = line
        self._takes = takes

    def changed(self) -> None:
        self.count += 1
        if self._takes:
            _ = self._line.quote

    def gap(self, reason: str, start_time: datetime) -> None: ...
    def resumed(self, gap_start_time: datetime) -> None: ...
    def stale(self, since_time: datetime, reason: str) -> None: ...
    def data_type(self, market_data_type: MarketDataType) -> None: ...
    def notice(self, notice: BrokerNotice) -> None: ...
    def failed(self, error: DomainError) -> None: ...


def _connected(*, takes: bool = False) -> tuple[Connection, Line, _Counting]:
    """A connection that has greeted, with a line that one reader listens to, and no socket."""
    connection = Connection(BrokerAddress("127.0.0.1", 1), 1, 1)
    client: Any = connection.client
    client._serverVersion = client.decoder.serverVersion = 178
    client._apiReady = True
    line = Line(Instrument(con_id=1, symbol="AAPL", security_type=SecurityType.STK), _Owner())
    line.attach(connection, utc_now())
    reader = _Counting(line, takes=takes)
    line.listeners[reader] = None
    return connection, line, reader


def _gateway(count: int, per_read: int, *, takes: bool) -> dict[str, float]:
    async def main() -> float:
        connection, line, reader = _connected(takes=takes)
        reads = _reads(_ticks(line.request_id, count), per_read)
        receive = connection.reader.data_received
        began = time.process_time()
        for data in reads:
            receive(data)
        took_s = time.process_time() - began
        assert reader.count == len(reads), (reader.count, len(reads))
        return took_s / count * 1e6

    return {"cost": asyncio.run(main())}


def _library() -> tuple[IB, int]:
    """An ib_async that believes it is connected, with one ticker."""
    ib = IB()
    client: Any = ib.client
    client._serverVersion = client.decoder.serverVersion = 178
    client._apiReady, client.connState = True, client.CONNECTED
    client._logger.setLevel(logging.WARNING)
    contract = Stock("AAPL", "SMART", "USD", conId=1)
    ib.wrapper.startTicker(1001, contract, "mktData")
    return ib, 1001


def _ib_async(count: int, per_read: int) -> dict[str, float]:
    async def main() -> float:
        ib, req_id = _library()
        told = 0

        def tell(tickers: Any) -> None:
            nonlocal told
            for ticker in tickers:
                told += 1
                market_data_service_pb2.Quote(
                    bid_price=ticker.bid, ask_price=ticker.ask, last_price=ticker.last,
                    bid_size=ticker.bidSize, ask_size=ticker.askSize, last_size=ticker.lastSize, volume=ticker.volume,
                )  # fmt: skip

        ib.pendingTickersEvent += tell
        reads = _reads(_ticks(req_id, count), per_read)
        client: Any = ib.client
        began = time.process_time()
        for data in reads:
            client._onSocketHasData(data)
        took_s = time.process_time() - began
        assert told == len(reads), (told, len(reads))
        return took_s / count * 1e6

    return {"cost": asyncio.run(main())}


async def _longest_stall_s(work: Callable[[], object], is_done: Callable[[], bool]) -> float:
    """The longest time that the loop did not come round while this was done."""
    longest, last = 0.0, time.perf_counter()
    work()
    while True:
        await asyncio.sleep(0)
        now = time.perf_counter()
        longest, last = max(longest, now - last), now
        if is_done():
            return longest


def _burst_of_gateway(size: int) -> dict[str, float]:
    async def main() -> float:
        connection, line, _ = _connected()
        data = b"".join(_ticks(line.request_id, size // 32))[:size]
        reader = connection.reader
        return await _longest_stall_s(lambda: reader.data_received(data), lambda: reader.is_idle)

    return {"stall": asyncio.run(main()) * 1e3}


def _burst_of_ib_async(size: int) -> dict[str, float]:
    async def main() -> float:
        ib, req_id = _library()
        data = b"".join(_ticks(req_id, size // 32))[:size]
        client: Any = ib.client
        return await _longest_stall_s(lambda: client._onSocketHasData(data), lambda: True)

    return {"stall": asyncio.run(main()) * 1e3}
