"""A client that subscribes to so many lines and counts the ticks: unmodified ib_async, or ib_insync where that is."""

from __future__ import annotations

import asyncio
import json
import sys
import time
from typing import Any

try:
    import ib_async as library
except ImportError:
    import ib_insync as library  # type: ignore[no-redef]

WARM_UP_S = 1.0


async def main(port: int, lines: int, seconds: float) -> None:
    ib = library.IB()
    await ib.connectAsync("127.0.0.1", port, clientId=1, timeout=20)
    contracts = await _contracts(ib, lines)
    counted = 0

    def count(tickers: Any) -> None:
        nonlocal counted
        counted += sum(len(ticker.ticks) for ticker in tickers)

    ib.pendingTickersEvent += count
    for contract in contracts:
        ib.reqMktData(contract)
    await asyncio.sleep(WARM_UP_S)
    before, began, began_cpu = counted, time.perf_counter(), time.process_time()
    await asyncio.sleep(seconds)
    found = {"ticks": counted - before, "wall_s": time.perf_counter() - began, "cpu_s": time.process_time() - began_cpu}
    print(json.dumps(found))
    ib.disconnect()


async def _contracts(ib: Any, lines: int) -> list[Any]:
    """Stocks and futures first, options for the rest: one line each."""
    stocks = [
        library.Stock(symbol, "SMART", "USD") for symbol in ("AAPL", "MSFT", "AMZN", "TSLA", "NVDA", "SPY", "QQQ")
    ]
    found = list(await ib.qualifyContractsAsync(*stocks))
    for symbol in ("ES", "MES", "NQ"):
        found += [each.contract for each in await ib.reqContractDetailsAsync(library.Future(symbol, exchange="CME"))][
            :1
        ]
    if lines > len(found):
        options = await ib.reqContractDetailsAsync(library.Option("SPY", exchange="SMART", right="C"))
        options += await ib.reqContractDetailsAsync(library.Option("AAPL", exchange="SMART", right="C"))
        found += [each.contract for each in options]
    return found[:lines]


if __name__ == "__main__":
    asyncio.run(main(int(sys.argv[1]), int(sys.argv[2]), float(sys.argv[3])))
