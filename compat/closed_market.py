"""A simulator of its own whose exchanges are closed: it is Sunday there, whenever this runs.

What it shows, an order held until the market opens, depends on the day; the one that the other steps are held with has
a market that never closes.
"""

from __future__ import annotations

import asyncio
import time
from datetime import UTC, datetime

from ibkr_gateway_server.simulator import Simulator
from ibkr_gateway_server.simulator.behaviour import Behaviour

SUNDAY = datetime(2026, 11, 22, 12, tzinfo=UTC)


async def main() -> None:
    """Serve until it is ended."""
    began = time.time()
    simulator = Simulator(
        seed=7, clock=lambda: SUNDAY.timestamp() + time.time() - began, behaviour=Behaviour(always_open=False)
    )
    async with simulator.listen() as address:
        print(f"listening on {address}", flush=True)
        await asyncio.Event().wait()


if __name__ == "__main__":
    asyncio.run(main())
