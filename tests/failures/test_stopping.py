"""The gateway is told to stop, in the middle of everything."""

from __future__ import annotations

import asyncio
import json
import signal
import sqlite3
from contextlib import closing
from pathlib import Path

import pytest
from ibkr_gateway import AsyncGateway, TimedOut, Unavailable, connect, new_client_order_id, stock
from ibkr_gateway.v1 import gateway_service_pb2 as pb
from ibkr_gateway.v1 import market_data_service_pb2 as market_pb
from ibkr_gateway.v1 import orders_service_pb2 as orders_pb
from ibkr_gateway.v1 import simulation_service_pb2 as simulation_pb
from ibkr_gateway_server.audit.store import AuditStore

from tests.conftest import program
from tests.failures.test_audit_space import order

SERVER = "ibkr_gateway_server"
ARGUMENTS = ("--mode", "simulation", "--port", "0", "--log-level", "INFO")
QUOTES = market_pb.StreamQuotesRequest(instruments=[stock("AAPL")])


async def ready(client: AsyncGateway) -> None:
    """Returns once orders can be sent."""
    async with asyncio.timeout(20):
        async for change in client.gateway.WatchTradingStatus(pb.WatchTradingStatusRequest()):
            if change.status.can_send_orders:
                return


async def unanswered(
    client: AsyncGateway, count: int, timeout_s: float
) -> list[asyncio.Future[orders_pb.PlaceOrderResponse]]:
    """Orders that TWS reads and says nothing of, with their calls, which wait for its word."""
    silence = simulation_pb.InjectFaultRequest(fault=simulation_pb.FAULT_LOSE, message_id=3, times=count)
    await client.simulation.InjectFault(silence)
    state = simulation_pb.GetStateRequest()
    before, calls = (await client.simulation.GetState(state)).order_frame_count, []
    for _ in range(count):
        request = orders_pb.PlaceOrderRequest(client_order_id=new_client_order_id(), order=order())
        calls.append(asyncio.ensure_future(client.orders.PlaceOrder(request, timeout=timeout_s)))
    async with asyncio.timeout(15):
        while (await client.simulation.GetState(state)).order_frame_count < before + count:
            await asyncio.sleep(0.01)
    return calls


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
async def test_G17_a_signal_to_stop_with_streams_and_orders_under_way(tmp_path: Path, number: signal.Signals) -> None:
    """SIGTERM, or Ctrl-C, comes with a hundred streams open, one order working and five that IBKR has not spoken of.

    New calls fail with UNAVAILABLE and SHUTTING_DOWN. Each stream has `draining` with the deadline as its last word,
    and the calls of the five answer with SENT, or their deadline passes. Orders are left as they are at IBKR, and the
    log says how many. The program ends with 0.
    """
    last_words: list[str] = []

    async def read(client: AsyncGateway, began: asyncio.Semaphore) -> None:
        word = ""
        async for response in client.market_data.StreamQuotes(QUOTES):
            if not word:
                began.release()
            word = response.events[-1].WhichOneof("event") or ""
        last_words.append(word)

    with program(SERVER, *ARGUMENTS, cwd=tmp_path) as (process, address):
        async with connect(address) as client, connect(address) as late:
            await ready(client)
            await late.gateway.GetHealth(pb.GetHealthRequest())
            working = orders_pb.PlaceOrderRequest(client_order_id=new_client_order_id(), order=order())
            await client.orders.PlaceOrder(working)
            began = asyncio.Semaphore(0)
            reading = [asyncio.ensure_future(read(client, began)) for _ in range(100)]
            for _ in reading:
                await began.acquire()
            calls = await unanswered(client, 5, timeout_s=0.8)
            process.send_signal(number)
            await asyncio.gather(*reading)
            with pytest.raises(Unavailable) as refused:
                await late.gateway.GetTradingStatus(pb.GetTradingStatusRequest())
            answers = await asyncio.gather(*calls, return_exceptions=True)
        assert last_words == ["draining"] * 100
        assert refused.value.reason in ("SHUTTING_DOWN", "")
        for answer in answers:
            if isinstance(answer, BaseException):
                assert isinstance(answer, TimedOut)
                assert answer.reason == ""
            else:
                assert answer.result.state == orders_pb.ORDER_STATE_SENT
        _, logged = await asyncio.to_thread(process.communicate, None, 20)
        assert process.returncode == 0
    (stopping,) = [line for line in map(json.loads, logged.splitlines()) if line["message"] == "stopping"]
    assert stopping["open_orders"] == 6


async def test_G18_a_second_signal_to_stop(tmp_path: Path) -> None:
    """The gateway has been told to stop and waits for calls to end, IBKR's word on an order among them; then a second
    signal comes.

    It ends at once, with 130. The record is whole, and knows the order as one that may be at IBKR.
    """
    with program(SERVER, *ARGUMENTS, cwd=tmp_path) as (process, address):
        async with connect(address) as client:
            await ready(client)
            (call,) = await unanswered(client, 1, timeout_s=30.0)
            stream = aiter(client.gateway.WatchSession(pb.WatchSessionRequest()))
            last = await anext(stream)
            process.send_signal(signal.SIGTERM)
            async for response in stream:
                last = response
            assert last.HasField("draining")
            process.send_signal(signal.SIGTERM)
            assert await asyncio.to_thread(process.wait, 5) == 130
            await asyncio.wait((call,))
    path = tmp_path / "data" / "simulation.db"
    async with AuditStore(path) as store:
        assert (await store.verify()).is_valid
    with closing(sqlite3.connect(path)) as record:
        kinds = {kind for (kind,) in record.execute("SELECT kind FROM events")}
        ((state,),) = record.execute("SELECT state FROM orders").fetchall()
    assert {"order.intent", "order.send"} <= kinds
    assert state in ("PENDING", "SENT", "UNKNOWN")
