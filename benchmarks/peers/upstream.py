"""The lines of the firehose by unmodified ib_async, handed to a queue for each subscriber: how gateways are commonly
written."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from dataclasses import dataclass

from ib_async import IB, Contract, Ticker

from benchmarks.lines import CON_IDS


@dataclass(frozen=True, slots=True)
class Update:
    """A line's best prices as they have become."""

    con_id: int
    symbol: str
    bid_price: float
    ask_price: float
    last_price: float
    bid_size: float
    ask_size: float
    last_size: float


class Upstream:
    """Everything that TWS says of the lines, for whoever follows."""

    def __init__(self) -> None:
        self._ib = IB()
        self._queues: set[asyncio.Queue[Update]] = set()

    async def start(self, port: int) -> None:
        """Connect and subscribe."""
        await self._ib.connectAsync("127.0.0.1", port, clientId=1, timeout=20, readonly=True)
        for contract in await self._ib.qualifyContractsAsync(*(Contract(conId=con_id) for con_id in CON_IDS)):
            assert isinstance(contract, Contract)
            self._ib.reqMktData(contract)
        self._ib.pendingTickersEvent += self._publish

    async def updates(self) -> AsyncIterator[Update]:
        """Every update from now on."""
        queue: asyncio.Queue[Update] = asyncio.Queue()
        self._queues.add(queue)
        try:
            while True:
                yield await queue.get()
        finally:
            self._queues.discard(queue)

    async def batches(self) -> AsyncIterator[list[Update]]:
        """Every update from now on, all that have gathered at once."""
        queue: asyncio.Queue[Update] = asyncio.Queue()
        self._queues.add(queue)
        try:
            while True:
                batch = [await queue.get()]
                while not queue.empty():
                    batch.append(queue.get_nowait())
                yield batch
        finally:
            self._queues.discard(queue)

    def _publish(self, tickers: set[Ticker]) -> None:
        for ticker in tickers:
            contract = ticker.contract
            if contract is None:
                continue
            update = Update(
                contract.conId,
                contract.symbol,
                ticker.bid,
                ticker.ask,
                ticker.last,
                ticker.bidSize,
                ticker.askSize,
                ticker.lastSize,
            )
            for queue in self._queues:
                queue.put_nowait(update)
