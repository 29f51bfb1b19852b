"""Connections that cannot be made, do not begin, stall, break again and again, or are told to go away."""

from __future__ import annotations

import asyncio
import gc
import subprocess
import sys
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack
from dataclasses import replace
from itertools import pairwise
from pathlib import Path
from typing import Any

import grpc
import pytest
from grpc_health.v1 import health_pb2, health_pb2_grpc
from ibkr_gateway import TimedOut, Unavailable, connect, duration, new_client_order_id, stock
from ibkr_gateway.v1 import account_service_pb2 as account_pb
from ibkr_gateway.v1 import common_pb2
from ibkr_gateway.v1 import gateway_service_pb2 as gateway_pb
from ibkr_gateway.v1 import market_data_service_pb2 as market_pb
from ibkr_gateway.v1 import orders_service_pb2 as orders_pb
from ibkr_gateway_server.app import running
from ibkr_gateway_server.broker.connection import Connection
from ibkr_gateway_server.broker.pacing import Priority
from ibkr_gateway_server.broker.session import Session
from ibkr_gateway_server.domain.errors import (
    BrokerDisconnected,
    OrderRate,
    SessionEnded,
    SessionSyncing,
)
from ibkr_gateway_server.domain.instruments import Instrument, SecurityType
from ibkr_gateway_server.domain.sessions import SessionEvent, SessionState
from ibkr_gateway_server.domain.tallies import (
    CLOCK_SKEW_SECONDS,
    CONNECT_FAILURES,
    HEARTBEAT_MISSES,
    HEARTBEAT_SECONDS,
    PACING_VIOLATIONS,
    RECONNECTS,
    SESSION_STATE,
    SYNC_INCOMPLETE,
    SYNC_TIMEOUTS,
)
from ibkr_gateway_server.settings import load_settings
from ibkr_gateway_server.simulator import Fault, Simulator
from ibkr_gateway_server.trading.desk import DeskTimings

from tests.conftest import FAST, Gateway, MakeGateway, eventually
from tests.failures.conftest import eventually_recorded, gateway_at, inject, tally, virtual_broker, virtually

AAPL = Instrument(symbol="AAPL", security_type=SecurityType.STK)
ORDER = orders_pb.OrderSpec(
    instrument=stock("AAPL"), side=common_pb2.SIDE_BUY, quantity="10", order_type=orders_pb.ORDER_TYPE_MKT
)
PLACE, CONTRACT, TIME = 3, 9, 49


def follow(session: Session) -> list[tuple[float, SessionState]]:
    """Every state the session comes to from now on, and when, on the loop's clock."""
    seen: list[tuple[float, SessionState]] = []
    loop = asyncio.get_running_loop()

    def note(event: SessionEvent) -> None:
        if event.kind == "session.transition":
            seen.append((loop.time(), SessionState(str(event.body["to"]))))

    session.on_event(note)
    return seen


def waits_between_attempts(seen: list[tuple[float, SessionState]]) -> list[float]:
    """Seconds from the end of each attempt to the next."""
    return [
        after - before
        for (before, state), (after, next_state) in pairwise(seen)
        if (state, next_state) == (SessionState.RECONNECTING, SessionState.CONNECTING)
    ]


async def until(session: Session, state: SessionState, timeout_s: float = 3600.0) -> None:
    """Returns once the session is in this state."""
    async with asyncio.timeout(timeout_s):
        async for status in session.changes():
            if status.state is state:
                return


async def events(stream: Any) -> AsyncIterator[Any]:
    """What a stream tells, one by one."""
    async for response in stream:
        for event in response.events:
            yield event


async def until_told(told: AsyncIterator[Any], kind: str) -> Any:
    """The next event of a kind; an error before that fails the test."""
    async with asyncio.timeout(30):
        async for event in told:
            found = event.WhichOneof("event")
            if found == kind:
                return event
            assert found != "error", event
    raise AssertionError(f"it ended without {kind}")


async def place(gateway: Gateway) -> orders_pb.OrderResult:
    request = orders_pb.PlaceOrderRequest(client_order_id=new_client_order_id(), order=ORDER)
    return (await gateway.client.orders.PlaceOrder(request)).result


async def health(gateway: Gateway, service: str) -> int:
    """What grpc.health.v1 says of one of our services."""
    async with grpc.aio.insecure_channel(gateway.running.target) as channel:
        stub: Any = health_pb2_grpc.HealthStub(channel)
        name = service if service == "liveness" else f"ibkr_gateway.v1.{service}"
        return int((await stub.Check(health_pb2.HealthCheckRequest(service=name))).status)


async def test_C01_nobody_listens_at_the_start(tmp_path: Path, unused_tcp_port: int) -> None:
    """The port of TWS is closed when the gateway starts.

    It serves: alive, each service that needs IBKR NOT_SERVING, reads UNAVAILABLE with BROKER_DISCONNECTED.
    """
    chosen = {"ibkr_gateway_port": unused_tcp_port, "grpc_port": 0, "audit_db_path": tmp_path / "audit.db"}
    async with AsyncExitStack() as stack:
        server = running(load_settings(chosen, env_file=None), session_timings=FAST, drain_s=2.0)
        started = await stack.enter_async_context(server)
        client = await stack.enter_async_context(connect(started.target, timeout_s=10.0))
        gateway = Gateway(started, client)
        await eventually(lambda: tally(gateway, CONNECT_FAILURES, "refused") > 2)
        with pytest.raises(Unavailable) as refused:
            await client.account.GetPositions(account_pb.GetPositionsRequest())
        assert refused.value.reason == "BROKER_DISCONNECTED"
        found = [await health(gateway, name) for name in ("liveness", "MarketDataService", "OrdersService")]
        serving, away = health_pb2.HealthCheckResponse.SERVING, health_pb2.HealthCheckResponse.NOT_SERVING
        assert found == [serving, away, away]
        # However often it was tried, the record says it once.
        told = await eventually_recorded(gateway, "session.transition", lambda rows: len(rows) > 1)
        assert len(told) == len({tuple(row.values()) for row in told})
        assert {"from": "CONNECTING", "to": "RECONNECTING", "reason": "BROKER_DISCONNECTED"} in told


async def test_C01_a_stream_that_is_opened_before_tws_is_there(tmp_path: Path, unused_tcp_port: int) -> None:
    """Programs start together with the gateway and open their streams while the port of TWS is still closed.

    Each stream begins with a gap, BROKER_DISCONNECTED, and lives; once TWS is there, resumed and data follow.
    """
    chosen = {"ibkr_gateway_port": unused_tcp_port, "grpc_port": 0, "audit_db_path": tmp_path / "audit.db"}
    async with AsyncExitStack() as stack:
        server = running(load_settings(chosen, env_file=None), session_timings=FAST, drain_s=2.0)
        started = await stack.enter_async_context(server)
        client = await stack.enter_async_context(connect(started.target, timeout_s=10.0))
        what = {"instrument": stock("AAPL")}
        ticks = market_pb.StreamTicksRequest(**what, tick_type=market_pb.TICK_TYPE_BID_ASK)
        opened = {
            "quote": client.market_data.StreamQuotes(market_pb.StreamQuotesRequest(instruments=[stock("AAPL")])),
            "tick": client.market_data.StreamTicks(ticks),
            "depth": client.market_data.StreamMarketDepth(market_pb.StreamMarketDepthRequest(**what)),
            "bar": client.market_data.StreamBars(
                market_pb.StreamBarsRequest(**what, bar_size=market_pb.BAR_SIZE_5_SECS, duration=duration("600 S"))
            ),
            "summary": client.account.StreamAccountSummary(account_pb.StreamAccountSummaryRequest()),
            "position": client.account.StreamPositions(account_pb.StreamPositionsRequest()),
            "pnl": client.account.StreamPnl(account_pb.StreamPnlRequest()),
            "order": client.orders.StreamOrderEvents(orders_pb.StreamOrderEventsRequest()),
        }
        told = {kind: events(stream) for kind, stream in opened.items()}
        gaps = {kind: (await until_told(stream, "gap")).gap for kind, stream in told.items()}
        assert {gap.reason for gap in gaps.values()} == {"BROKER_DISCONNECTED"}
        await stack.enter_async_context(Simulator(seed=7).listen(port=unused_tcp_port))
        for kind, stream in told.items():
            resumed = (await until_told(stream, "resumed")).resumed
            assert resumed.gap_start_time == gaps[kind].start_time
            if kind != "order":
                await until_told(stream, kind)


def test_C02_a_connection_that_is_taken_and_never_answered() -> None:
    """TWS takes every connection and says nothing.

    Not connected, given up after 5 s each time; attempts are 0.5 s to 30 s apart, at random and ever further.
    """

    async def main() -> None:
        async with virtual_broker(prepare=lambda gone: inject(gone, Fault.NEVER_GREET, times=None)) as broker:
            session, seen = broker.session, follow(broker.session)
            await asyncio.sleep(4.9)
            assert session.status.state is SessionState.CONNECTING
            await asyncio.sleep(900)
            with pytest.raises(BrokerDisconnected):
                session.connection()
            waits = waits_between_attempts(seen)
            assert len(waits) > 25
            assert min(waits) >= 0.5
            assert 15 < max(waits) < 30.1
            assert max(waits[:3]) < 4.1
            assert len({round(wait, 3) for wait in waits}) == len(waits)
            assert session.tallies.value(CONNECT_FAILURES, "handshake_timeout") >= len(waits)
            tried = [before for before, state in seen if state is SessionState.RECONNECTING]
            begun = [0.0, *(when for when, state in seen if state is SessionState.CONNECTING)]
            assert all(abs(end - begin - 5) < 0.01 for begin, end in zip(begun, tried, strict=False))

    virtually(main)


async def test_C03_a_tws_that_is_too_old(tmp_path: Path) -> None:
    """TWS agrees to a version of its API that is older than any that is served.

    FATAL, with the version; reads are UNAVAILABLE and say so; no further attempt, healthcheck ends with 78.
    """
    simulator = Simulator(seed=7)
    inject(simulator, Fault.SERVER_VERSION, times=None, value="100")
    async with gateway_at(simulator, tmp_path) as gateway:
        session = gateway.running.session
        await until(session, SessionState.FATAL, 10)
        with pytest.raises(Unavailable) as refused:
            await gateway.client.account.GetPositions(account_pb.GetPositionsRequest())
        assert refused.value.reason == "BROKER_DISCONNECTED"
        assert "version 100" in refused.value.message
        health = await gateway.client.gateway.GetHealth(gateway_pb.GetHealthRequest())
        assert health.session_state == common_pb2.SESSION_STATE_FATAL
        port = gateway.running.target.rpartition(":")[2]
        command = [sys.executable, "-m", "ibkr_gateway_cli", "--port", port, "healthcheck"]
        done = await asyncio.to_thread(subprocess.run, command, capture_output=True, timeout=30)
        assert done.returncode == 78
        assert tally(gateway, CONNECT_FAILURES, "old_version") == 1
        assert tally(gateway, SESSION_STATE, "FATAL") == 1
        (why,) = await eventually_recorded(gateway, "session.fatal", bool)
        assert "version 100" in why["why"]


@pytest.mark.parametrize("silent", [9, 15], ids=["nextValidId", "managedAccounts"])
def test_C05_a_session_that_does_not_begin(silent: int) -> None:
    """TWS agrees to a version and then never says nextValidId, or the accounts.

    HANDSHAKING, requests UNAVAILABLE with SESSION_SYNCING; after 10 s a new attempt.
    """

    def prepare(simulator: Simulator) -> None:
        inject(simulator, Fault.LOSE_REPLY, silent, times=2)

    async def main() -> None:
        async with virtual_broker(prepare=prepare) as broker:
            session, seen = broker.session, follow(broker.session)
            await until(session, SessionState.HANDSHAKING)
            with pytest.raises(SessionSyncing):
                session.connection()
            await session.wait_until_ready(60)
            begun = [when for when, state in seen if state is SessionState.HANDSHAKING]
            given_up = [when for when, state in seen if state is SessionState.RECONNECTING]
            assert [round(end - begin) for begin, end in zip(begun, given_up, strict=False)] == [10, 10]
            assert session.tallies.value(SYNC_TIMEOUTS) == 2
            assert session.epoch == 1

    virtually(main)


@pytest.mark.parametrize(
    ("end", "part"), [(62, "reqPositions"), (53, "openOrders"), (55, "reqExecutions"), (102, "completedOrders")]
)
async def test_C06_an_answer_that_never_ends(tmp_path: Path, end: int, part: str) -> None:
    """Positions, open orders, executions or completed orders are told without the message that ends them.

    SYNCING: no order is sent, an unfinished list is an error and never an empty one; quotes flow; the rest is asked for
    again on the same connection until it ends.
    """
    simulator = Simulator(seed=7)
    inject(simulator, Fault.LOSE_REPLY, end, times=None)
    timings = replace(FAST, request_timeout_s=1.0, resync_after_s=0.2)
    desk_timings = DeskTimings(evidence_timeout_s=0.5)
    chosen = {"session_timings": timings, "desk_timings": desk_timings}
    async with gateway_at(simulator, tmp_path, **chosen) as gateway:
        session = gateway.running.session
        await eventually(lambda: session.status.serves_data)
        assert session.status.state is SessionState.SYNCING
        with pytest.raises(Unavailable) as refused:
            await place(gateway)
        assert refused.value.reason == "SESSION_SYNCING"
        assert simulator.frames_received(PLACE) == 0
        positions = gateway.client.account.GetPositions(account_pb.GetPositionsRequest())
        if part == "reqPositions":
            with pytest.raises((Unavailable, TimedOut)) as unfinished:
                await positions
            assert unfinished.value.reason in ("SESSION_SYNCING", "BROKER_TIMEOUT")
        else:
            assert (await positions).positions
        request = market_pb.GetQuoteRequest(instrument=stock("AAPL"))
        assert (await gateway.client.market_data.GetQuote(request)).quote.HasField("close_price")
        assert await health(gateway, "OrdersService") == health_pb2.HealthCheckResponse.NOT_SERVING
        assert await health(gateway, "MarketDataService") == health_pb2.HealthCheckResponse.SERVING
        assert tally(gateway, SYNC_INCOMPLETE, part) >= 1
        simulator.faults.clear()
        await session.wait_until_ready(20)
        assert session.epoch == 1
        assert (await place(gateway)).order_id


@pytest.mark.parametrize("quiet_s", [0.0, 7.0, 14.0])
def test_C09_a_peer_that_falls_silent(quiet_s: float) -> None:
    """TWS neither reads nor writes any more, and the connection stays open.

    RECONNECTING within 40 s of its last byte, whenever in the rhythm of the heartbeat that was.
    """

    async def main() -> None:
        async with virtual_broker() as broker:
            session, seen = broker.session, follow(broker.session)
            await session.wait_until_ready(20)
            instrument = await broker.contracts.resolve(AAPL)
            asyncio.get_running_loop().call_later(16 + quiet_s, inject, broker.simulator, Fault.HALF_OPEN)
            await broker.market_data.acquire(instrument)
            await until(session, SessionState.RECONNECTING)
            silent_at = 16 + quiet_s
            (lost_at,) = (when for when, state in seen if state is SessionState.RECONNECTING)
            assert 29 < lost_at - silent_at <= 40
            assert session.tallies.value(HEARTBEAT_MISSES) >= 2

    virtually(main)


def test_C10_the_time_is_not_told_while_ticks_flow() -> None:
    """TWS takes every question for its time and answers none, while ticks flow; later they stop as well.

    READY while anything comes, though misses are counted; RECONNECTING once there is nothing but silence.
    """

    async def main() -> None:
        async with virtual_broker() as broker:
            session = broker.session
            await session.wait_until_ready(20)
            await asyncio.sleep(20)
            assert session.tallies.value(HEARTBEAT_MISSES) == 0
            line = await broker.market_data.acquire(await broker.contracts.resolve(AAPL))
            inject(broker.simulator, Fault.LOSE, TIME, times=None)
            await asyncio.sleep(600)
            assert session.status.state is SessionState.READY
            assert session.epoch == 1
            assert session.tallies.value(HEARTBEAT_MISSES) > 2
            broker.market_data.release(line)
            await until(session, SessionState.RECONNECTING, 60)

    virtually(main)


def test_C20_a_client_id_that_is_in_use() -> None:
    """326, five times; then the client id is free.

    The reason in words meanwhile, attempts at most 30 s apart, and the very same client id in the end.
    """

    def prepare(simulator: Simulator) -> None:
        inject(simulator, Fault.CLIENT_ID_IN_USE, times=5)

    async def main() -> None:
        async with virtual_broker(prepare=prepare) as broker:
            session, seen = broker.session, follow(broker.session)
            await until(session, SessionState.RECONNECTING)
            assert "326" in session.status.message
            await session.wait_until_ready(300)
            assert session.tallies.value(CONNECT_FAILURES, "326") == 5
            assert max(waits_between_attempts(seen)) <= 30.1
            assert [each.client_id for each in broker.simulator.gateway.sessions] == [1]

    virtually(main)


@pytest.mark.parametrize(("refused_s", "ended"), [(300.0, False), (3000.0, True)])
def test_C21_tws_moves_to_another_port(refused_s: float, ended: bool) -> None:
    """1300, the connection ends, and nobody is at the configured port for 5 minutes, or for longer than 10.

    RECONNECTING to the configured port and none other; READY when it is back, FATAL after 10 minutes of refusals.
    """

    async def main() -> None:
        async with virtual_broker() as broker:
            session = broker.session
            fatal: list[SessionEvent] = []
            session.on_event(lambda event: fatal.append(event) if event.kind == "session.fatal" else None)
            await session.wait_until_ready(20)
            moved_at = asyncio.get_running_loop().time()
            inject(broker.simulator, Fault.REFUSE_CONNECTIONS, duration_s=refused_s)
            inject(broker.simulator, Fault.PORT_CHANGED, value="4444")
            await until(session, SessionState.RECONNECTING)
            assert "1300" in session.status.message
            await until(session, SessionState.FATAL if ended else SessionState.READY)
            assert bool(fatal) is ended
            assert str(session.address) == str(broker.address)
            if ended:
                assert 600 <= asyncio.get_running_loop().time() - moved_at < 640
                with pytest.raises(SessionEnded):
                    session.connection()
                tried = session.tallies.value(CONNECT_FAILURES, "refused")
                await asyncio.sleep(600)
                assert session.tallies.value(CONNECT_FAILURES, "refused") == tried

    virtually(main)


def test_C22_too_many_messages_in_a_second() -> None:
    """Error 100 comes for a request: IBKR calls this program too fast, and is about to disconnect it.

    The request fails, nothing is sent for two seconds, not even an order, and the next epoch begins.
    """

    async def main() -> None:
        async with virtual_broker() as broker:
            session = broker.session
            await session.wait_until_ready(20)
            connection = session.connection()
            inject(broker.simulator, Fault.TOO_FAST, CONTRACT)
            with pytest.raises(BrokerDisconnected):
                await broker.contracts.resolve(AAPL)
            assert connection.closed.is_set()
            assert session.tallies.value(PACING_VIOLATIONS, "100") == 1
            with pytest.raises(OrderRate):
                await broker.pacer.take(Priority.ORDER, 0.25)
            await until(session, SessionState.RECONNECTING)
            assert "100" in session.status.message
            await session.wait_until_ready(60)
            assert session.epoch == 2
            assert (await broker.contracts.resolve(AAPL)).con_id
            # Were TWS to leave it at the words, the gateway would go by itself.
            connection = session.connection()
            broker.simulator.notify(100, "Max rate of messages per second has been exceeded")
            await until(session, SessionState.RECONNECTING, 1)
            assert connection.closed.is_set()

    virtually(main)


def test_C28_a_connection_that_breaks_again_and_again() -> None:
    """Each of fifty connections breaks as soon as it is READY.

    Attempts come further and further apart, up to 30 s; a line that is followed flows again after the last.
    """

    async def main() -> None:
        async with virtual_broker() as broker:
            session, seen = broker.session, follow(broker.session)
            await session.wait_until_ready(20)
            line = await broker.market_data.acquire(await broker.contracts.resolve(AAPL))
            for _ in range(50):
                await session.wait_until_ready(120)
                broker.simulator.drop_connections()
                await until(session, SessionState.RECONNECTING)
            waits = waits_between_attempts(seen)
            assert len(waits) == 49
            assert max(waits[:3]) < 4.1
            assert 20 < max(waits[10:]) <= 30.1
            await session.wait_until_ready(120)
            await asyncio.sleep(1)
            assert session.tallies.value(RECONNECTS) == 50
            assert line.connection is session.connection()

    virtually(main)


async def test_C28_nothing_is_left_of_connections_that_broke(gateway: Gateway) -> None:
    """Fifty connections break in a few seconds, with a stream open.

    The stream goes on in the last epoch; no task, no file and no connection of the earlier ones is left.
    """
    session = gateway.running.session
    stream = gateway.client.market_data.StreamQuotes(market_pb.StreamQuotesRequest(instruments=[stock("AAPL")]))
    events: list[market_pb.QuoteEvent] = []

    async def read() -> None:
        async for response in stream:
            events.extend(response.events)

    reading = asyncio.ensure_future(read())
    await eventually(lambda: any(event.HasField("quote") for event in events))

    async def flap(times: int) -> None:
        for _ in range(times):
            epoch = session.epoch
            gateway.simulator.drop_connections()
            await eventually(lambda epoch=epoch: session.epoch > epoch and session.status.state.is_linked)

    def held() -> tuple[int, int, int]:
        gc.collect()
        connections = sum(isinstance(each, Connection) for each in gc.get_objects())
        return len(asyncio.all_tasks()), len(list(Path("/proc/self/fd").iterdir())), connections

    await flap(5)
    before = held()
    await flap(50)
    seen = len(events)
    await eventually(lambda: any(event.HasField("quote") for event in events[seen:]))
    await eventually(lambda: all(now <= then + 2 for now, then in zip(held(), before, strict=True)))
    assert tally(gateway, RECONNECTS) == session.epoch - 1
    assert not reading.done()
    reading.cancel()


async def test_C30_a_clock_that_is_wrong(make_gateway: MakeGateway) -> None:
    """The clock of TWS is 90 s ahead of this machine's, then right again.

    WatchSession says CLOCK_SKEW and by how much, while READY; GetServerTime has both clocks; then it says nothing more.
    """
    gateway = await make_gateway(session_timings=replace(FAST, heartbeat_interval_s=0.1))
    inject(gateway.simulator, Fault.CLOCK_SKEW, value="90")
    skewed = False
    async with asyncio.timeout(20):
        async for response in gateway.client.gateway.WatchSession(gateway_pb.WatchSessionRequest()):
            status = response.status
            if not skewed and "CLOCK_SKEW" in status.message:
                skewed = True
                assert status.state == common_pb2.SESSION_STATE_READY
                assert abs(status.clock_skew.seconds - 90) <= 1
                assert abs(tally(gateway, CLOCK_SKEW_SECONDS) - 90) < 2
                assert tally(gateway, HEARTBEAT_SECONDS) > 0
                both = await gateway.client.gateway.GetServerTime(gateway_pb.GetServerTimeRequest())
                assert 88 < both.broker_time.seconds - both.gateway_time.seconds < 92
                inject(gateway.simulator, Fault.CLOCK_SKEW, value="0")
            elif skewed and response.HasField("status") and not status.message:
                break
    assert abs(tally(gateway, CLOCK_SKEW_SECONDS)) < 2


def test_C30_a_request_that_needs_no_clock_is_not_disturbed_by_one() -> None:
    """The clock of TWS is an hour behind.

    Nothing but the words and the figure of the skew change: READY, one epoch, and no heartbeat counts as missed.
    """

    async def main() -> None:
        async with virtual_broker() as broker:
            session = broker.session
            await session.wait_until_ready(20)
            inject(broker.simulator, Fault.CLOCK_SKEW, value="-3600")
            await asyncio.sleep(120)
            assert session.status.clock_skew is not None
            assert abs(session.status.clock_skew.total_seconds() + 3600) <= 1
            assert session.status.reason == ""
            assert (session.epoch, session.status.state) == (1, SessionState.READY)
            assert session.tallies.value(HEARTBEAT_MISSES) == 0

    virtually(main)
