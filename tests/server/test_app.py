"""The server as a program: how it starts, refuses to start, loses its broker and stops."""

from __future__ import annotations

import asyncio
import json
import os
import socket
import sqlite3
import subprocess
import sys
from pathlib import Path

import grpc
import pytest
from ibkr_gateway import AsyncGateway, Unavailable, connect, new_client_order_id, stock
from ibkr_gateway.v1 import common_pb2
from ibkr_gateway.v1 import gateway_service_pb2 as gateway_pb
from ibkr_gateway.v1 import market_data_service_pb2 as market_pb
from ibkr_gateway.v1 import orders_service_pb2 as orders_pb
from ibkr_gateway.v1 import reference_data_service_pb2 as reference_pb
from ibkr_gateway_server.app import running
from ibkr_gateway_server.settings import load_settings
from ibkr_gateway_server.simulator import Simulator

from tests.conftest import FAST, Gateway, MakeGateway, program

SERVER, SIMULATOR = "ibkr_gateway_server", "ibkr_gateway_server.simulator"


def start(cwd: Path, *arguments: str, **environment: str) -> subprocess.CompletedProcess[str]:
    """A start that is expected to end by itself."""
    kept = {name: os.environ[name] for name in ("PATH", "HOME") if name in os.environ}
    command = [sys.executable, "-m", SERVER, "--port", "0", *arguments]
    return subprocess.run(command, capture_output=True, text=True, cwd=cwd, env={**kept, **environment}, timeout=30)


@pytest.mark.parametrize(
    ("environment", "named"),
    [
        ({"TRADING_MODE": "Live"}, "TRADING_MODE"),
        ({"ORDERS_ENABLED": "yes"}, "ORDERS_ENABLED"),
        ({"TRADING_MODE": "live", "ORDERS_ENABLED": "true"}, "LIVE_TRADING_OVERRIDE_FILE"),
        ({"GRPC_HOST": "0.0.0.0"}, "GRPC_HOST"),
    ],
)
def test_settings_that_are_not_allowed_stop_the_start_with_78(
    tmp_path: Path, environment: dict[str, str], named: str
) -> None:
    done = start(tmp_path, **environment)
    assert done.returncode == 78
    assert named in done.stderr
    assert "Traceback" not in done.stderr
    assert not (tmp_path / "data").exists()


@pytest.mark.parametrize("flag", ["--port", "--broker-port"])
def test_a_port_in_use_stops_the_start_with_69_and_its_name(tmp_path: Path, flag: str) -> None:
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        taken.listen()
        port = str(taken.getsockname()[1])
        done = start(tmp_path, "--mode", "simulation", flag, port)
    assert done.returncode == 69
    assert port in done.stderr
    assert "_PORT" in done.stderr
    assert "Traceback" not in done.stderr


def test_a_record_that_is_no_database_stops_the_start_with_65_and_stays_as_it_is(tmp_path: Path) -> None:
    record = tmp_path / "audit.db"
    record.touch(0o600)
    record.write_bytes(b"this is not a database, but it may be evidence" * 100)
    before = record.read_bytes()
    done = start(tmp_path, "--mode", "simulation", "--audit-db", str(record))
    assert done.returncode == 65
    assert "AUDIT_DB_PATH" in done.stderr
    assert record.read_bytes() == before


async def test_a_server_that_starts_again_asks_for_no_contract_of_the_day_again(tmp_path: Path) -> None:
    simulator = Simulator(seed=7)
    request = reference_pb.ResolveContractRequest(instrument=stock("AAPL"))
    async with simulator.listen() as address:
        chosen = {"ibkr_gateway_port": address.port, "grpc_port": 0, "audit_db_path": tmp_path / "audit.db"}
        settings = load_settings(chosen, env_file=None)
        for _ in range(2):
            async with running(settings, session_timings=FAST, drain_s=2.0) as started:
                await started.session.wait_until_ready(10)
                async with connect(started.target, timeout_s=10.0) as client:
                    answer = await client.reference_data.ResolveContract(request)
                assert answer.instrument.con_id == 265598
    assert simulator.frames_received(9) == 1
    assert (tmp_path / "audit.contracts").exists()


async def test_simulated_contracts_are_not_kept(gateway: Gateway, tmp_path: Path) -> None:
    await gateway.client.reference_data.ResolveContract(reference_pb.ResolveContractRequest(instrument=stock("AAPL")))
    assert not (tmp_path / "audit.contracts").exists()


async def test_log_lines_are_json_with_the_calls_id_and_no_account(tmp_path: Path) -> None:
    with program(SERVER, "--mode", "simulation", "--port", "0", cwd=tmp_path) as (process, address):
        async with connect(address) as client:
            await ready(client)
            order = orders_pb.OrderSpec(
                instrument=stock("AAPL"), side=common_pb2.SIDE_BUY, quantity="1", order_type=orders_pb.ORDER_TYPE_MKT
            )
            request = orders_pb.PlaceOrderRequest(client_order_id=new_client_order_id(), order=order)
            await client.orders.PlaceOrder(request, metadata=(("x-correlation-id", "my-call-9"),))
        process.terminate()
        _, stderr = await asyncio.to_thread(process.communicate, None, 20)
    lines = [json.loads(line) for line in stderr.splitlines()]
    mine = [line for line in lines if line.get("correlation_id") == "my-call-9"]
    assert {"order sent", "rpc"} <= {line["message"] for line in mine}
    assert "DU1234567" not in stderr


async def ready(client: AsyncGateway) -> None:
    async with asyncio.timeout(20):
        async for response in client.gateway.WatchSession(gateway_pb.WatchSessionRequest()):
            if response.status.state == common_pb2.SESSION_STATE_READY:
                return


async def test_killing_the_simulator_is_a_gap_and_everything_resumes_when_it_is_back(
    tmp_path: Path, unused_tcp_port: int
) -> None:
    broker_port = str(unused_tcp_port)
    with program(SIMULATOR, "--port", broker_port, cwd=tmp_path) as (simulator, _):
        arguments = ("--mode", "paper", "--port", "0", "--broker-port", broker_port, "--log-level", "ERROR")
        with program(SERVER, *arguments, cwd=tmp_path) as (server, address):
            async with connect(address, timeout_s=5) as client, asyncio.timeout(60):
                await ready(client)
                told: list[str] = []
                stream = client.market_data.StreamQuotes(market_pb.StreamQuotesRequest(instruments=[stock("AAPL")]))
                events = aiter(stream)

                async def hear(word: str) -> None:
                    while word not in told:
                        response = await anext(events)
                        told.extend(event.WhichOneof("event") or "" for event in response.events)

                await hear("quote")
                simulator.kill()
                await hear("gap")
                with pytest.raises(Unavailable) as refused:
                    await client.market_data.GetQuote(market_pb.GetQuoteRequest(instrument=stock("AAPL")))
                assert refused.value.reason == "BROKER_DISCONNECTED"
                with program(SIMULATOR, "--port", broker_port, cwd=tmp_path):
                    await hear("resumed")
                    await ready(client)
                    quote = await client.market_data.GetQuote(market_pb.GetQuoteRequest(instrument=stock("AAPL")))
                    assert quote.quote.bid_price > 0
                    gap, resumed = told.index("gap"), told.index("resumed")
                    assert "quote" not in told[gap:resumed]
                    assert server.poll() is None


async def test_an_order_placed_before_a_kill_is_known_after_the_restart(tmp_path: Path, unused_tcp_port: int) -> None:
    key, broker_port = new_client_order_id(), str(unused_tcp_port)
    order = orders_pb.OrderSpec(
        instrument=stock("AAPL"),
        side=common_pb2.SIDE_BUY,
        quantity="10",
        order_type=orders_pb.ORDER_TYPE_LMT,
        limit_price="10.00",
    )
    request = orders_pb.PlaceOrderRequest(client_order_id=key, order=order)
    arguments = ("--mode", "paper", "--port", "0", "--broker-port", broker_port, "--log-level", "ERROR")
    with program(SIMULATOR, "--port", broker_port, cwd=tmp_path):
        with program(SERVER, *arguments, cwd=tmp_path, ORDERS_ENABLED="true") as (first, address):
            async with connect(address) as client:
                await ready(client)
                placed = (await client.orders.PlaceOrder(request)).result
            first.kill()
            first.wait(timeout=10)
        with program(SERVER, *arguments, cwd=tmp_path, ORDERS_ENABLED="true") as (_, address):
            async with connect(address) as client:
                await ready(client)
                again = (await client.orders.PlaceOrder(request)).result
                named = orders_pb.OrderKey(client_order_id=key)
                cancelled = await client.orders.CancelOrder(orders_pb.CancelOrderRequest(order=named))
    assert again.order_id == placed.order_id
    assert again.state == orders_pb.ORDER_STATE_WORKING
    assert cancelled.status.state == orders_pb.ORDER_STATE_CANCELLED
    with sqlite3.connect(tmp_path / "data" / "audit.db") as record:
        (sends,) = record.execute("SELECT count(*) FROM events WHERE kind = 'order.send'").fetchone()
    record.close()
    assert sends == 1


async def test_without_a_broker_the_server_starts_and_says_what_is_missing(
    tmp_path: Path, unused_tcp_port: int
) -> None:
    arguments = ("--port", "0", "--broker-port", str(unused_tcp_port), "--log-level", "ERROR")
    with program(SERVER, *arguments, cwd=tmp_path) as (_, address):
        async with connect(address) as client:
            health = await client.gateway.GetHealth(gateway_pb.GetHealthRequest())
            assert health.status == gateway_pb.HEALTH_STATUS_DEGRADED
            with pytest.raises(Unavailable) as refused:
                await client.market_data.GetQuote(market_pb.GetQuoteRequest(instrument=stock("AAPL")))
            assert refused.value.reason == "BROKER_DISCONNECTED"
            assert str(unused_tcp_port) in refused.value.message
            status = (await client.gateway.GetTradingStatus(gateway_pb.GetTradingStatusRequest())).status
            assert {blocker.reason for blocker in status.blockers} == {"TRADING_DISABLED", "BROKER_DISCONNECTED"}


@pytest.mark.parametrize(("set_to", "bound"), [(3, 3), (0, None)])
async def test_what_bounds_open_and_equal_orders_comes_to_the_desk(
    make_gateway: MakeGateway, set_to: int, bound: int | None
) -> None:
    gateway = await make_gateway(max_open_orders=set_to, duplicate_window=0.5)
    rules = gateway.running.desk.guard.rules
    assert (rules.max_open_orders, rules.duplicate_window_s) == (bound, 0.5)


async def test_metrics_are_there_for_prometheus_on_this_machine(make_gateway: object, unused_tcp_port: int) -> None:
    await make_gateway(metrics_port=unused_tcp_port)  # type: ignore[operator]
    reader, writer = await asyncio.open_connection("127.0.0.1", unused_tcp_port)
    writer.write(b"GET /metrics HTTP/1.0\r\n\r\n")
    text = (await reader.read()).decode()
    writer.close()
    assert "ibkr_connection_status 1.0" in text


async def test_calls_after_the_drain_began_are_refused_and_their_clean_up_is_awaited(gateway: Gateway) -> None:
    gateway.running.desk.guard.drain()
    order = orders_pb.OrderSpec(
        instrument=stock("AAPL"), side=common_pb2.SIDE_BUY, quantity="1", order_type=orders_pb.ORDER_TYPE_MKT
    )
    request = orders_pb.PlaceOrderRequest(client_order_id="a" * 16, order=order)
    with pytest.raises(Unavailable) as refused:
        await gateway.client.orders.PlaceOrder(request)
    assert refused.value.reason == "SHUTTING_DOWN"
    assert refused.value.code is grpc.StatusCode.UNAVAILABLE
