"""The simulator on a socket: what only shows with connections, processes and a clock."""

from __future__ import annotations

import asyncio
import os
import subprocess
import sys
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

import pytest
from ibkr_gateway_server.simulator import Simulator
from ibkr_gateway_server.simulator.wire import FrameReader, frame, split

from tests.conftest import eventually
from tests.server.simulator.conftest import NOW

HELLO = b"API\0\x00\x00\x00\x09v100..200"
START = frame(["71", "2", "1", ""])

# A whole conversation on a clock of its own; what was said is printed.
PROGRAM = """
from ibkr_gateway_server.simulator.gateway import Gateway
from tests.server.simulator.conftest import Talk
talk = Talk(Gateway(seed=11, accounts=("DU1234567",), now=1795446000.0))
talk.ask("62", "1", "9", "All", "NetLiquidation,TotalCashValue,$LEDGER:ALL")
talk.ask("9", "8", "8", "0", "SPY", "OPT", "", "", "", "", "SMART", "", "", "", "", "0", "", "", "")
talk.ask("1", "11", "11", "265598", *[""] * 6, "SMART", *[""] * 4, "0", "233", "0", "0", "")
talk.place(1, quantity=2500)
talk.place(2, action="SELL", order_type="TRAIL", aux="0.05")
talk.wait(30.0, step=0.25)
talk.ask("7", "3", "10", 0, "", "", "", "", "", "", "2147483647", "0")
print(talk.messages())
"""


class Clock:
    """Epoch seconds that stand still until they are moved."""

    def __init__(self) -> None:
        self.now = NOW

    def __call__(self) -> float:
        return self.now


@asynccontextmanager
async def connected(simulator: Simulator) -> AsyncIterator[tuple[asyncio.StreamReader, asyncio.StreamWriter]]:
    """A client that has been greeted."""
    async with simulator.listen() as address, asyncio.timeout(20):
        reader, writer = await asyncio.open_connection(address.host, address.port)
        writer.write(HELLO)
        await reader.readexactly(4)
        await reader.readuntil(b"UTC\0")
        writer.write(START)
        try:
            yield reader, writer
        finally:
            writer.close()


async def heard(reader: asyncio.StreamReader, message_id: str, frames: FrameReader) -> list[str]:
    """The next message with this id."""
    while True:
        for payload in frames.payloads():
            fields = split(payload)
            if fields[0] == message_id:
                return fields
        data = await reader.read(65536)
        if not data:
            raise ConnectionError
        frames.feed(data)


def test_a_conversation_is_the_same_in_every_process() -> None:
    runs = {
        subprocess.run(
            [sys.executable, "-c", PROGRAM],
            capture_output=True,
            text=True,
            check=True,
            env={**os.environ, "PYTHONHASHSEED": seed, "TZ": zone},
        ).stdout
        for seed, zone in (("0", "UTC"), ("4711", "Asia/Tokyo"))
    }
    assert len(runs) == 1
    assert "Filled" in runs.pop()


async def test_a_quote_that_is_set_is_the_next_quote() -> None:
    simulator = Simulator(tick_interval_s=0.01, clock=Clock())
    simulator.set_quote("AAPL", 300.05, 300.15, 300.1)
    async with connected(simulator) as (reader, writer):
        writer.write(frame(["1", "11", "5", "265598", *[""] * 6, "SMART", *[""] * 4, "0", "", "1", "0", ""]))
        frames = FrameReader()
        ticks = [await heard(reader, "1", frames) for _ in range(3)]
    assert [(fields[3], fields[4]) for fields in ticks] == [("1", "300.05"), ("2", "300.15"), ("4", "300.1")]


@pytest.mark.parametrize("given", [{}, {"bid": 10.0, "ask": 9.0}])
def test_a_quote_that_cannot_be_is_refused(given: dict[str, float]) -> None:
    with pytest.raises(ValueError):
        Simulator().set_quote("AAPL", **given)


def test_a_quote_of_nothing_listed_is_refused() -> None:
    with pytest.raises(LookupError):
        Simulator().set_quote("NOSUCH", 1.0, 2.0)


async def test_a_notice_reaches_every_client_that_has_started() -> None:
    simulator = Simulator()
    async with connected(simulator) as (reader, _):
        frames = FrameReader()
        await heard(reader, "9", frames)
        simulator.notify(1100, "Connectivity between IB and Trader Workstation has been lost.")
        while (fields := await heard(reader, "4", frames))[2] != "1100":
            pass
    assert fields[1] == "-1"


async def test_dropped_connections_end_at_once_and_the_gateway_goes_on() -> None:
    simulator = Simulator()
    async with connected(simulator) as (reader, _):
        await heard(reader, "9", FrameReader())
        assert simulator.state().connection_count == 1
        simulator.drop_connections()
        with pytest.raises(ConnectionError):
            await heard(reader, "never", FrameReader())
        await eventually(lambda: simulator.state().connection_count == 0)


async def test_a_client_that_never_reads_is_let_go(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("ibkr_gateway_server.simulator.listener.MAX_UNSENT_BYTES", 100_000)
    simulator = Simulator()
    async with connected(simulator) as (reader, writer):
        await heard(reader, "9", FrameReader())
        reader._transport.pause_reading()  # type: ignore[attr-defined]  # a client that has stopped
        details = frame(["9", "8", "7", "0", "SPY", "OPT", *[""] * 5, "SMART", "", "", "", "", "0", "", "", ""])
        for _ in range(100):
            writer.write(details)
        await eventually(lambda: simulator.state().connection_count == 0, 10)


async def test_simulated_time_passes_as_fast_as_it_is_told_to() -> None:
    clock = Clock()
    simulator = Simulator(clock=clock, speed=60.0)
    clock.now += 10
    assert simulator.state().simulated_time == NOW + 600


async def test_frames_are_counted_by_their_kind() -> None:
    simulator = Simulator()
    async with connected(simulator) as (reader, writer):
        frames = FrameReader()
        for _ in range(3):
            writer.write(frame(["49", "1"]))
            await heard(reader, "49", frames)
    assert simulator.frames_received(49) == 3
    assert simulator.frames_received(71) == 1
    assert simulator.state().order_frame_count == 0
