"""Health of each service by itself, and the trading status as it changes."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path

import grpc
import pytest
from google.protobuf.duration_pb2 import Duration
from grpc_health.v1 import health_pb2, health_pb2_grpc
from ibkr_gateway.v1 import gateway_service_pb2 as pb
from ibkr_gateway_server.rpc.server import HISTORY, LIVENESS, SESSION
from ibkr_gateway_server.simulator import Fault, Rule
from ibkr_gateway_server.trading.guard import Mode, TradingRules

from tests.conftest import Gateway, MakeGateway, eventually

SERVING, NOT_SERVING = health_pb2.HealthCheckResponse.SERVING, health_pb2.HealthCheckResponse.NOT_SERVING
SERVICES = ("MarketData", "ReferenceData", "Account", "Orders", "Gateway", "Audit", "Simulation")


@asynccontextmanager
async def health_of(gateway: Gateway) -> AsyncIterator[health_pb2_grpc.HealthStub]:
    async with grpc.aio.insecure_channel(gateway.running.target) as channel:
        yield health_pb2_grpc.HealthStub(channel)


async def unwell(health: health_pb2_grpc.HealthStub) -> set[str]:
    """Of all names those that are not served."""
    found = set()
    names = {name: f"ibkr_gateway.v1.{name}Service" for name in SERVICES}
    for name, full in {**names, "": "", LIVENESS: LIVENESS, "Session": SESSION, "History": HISTORY}.items():
        if (await health.Check(health_pb2.HealthCheckRequest(service=full))).status != SERVING:
            found.add(name)
    return found


async def eventually_unwell(health: health_pb2_grpc.HealthStub, *names: str) -> None:
    async with asyncio.timeout(15):
        while await unwell(health) != set(names):
            await asyncio.sleep(0.01)


async def test_all_is_well(gateway: Gateway) -> None:
    async with health_of(gateway) as health:
        await eventually_unwell(health)


async def test_a_broken_farm_leaves_everything_serving(gateway: Gateway) -> None:
    async with health_of(gateway) as health:
        gateway.simulator.inject(Rule(Fault.FARM_BROKEN, value="market"))
        await eventually(lambda: gateway.running.session.status.state == "FARM_DEGRADED")
        await eventually_unwell(health)


async def test_without_the_link_accounts_answer_and_data_and_orders_do_not(gateway: Gateway) -> None:
    async with health_of(gateway) as health:
        gateway.simulator.inject(Rule(Fault.LINK_LOST))
        await eventually_unwell(health, "MarketData", "ReferenceData", "Orders", "History")
        gateway.simulator.inject(Rule(Fault.LINK_RESTORED))
        await eventually_unwell(health)


async def test_without_tws_the_process_and_its_record_are_well(gateway: Gateway) -> None:
    async with health_of(gateway) as health:
        gateway.simulator.inject(Rule(Fault.REFUSE_CONNECTIONS))
        gateway.simulator.drop_connections()
        away = ("MarketData", "ReferenceData", "Account", "Orders", "Session", "History")
        await eventually_unwell(health, *away)
        gateway.simulator.gateway.faults.clear()
        await eventually_unwell(health)


async def test_without_a_record_only_orders_are_unwell(gateway: Gateway) -> None:
    async with health_of(gateway) as health:
        gateway.running.desk.recorder.is_healthy = False
        await eventually_unwell(health, "Orders")
        gateway.running.desk.recorder.is_healthy = True
        await eventually_unwell(health)


async def test_orders_that_are_simulated_are_served(make_gateway: MakeGateway) -> None:
    gateway = await make_gateway(orders_enabled="false")
    async with health_of(gateway) as health:
        await eventually_unwell(health)
    status = (await gateway.client.gateway.GetTradingStatus(pb.GetTradingStatusRequest())).status
    assert [blocker.reason for blocker in status.blockers] == ["TRADING_DISABLED"]
    assert not status.can_send_orders


async def test_health_is_pushed_to_who_watches_it(gateway: Gateway) -> None:
    async with health_of(gateway) as health:
        request = health_pb2.HealthCheckRequest(service="ibkr_gateway.v1.OrdersService")
        watching = aiter(health.Watch(request))
        while (await anext(watching)).status != SERVING:
            pass
        gateway.running.desk.recorder.is_healthy = False
        assert (await anext(watching)).status == NOT_SERVING
        gateway.running.desk.recorder.is_healthy = True
        assert (await anext(watching)).status == SERVING


async def test_the_trading_status_is_told_as_it_changes_with_the_time_since_when(gateway: Gateway) -> None:
    changes = aiter(gateway.client.gateway.WatchTradingStatus(pb.WatchTradingStatusRequest()))
    first = (await anext(changes)).status
    assert first.can_send_orders
    gateway.simulator.inject(Rule(Fault.LINK_LOST))
    second = await anext(changes)
    (blocker,) = second.status.blockers
    assert blocker.reason == "BROKER_LINK_DOWN"
    # One that stays keeps its time, whatever else comes.
    gateway.running.desk.recorder.is_healthy = False
    asked = (await gateway.client.gateway.GetTradingStatus(pb.GetTradingStatusRequest())).status
    assert asked.blockers
    gateway.running.desk.recorder.is_healthy = True
    gateway.simulator.inject(Rule(Fault.LINK_RESTORED))
    while not (last := await anext(changes)).status.can_send_orders:
        pass
    assert last.sequence > second.sequence


async def test_a_blocker_that_stays_keeps_its_time(gateway: Gateway) -> None:
    async def blocked() -> pb.TradingBlocker:
        status = (await gateway.client.gateway.GetTradingStatus(pb.GetTradingStatusRequest())).status
        (blocker,) = status.blockers
        return blocker

    gateway.simulator.inject(Rule(Fault.LINK_LOST))
    await eventually(lambda: gateway.running.session.status.state == "LINK_DOWN")
    first = await blocked()
    assert first.HasField("since_time")
    assert (await blocked()).since_time == first.since_time


async def test_the_override_file_is_looked_at(gateway: Gateway, tmp_path: Path) -> None:
    override = tmp_path / "override"
    gateway.running.desk.guard.rules = TradingRules(mode=Mode.LIVE, orders_enabled=True, override_file=override)
    reasons = []
    async for change in gateway.client.gateway.WatchTradingStatus(pb.WatchTradingStatusRequest()):
        reasons.append({blocker.reason for blocker in change.status.blockers})
        if "LIVE_NOT_AUTHORIZED" in reasons[-1]:
            override.touch(0o600)
        elif change.status.has_live_override:
            break
    # A simulated account is none that a live gateway sends to; that stays.
    assert reasons[-1] == {"ACCOUNT_MISMATCH"}


async def test_a_stream_of_the_trading_status_has_heartbeats_and_ends_with_the_server(gateway: Gateway) -> None:
    request = pb.WatchTradingStatusRequest(heartbeat_interval=Duration(seconds=1))
    changes = aiter(gateway.client.gateway.WatchTradingStatus(request))
    while not (await anext(changes)).HasField("heartbeat"):
        pass


@pytest.mark.parametrize("seconds", [0, 61])
async def test_a_heartbeat_that_is_too_often_or_too_seldom_is_refused(gateway: Gateway, seconds: int) -> None:
    request = pb.WatchTradingStatusRequest(heartbeat_interval=Duration(seconds=seconds))
    with pytest.raises(Exception, match="heartbeat_interval"):
        await anext(aiter(gateway.client.gateway.WatchTradingStatus(request)))
