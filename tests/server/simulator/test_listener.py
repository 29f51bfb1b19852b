"""The simulator on a socket: what only shows with connections, processes and a clock."""

from __future__ import annotations

import asyncio
import os
import subprocess
import sys
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

import pytest
from ibkr_gateway_server.simulator import Fault, Rule, Simulator
from ibkr_gateway_server.simulator.virtual_time import run_virtually
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


def virtual_now() -> float:
    return NOW + asyncio.get_running_loop().time()


async def test_nobody_listens_for_a_while_and_then_again_on_the_same_port() -> None:
    simulator = Simulator(tick_interval_s=0.01)
    async with simulator.listen() as address, asyncio.timeout(20):
        simulator.inject(Rule(Fault.REFUSE_CONNECTIONS))

        async def is_open() -> bool:
            try:
                _, writer = await asyncio.open_connection(address.host, address.port)
            except ConnectionError:
                return False
            writer.close()
            return True

        while await is_open():
            await asyncio.sleep(0)
        simulator.faults.clear()
        while not await is_open():
            await asyncio.sleep(0)


def test_connections_are_refused_for_as_long_as_it_was_said() -> None:
    async def seconds_until_open() -> float:
        simulator = Simulator(clock=virtual_now)
        async with simulator.listen(port=4002) as address:
            await asyncio.sleep(0)
            simulator.inject(Rule(Fault.REFUSE_CONNECTIONS, duration_s=30.0))
            await asyncio.sleep(0.1)
            while True:
                try:
                    _, writer = await asyncio.open_connection(address.host, address.port)
                except ConnectionRefusedError:
                    await asyncio.sleep(0.1)
                else:
                    writer.close()
                    await asyncio.sleep(1)
                    return asyncio.get_running_loop().time()

    assert 31.0 <= run_virtually(seconds_until_open()) < 32.0


async def test_a_half_open_connection_takes_no_bytes_and_is_not_closed() -> None:
    clock = Clock()
    simulator = Simulator(tick_interval_s=0.01, clock=clock)
    async with connected(simulator) as (reader, writer):
        await heard(reader, "9", FrameReader())
        simulator.inject(Rule(Fault.HALF_OPEN, duration_s=10.0))
        writer.write(frame(["49", "1"]))
        clock.now += 9.0
        (connection,) = simulator._connections
        await eventually(lambda: not connection._transport.is_reading())  # type: ignore[union-attr]
        assert simulator.state().connection_count == 1
        clock.now += 2.0
        with pytest.raises(ConnectionError):
            await heard(reader, "never", FrameReader())


async def test_an_injected_loss_is_seen_in_the_state_and_by_clients() -> None:
    simulator = Simulator()
    async with connected(simulator) as (reader, _):
        frames = FrameReader()
        await heard(reader, "9", frames)
        simulator.inject(Rule(Fault.LINK_LOST))
        simulator.inject(Rule(Fault.LOSE, message_id=3))
        while (await heard(reader, "4", frames))[2] != "1100":
            pass
        assert simulator.state().link_is_lost
        assert simulator.state().waiting_fault_count == 1


async def test_a_reset_begins_anew_without_connections_orders_and_faults() -> None:
    simulator = Simulator(seed=3)
    async with connected(simulator) as (reader, writer):
        frames = FrameReader()
        await heard(reader, "9", frames)
        writer.write(frame(["8", "1", "1000"]))
        await heard(reader, "9", frames)
        simulator.inject(Rule(Fault.LINK_LOST))
        simulator.reset(4)
        with pytest.raises(ConnectionError):
            await heard(reader, "never", frames)
    state = simulator.state()
    assert (state.seed, state.link_is_lost, state.waiting_fault_count) == (4, False, 0)
    assert simulator.frames_received(8) == 0
    async with connected(simulator) as (reader, _):
        assert await heard(reader, "9", FrameReader()) == ["9", "1", "1"]


async def test_the_clock_can_be_moved_and_what_was_due_happens() -> None:
    clock = Clock()
    simulator = Simulator(clock=clock)
    async with connected(simulator) as (reader, writer):
        frames = FrameReader()
        await heard(reader, "9", frames)
        simulator.inject(Rule(Fault.LATE, message_id=49, delay_s=3600.0))
        writer.write(frame(["49", "1"]))
        await eventually(lambda: simulator.frames_received(49) == 1)
        assert simulator.advance_clock(3601.0) == NOW + 3601.0
        assert await heard(reader, "49", frames) == ["49", "1", str(int(NOW) + 3600)]
    with pytest.raises(ValueError, match="is not from 0"):
        simulator.advance_clock(-1.0)


def test_a_thousand_times_faster_than_time_everything_still_happens() -> None:
    async def main() -> tuple[float, set[str]]:
        simulator = Simulator(clock=virtual_now, speed=1000.0)
        async with connected(simulator) as (reader, writer):
            frames = FrameReader()
            await heard(reader, "9", frames)
            writer.write(frame(["1", "11", "5", "265598", *[""] * 6, "SMART", *[""] * 4, "0", "", "0", "0", ""]))
            writer.write(frame(["61", "1"]))
            seen: set[str] = set()
            while simulator.state().simulated_time < NOW + 15_000:
                frames.feed(await reader.read(65536))
                seen |= {split(payload)[0] for payload in frames.payloads()}
            return asyncio.get_running_loop().time(), seen

    took_s, seen = run_virtually(main())
    assert 14.5 < took_s < 16.0
    assert {"1", "2", "62"} <= seen
