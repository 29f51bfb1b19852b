"""The supervised session: connecting, losing, coming back."""

from __future__ import annotations

import asyncio

import pytest
from ibkr_gateway_server.broker.connection import BrokerAddress, Connection
from ibkr_gateway_server.broker.ib import LIBRARY_NAME
from ibkr_gateway_server.broker.pacing import Pacer
from ibkr_gateway_server.broker.session import Session
from ibkr_gateway_server.domain.errors import BrokerDisconnected, BrokerLinkDown, BrokerTimeout
from ibkr_gateway_server.domain.sessions import SessionState
from ibkr_gateway_server.simulator import Simulator

from tests.conftest import FAST, eventually
from tests.server.broker.conftest import Broker, running_session


def lonely(port: int, client_id: int = 1) -> Session:
    return Session(BrokerAddress("127.0.0.1", port), client_id, Pacer(asyncio.get_running_loop().time), FAST)


async def test_one_of_the_two_libraries_serves_as_codec(broker: Broker) -> None:
    assert LIBRARY_NAME in ("ib_async", "ib_insync")
    assert broker.session.connection().server_version in (176, 178)


async def test_reads_say_disconnected_while_nothing_listens_and_work_once_something_does(unused_tcp_port: int) -> None:
    session = lonely(unused_tcp_port)
    async with running_session(session):
        await eventually(lambda: session.status.state is SessionState.RECONNECTING)
        with pytest.raises(BrokerDisconnected):
            session.connection()
        assert session.status.next_attempt_time is not None
        async with Simulator().listen("127.0.0.1", unused_tcp_port):
            await session.wait_until_ready(10)
            assert session.epoch == 1


async def test_a_lost_connection_is_told_once_and_comes_back_as_a_new_epoch(broker: Broker) -> None:
    lost: list[str] = []
    broker.session.on_lost(lost.append)
    broker.simulator.drop_connections()
    await eventually(lambda: broker.session.epoch == 2 and broker.session.status.state is SessionState.READY)
    assert lost == ["BROKER_DISCONNECTED"]


async def test_a_request_under_way_fails_when_the_connection_is_lost(broker: Broker) -> None:
    connection = broker.session.connection()
    waiting = asyncio.ensure_future(connection.ask("never answered", lambda _id: None, timeout_s=10))
    await asyncio.sleep(0)
    broker.simulator.drop_connections()
    with pytest.raises(BrokerDisconnected):
        await waiting


async def test_a_request_without_an_answer_times_out_and_is_cancelled_at_tws(broker: Broker) -> None:
    cancelled: list[int] = []
    with pytest.raises(BrokerTimeout):
        await broker.session.connection().ask(
            "never answered", lambda _id: None, timeout_s=0.02, cancel=cancelled.append
        )
    assert len(cancelled) == 1


async def test_callers_of_a_request_without_an_id_share_one(broker: Broker) -> None:
    connection, before = broker.session.connection(), broker.simulator.frames_received(49)
    answers = await asyncio.gather(
        *(connection.ask_shared("currentTime", connection.client.reqCurrentTime, timeout_s=5) for _ in range(5))
    )
    assert len({tuple(answer) for answer in answers}) == 1
    assert broker.simulator.frames_received(49) == before + 1


async def test_a_client_id_in_use_is_waited_for_and_never_replaced(broker: Broker) -> None:
    second = lonely(broker.address.port)
    async with running_session(second):
        await eventually(lambda: "326" in second.status.message)
        assert second.client_id == 1
        assert second.epoch == 0


def notice(connection: Connection, code: int, text: str) -> None:
    connection.callbacks.error(-1, code, text)


async def test_a_lost_link_refuses_requests_until_it_is_restored(broker: Broker) -> None:
    connection = broker.session.connection()
    notice(connection, 1100, "Connectivity between IBKR and Trader Workstation has been lost.")
    assert broker.session.status.state is SessionState.LINK_DOWN
    with pytest.raises(BrokerLinkDown):
        broker.session.linked()
    assert broker.session.connection() is connection
    notice(connection, 1102, "Connectivity has been restored - data maintained.")
    assert broker.session.linked() is connection


async def test_a_farms_recovery_does_not_restore_a_lost_link(broker: Broker) -> None:
    connection = broker.session.connection()
    notice(connection, 1100, "lost")
    notice(connection, 2104, "Market data farm connection is OK:usfarm")
    assert broker.session.status.state is SessionState.LINK_DOWN


async def test_a_broken_farm_degrades_the_session_by_name(broker: Broker) -> None:
    connection = broker.session.connection()
    notice(connection, 2103, "Market data farm connection is broken:usfarm")
    assert broker.session.status.state is SessionState.FARM_DEGRADED
    assert "usfarm" in broker.session.status.message
    notice(connection, 2104, "Market data farm connection is OK:usfarm")
    assert broker.session.status.state is SessionState.READY


async def test_repeated_loss_notices_are_one_transition(broker: Broker) -> None:
    lost: list[str] = []
    broker.session.on_lost(lost.append)
    for _ in range(833):
        notice(broker.session.connection(), 1100, "lost")
    assert lost == ["BROKER_LINK_DOWN"]


async def test_a_message_that_cannot_be_read_is_counted_and_told(broker: Broker) -> None:
    told: list[int] = []
    broker.session.on_undecodable(lambda: told.append(1))
    payload = b"11\x00-1\0not a number\0"
    broker.session.connection().reader.data_received(len(payload).to_bytes(4, "big") + payload)
    assert broker.session.undecodable_count == 1
    assert told == [1]


async def test_the_servers_time_costs_one_message_a_second(broker: Broker) -> None:
    before = broker.simulator.frames_received(49)
    first, _ = await broker.session.server_time()
    second, _ = await broker.session.server_time()
    assert second >= first
    assert broker.simulator.frames_received(49) == before + 1


async def test_changes_begin_with_the_status_and_follow_it(broker: Broker) -> None:
    seen = []
    async for status in broker.session.changes():
        seen.append(status.state)
        if len(seen) == 1:
            notice(broker.session.connection(), 1100, "lost")
        if status.state is SessionState.LINK_DOWN:
            break
    assert seen == [SessionState.READY, SessionState.LINK_DOWN]
