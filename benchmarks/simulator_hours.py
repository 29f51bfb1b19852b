"""How many hours of a simulated market pass in a second, in memory and in virtual time."""

from __future__ import annotations

import asyncio
import time
from functools import partial

from ib_async import IB, Contract, Future, MarketOrder, Option, Stock, Ticker
from ibkr_gateway_server.simulator.listener import Simulator
from ibkr_gateway_server.simulator.virtual_time import run_virtually

from benchmarks.harness import Benchmark

# Monday 2026-11-23 15:00 UTC.
BEGIN = 1795446000.0
SEED = 7
# A market order a minute, bought and sold in turn.
ORDER_EVERY_S = 60


def benchmark(*, quick: bool) -> Benchmark:
    """An unmodified ib_async client that follows so many lines, with and without orders; and nobody at all."""
    hours = 0.1 if quick else 0.5
    cases = {
        "no client": partial(_run, hours * 20, 0, False),
        "ib_async, 1 line": partial(_run, hours * 2, 1, False),
        "ib_async, 10 lines": partial(_run, hours / 2, 10, False),
        "ib_async, 10 lines, an order a minute": partial(_run, hours / 2, 10, True),
        "ib_async, 90 lines": partial(_run, hours / 10, 90, False),
    }
    return Benchmark(
        name="simulator-hours",
        question="simulated market hours per wall second, on one core with the client",
        cases=cases,
        units={"hours": "simulated h/s", "ticks": "1/s"},
    )


def _run(hours: float, lines: int, trades: bool) -> dict[str, float]:
    began = time.perf_counter()
    counted = run_virtually(_market(hours, lines, trades))
    took_s = time.perf_counter() - began
    return {"hours": hours / took_s, "ticks": counted / took_s}


async def _market(hours: float, lines: int, trades: bool) -> int:
    loop = asyncio.get_running_loop()
    simulator = Simulator(SEED, clock=lambda: BEGIN + loop.time())
    counted = 0
    async with simulator.listen(port=4002) as address:
        end = loop.time() + hours * 3600
        ib = IB()
        if lines:
            await ib.connectAsync(address.host, address.port, clientId=1)

            def count(tickers: set[Ticker]) -> None:
                nonlocal counted
                counted += sum(len(ticker.ticks) for ticker in tickers)

            ib.pendingTickersEvent += count
            contracts = await _contracts(ib, lines)
            for contract in contracts:
                ib.reqMktData(contract)
            side = "BUY"
            while trades and loop.time() < end:
                ib.placeOrder(contracts[0], MarketOrder(side, 10))
                side = "SELL" if side == "BUY" else "BUY"
                await asyncio.sleep(ORDER_EVERY_S)
        await asyncio.sleep(max(end - loop.time(), 0.0))
        ib.disconnect()
    return counted


async def _contracts(ib: IB, lines: int) -> list[Contract]:
    symbols = ("AAPL", "MSFT", "AMZN", "TSLA", "NVDA", "SPY", "QQQ")
    stocks = await ib.qualifyContractsAsync(*(Stock(symbol, "SMART", "USD") for symbol in symbols))
    found = [each for each in stocks if isinstance(each, Contract)]
    queries: list[Contract] = [Future(symbol, exchange="CME") for symbol in ("ES", "MES", "NQ")]
    queries += [Option(symbol, exchange="SMART", right="C") for symbol in ("SPY", "AAPL")]
    for query in queries:
        if len(found) < lines:
            details = await ib.reqContractDetailsAsync(query)
            kept = details[:1] if query.secType == "FUT" else details
            found += [each.contract for each in kept if each.contract is not None]
    return found[:lines]
