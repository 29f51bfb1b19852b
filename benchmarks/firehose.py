"""`python -m benchmarks.firehose`: the simulator, with ticks at an exact rate that carry the time they were sent at.

Handshake, accounts and contracts are the simulator's own; its market stands still. To whoever subscribes to lines it
sends bids, each line in its turn: the price is CLOCK_MONOTONIC in seconds, which all processes of a machine share, and
the size is a sequence number of the line. What is due at one look of the loop, about every millisecond, goes out in one
write, as TWS batches: above some 1,000 ticks a second several to a write. What it could not send in time it leaves out
and never catches up on. A line on its standard input is answered by the number of ticks sent until then, and by the
times, on the same clock, at which orders have been read.
"""

from __future__ import annotations

import argparse
import asyncio
import json
import signal
import struct
import sys
import time
from typing import Any

from ibkr_gateway_server.simulator.feeds.quotes import Quotes
from ibkr_gateway_server.simulator.listener import Simulator, _Connection

# The simulated market shows nothing new for the time of a run.
STILL_S = 3600.0
# Behind by more than this, what is due is left out.
ARREARS_S = 0.05
LOOK_S = 0.001


class Firehose:
    """Ticks at a rate, to every connection that has lines. `rate` counts all lines of a connection together."""

    def __init__(self, simulator: Simulator, rate: float) -> None:
        self._simulator = simulator
        self._rate = rate
        self._sequences: dict[int, int] = {}
        self._turn = 0
        self.sent = 0
        self.placed: list[float] = []
        place = simulator.gateway.place

        def timed(*order: Any) -> None:
            self.placed.append(time.monotonic())
            place(*order)

        setattr(simulator.gateway, "place", timed)  # noqa: B010  a method of this one alone

    async def run(self) -> None:
        """Send until cancelled."""
        loop = asyncio.get_running_loop()
        done_until = loop.time()
        while True:
            await asyncio.sleep(max(done_until + 1 / self._rate - loop.time(), LOOK_S))
            due = int((loop.time() - done_until) * self._rate)
            done_until += due / self._rate
            if due > max(ARREARS_S * self._rate, 1):
                continue
            for connection in list(self._simulator._connections):
                self._send(connection, due)

    def _send(self, connection: _Connection, count: int) -> None:
        transport = connection._transport
        lines = [feed.req_id for feed in connection.session.feeds.of(Quotes)]
        if not lines or not count or transport is None or transport.is_closing():
            return
        now = f"{time.monotonic():.6f}"
        transport.write(
            b"".join(self._frame(lines[(self._turn + number) % len(lines)], now) for number in range(count))
        )
        self._turn += count
        self.sent += count

    def _frame(self, req_id: int, now: str) -> bytes:
        sequence = self._sequences[req_id] = self._sequences.get(req_id, 0) + 1
        payload = f"1\0006\0{req_id}\0001\0{now}\0{sequence}\0001\0".encode()
        return struct.pack(">I", len(payload)) + payload


def main() -> int:
    """Serve until SIGTERM."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.firehose", description=__doc__)
    parser.add_argument("--rate", type=float, default=0.0, help="ticks per second over all lines; 0: none")
    return asyncio.run(_serve(parser.parse_args().rate))


async def _serve(rate: float) -> int:
    loop = asyncio.get_running_loop()
    stop = asyncio.Event()
    loop.add_signal_handler(signal.SIGTERM, stop.set)
    simulator = Simulator(tick_interval_s=STILL_S)
    firehose = Firehose(simulator, rate)

    def answer() -> None:
        if not sys.stdin.readline():
            loop.remove_reader(sys.stdin)
            return
        print(json.dumps({"sent": firehose.sent, "placed": firehose.placed}), flush=True)

    loop.add_reader(sys.stdin, answer)
    async with simulator.listen() as address:
        sending = asyncio.create_task(firehose.run()) if rate else None
        print(f"listening on {address}", flush=True)
        await stop.wait()
        if sending is not None:
            sending.cancel()
    return 0


if __name__ == "__main__":
    sys.exit(main())
