"""Virtual time: hours in no time, the same order in every run, and unmodified clients in memory."""

from __future__ import annotations

import asyncio
import hashlib
import random
import time
from pathlib import Path

import pytest
from ibkr_gateway_server.broker.connection import BrokerAddress
from ibkr_gateway_server.broker.pacing import Pacer
from ibkr_gateway_server.broker.session import Session, SessionTimings
from ibkr_gateway_server.simulator.listener import Simulator
from ibkr_gateway_server.simulator.scenario import read
from ibkr_gateway_server.simulator.virtual_time import Stuck, run_virtually

from tests.server.broker.conftest import running_session
from tests.server.simulator.conftest import NOW

EXAMPLES = Path(__file__).parents[3] / "examples" / "scenarios"

library = pytest.importorskip("ib_async")


def now() -> float:
    return NOW + asyncio.get_running_loop().time()


def test_a_year_of_waiting_takes_no_time() -> None:
    async def main() -> float:
        await asyncio.sleep(365 * 86400)
        return asyncio.get_running_loop().time()

    began = time.process_time()
    assert run_virtually(main()) == pytest.approx(365 * 86400, abs=0.01)
    # Not a measurement: a loop that waited at all would wait a year.
    assert time.process_time() - began < 60


def test_timers_run_in_the_order_of_their_times() -> None:
    async def main() -> list[int]:
        done: list[int] = []

        async def note(number: int, delay_s: float) -> None:
            await asyncio.sleep(delay_s)
            done.append(number)

        await asyncio.gather(note(1, 3.0), note(2, 1.0), note(3, 2.0))
        return done

    assert run_virtually(main()) == [2, 3, 1]


def test_a_timer_is_never_early_and_hardly_late() -> None:
    async def main() -> list[float]:
        loop, late = asyncio.get_running_loop(), []
        for delay_s in (0.1, 1e-5, 3600.0, 86400.0 * 300, 0.25):
            due = loop.time() + delay_s
            await asyncio.sleep(delay_s)
            late.append(loop.time() - due)
        return late

    assert all(0 < late < 1e-3 for late in run_virtually(main()))


def test_a_timer_of_this_very_moment_runs_however_late_it_is() -> None:
    async def main() -> int:
        loop, done = asyncio.get_running_loop(), 0
        for _ in range(3):
            ran = asyncio.Event()
            loop.call_later(0.0, ran.set)
            await ran.wait()
            done += 1
            await asyncio.sleep(86400.0 * 200)
        return done

    assert run_virtually(main()) == 3


def test_a_program_that_waits_for_what_never_comes_is_told_so() -> None:
    async def main() -> None:
        await asyncio.Event().wait()

    with pytest.raises(Stuck, match="nothing will ever happen"):
        run_virtually(main())


async def echoed(*pieces: bytes) -> tuple[bytes, float]:
    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        while data := await reader.read(100):
            writer.write(data.upper())
        writer.close()

    server = await asyncio.start_server(serve, "127.0.0.1", 7497)
    reader, writer = await asyncio.open_connection("127.0.0.1", 7497)
    told = b""
    for piece in pieces:
        writer.write(piece)
        told += await reader.readexactly(len(piece))
    took_s = asyncio.get_running_loop().time()
    writer.close()
    # The server hears of it.
    await asyncio.sleep(1)
    server.close()
    return told, took_s


def test_streams_work_in_memory_and_take_their_latency() -> None:
    told, took_s = run_virtually(echoed(b"one", b"two", b"three"), latency_s=0.05)
    assert told == b"ONETWOTHREE"
    # One way to connect, and there and back for every piece.
    assert took_s == pytest.approx(0.05 + 3 * 0.1, abs=0.001)


def test_nobody_listening_is_a_refused_connection_and_a_taken_port_an_error() -> None:
    async def main() -> None:
        with pytest.raises(ConnectionRefusedError):
            await asyncio.open_connection("127.0.0.1", 7496)
        await asyncio.start_server(lambda _reader, _writer: None, "127.0.0.1", 7497)
        with pytest.raises(OSError, match="already in use"):
            await asyncio.start_server(lambda _reader, _writer: None, "127.0.0.1", 7497)

    run_virtually(main())


def test_a_broken_connection_loses_what_is_on_its_way_and_a_closed_one_does_not() -> None:
    async def told(breaks: bool) -> bytes | str:
        def serve(_reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
            writer.write(b"goodbye")
            if breaks:
                writer.transport.abort()
            else:
                writer.close()

        await asyncio.start_server(serve, "127.0.0.1", 7497)
        reader, writer = await asyncio.open_connection("127.0.0.1", 7497)
        try:
            return await reader.read()
        except ConnectionResetError as error:
            return str(error)
        finally:
            writer.close()

    assert run_virtually(told(breaks=False), latency_s=0.01) == b"goodbye"
    assert run_virtually(told(breaks=True), latency_s=0.01) == "[Errno 104] Connection reset by peer"


async def conversation(seconds: float) -> tuple[str, float]:
    """An unmodified ib_async client for a while: a digest of all bytes it got, and the price it saw last."""
    simulator = Simulator(seed=11, clock=now)
    digest = hashlib.sha256()
    async with simulator.listen(port=4002) as address:
        ib = library.IB()
        received = ib.client.conn.data_received if hasattr(ib.client.conn, "data_received") else None
        assert received is not None

        def listen(data: bytes) -> None:
            digest.update(data)
            received(data)

        ib.client.conn.data_received = listen
        await ib.connectAsync(address.host, address.port, clientId=3)
        (aapl,) = await ib.qualifyContractsAsync(library.Stock("AAPL", "SMART", "USD"))
        ticker = ib.reqMktData(aapl)
        trade = ib.placeOrder(aapl, library.MarketOrder("BUY", 10))
        await asyncio.sleep(seconds)
        assert trade.orderStatus.status == "Filled"
        ib.disconnect()
        return digest.hexdigest(), ticker.last


def test_an_unmodified_client_has_the_same_hour_twice() -> None:
    one, other = (run_virtually(conversation(3600), latency_s=0.001) for _ in range(2))
    assert one == other
    assert one[1] > 0


def test_the_servers_own_session_survives_a_night_in_memory_and_has_the_same_one_again() -> None:
    async def night() -> tuple[str, int, list[str]]:
        simulator = Simulator(seed=11, clock=now)
        digest, lost = hashlib.sha256(), []
        loop = asyncio.get_running_loop()
        async with simulator.listen(port=4002) as address:
            simulator.play(read(EXAMPLES / "nightly_reset.toml"))
            where, pacer, jitter = BrokerAddress(address.host, address.port), Pacer(loop.time), random.Random(5)
            session = Session(where, 1, pacer, SessionTimings(), jitter=jitter)
            session.on_lost(lost.append)
            async with running_session(session):
                await session.wait_until_ready(60)
                await asyncio.sleep(3600)
                await session.wait_until_ready(60)
                digest.update(repr((simulator.state(), session.epoch, session.status.state)).encode())
                return digest.hexdigest(), session.epoch, list(lost)

    one, other = (run_virtually(night(), latency_s=0.001) for _ in range(2))
    assert one == other
    # The link, then the connection.
    assert one[1:] == (2, ["BROKER_LINK_DOWN", "BROKER_DISCONNECTED"])
