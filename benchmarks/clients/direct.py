"""An unmodified ib_async client that follows lines of the firehose and notes how old each tick is in its handler."""

from __future__ import annotations

import asyncio
import gc
import json
import sys

from ib_async import IB, Contract, Ticker

from benchmarks.clients.ages import Ages
from benchmarks.lines import CON_IDS

WARM_UP_S = 1.0


async def main(port: int, lines: int, seconds: float) -> None:
    ib = IB()
    await ib.connectAsync("127.0.0.1", port, clientId=1, timeout=20, readonly=True)
    ages = Ages()

    def heard(tickers: set[Ticker]) -> None:
        for ticker in tickers:
            ages.add(ticker.bid)

    ib.pendingTickersEvent += heard
    for contract in await ib.qualifyContractsAsync(*(Contract(conId=con_id) for con_id in CON_IDS[:lines])):
        assert isinstance(contract, Contract)
        ib.reqMktData(contract)
    await asyncio.sleep(WARM_UP_S)
    gc.collect()
    gc.disable()
    ages.begin()
    await asyncio.sleep(seconds)
    print(json.dumps(ages.end()), flush=True)
    ib.disconnect()


if __name__ == "__main__":
    asyncio.run(main(int(sys.argv[1]), int(sys.argv[2]), float(sys.argv[3])))
