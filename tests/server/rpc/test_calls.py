"""The wrapper around every RPC, on a real grpc.aio server with servicers that misbehave."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from datetime import UTC, datetime

import grpc
import pytest
from ibkr_gateway import AsyncGateway, NotServed, TimedOut, Unavailable
from ibkr_gateway.connection import OPTIONS as CLIENT_OPTIONS
from ibkr_gateway.v1 import gateway_service_pb2 as pb
from ibkr_gateway_server.domain.errors import AuditUnavailable
from ibkr_gateway_server.logs import LineRate
from ibkr_gateway_server.metrics import Metrics
from ibkr_gateway_server.rpc import calls
from ibkr_gateway_server.rpc.calls import Call, CallWrapper
from ibkr_gateway_server.rpc.server import OPTIONS as SERVER_OPTIONS
from ibkr_gateway_server.rpc.server import GatewayServer

from tests.conftest import eventually

SERVICE = pb.DESCRIPTOR.services_by_name["GatewayService"]


class Misbehaving:
    """Each RPC goes wrong in a way of its own."""

    def __init__(self) -> None:
        self.cleaned: list[str] = []
        self.deadlines: list[float] = []

    async def GetServerInfo(self, _request: pb.GetServerInfoRequest, _call: Call) -> pb.GetServerInfoResponse:
        raise AuditUnavailable

    async def GetServerTime(self, _request: pb.GetServerTimeRequest, call: Call) -> pb.GetServerTimeResponse:
        self.deadlines.append(call.remaining_s)
        try:
            await asyncio.Event().wait()
        finally:
            self.cleaned.append("GetServerTime")
        raise AssertionError

    async def WatchSession(
        self, _request: pb.WatchSessionRequest, _call: Call
    ) -> AsyncIterator[pb.WatchSessionResponse]:
        try:
            for sequence in range(1, 1_000_000):
                yield pb.WatchSessionResponse(sequence=sequence)
                await asyncio.sleep(0.001)
        finally:
            await asyncio.sleep(0.05)
            self.cleaned.append("WatchSession")


@asynccontextmanager
async def serving(longest_s: float = 30.0) -> AsyncIterator[tuple[AsyncGateway, Misbehaving, Metrics, GatewayServer]]:
    metrics, servicer = Metrics(), Misbehaving()
    server = GatewayServer(CallWrapper(metrics, longest_s, is_simulation=False))
    server.add(SERVICE, servicer)
    port = server.bind("127.0.0.1", 0)
    await server.start()
    async with grpc.aio.insecure_channel(f"127.0.0.1:{port}") as channel:
        try:
            yield AsyncGateway(channel), servicer, metrics, server
        finally:
            await server.stop(lambda _deadline: None, 1.0)


def counted(metrics: Metrics) -> dict[tuple[str, str], float]:
    return {
        (value.labels["endpoint"].rpartition("/")[2], value.labels["status"]): value.value
        for value in metrics.snapshot().counters
        if value.name == "api_requests_total" and value.value
    }


async def test_a_domain_error_is_its_status_and_counted_under_it() -> None:
    async with serving() as (client, _, metrics, _server):
        with pytest.raises(Unavailable) as failed:
            await client.gateway.GetServerInfo(pb.GetServerInfoRequest())
    assert failed.value.reason == "AUDIT_UNAVAILABLE"
    assert counted(metrics) == {("GetServerInfo", "UNAVAILABLE"): 1}


async def test_an_rpc_without_a_method_says_that_it_is_not_served() -> None:
    async with serving() as (client, _, metrics, _):
        with pytest.raises(NotServed) as refused:
            await client.gateway.GetUsage(pb.GetUsageRequest())
    assert refused.value.reason == "NOT_IMPLEMENTED"
    assert counted(metrics) == {("GetUsage", "UNIMPLEMENTED"): 1}


async def test_the_server_ends_a_call_whose_caller_set_no_deadline() -> None:
    async with serving(longest_s=0.1) as (client, servicer, _, _server):
        with pytest.raises(TimedOut) as failed:
            await client.gateway.GetServerTime(pb.GetServerTimeRequest())
    assert failed.value.reason == "BROKER_TIMEOUT"
    assert servicer.cleaned == ["GetServerTime"]


async def test_a_callers_deadline_reaches_the_servicer_less_the_time_to_answer() -> None:
    async with serving() as (client, servicer, _, _server):
        with pytest.raises(TimedOut):
            await client.gateway.GetServerTime(pb.GetServerTimeRequest(), timeout=0.3)
    assert 0 < servicer.deadlines[0] < 0.3


@pytest.mark.parametrize("timeout", [None, 0.1])
async def test_a_stream_that_its_reader_leaves_is_cleaned_up(timeout: float | None) -> None:
    async with serving() as (client, servicer, metrics, _server):
        stream = client.gateway.WatchSession(pb.WatchSessionRequest(), timeout=timeout)
        try:
            async for _ in stream:
                if timeout is None:
                    break
        except TimedOut:
            pass
        await stream.aclose()
        await eventually(lambda: servicer.cleaned == ["WatchSession"])
        await eventually(lambda: counted(metrics) == {("WatchSession", "CANCELLED"): 1})


async def test_stopping_waits_for_the_clean_up_of_what_it_cuts_off() -> None:
    async with serving() as (client, servicer, _, server):
        stream = aiter(client.gateway.WatchSession(pb.WatchSessionRequest()))
        await anext(stream)
        deadlines: list[datetime] = []
        await server.stop(deadlines.append, 0.2)
        assert servicer.cleaned == ["WatchSession"]
        assert deadlines[0] < datetime.now(UTC)


async def test_calls_after_the_stop_began_are_refused() -> None:
    async with serving() as (client, _, _metrics, server):
        server._wrapper.drain()
        with pytest.raises(Unavailable) as refused:
            await client.gateway.GetHealth(pb.GetHealthRequest())
        assert refused.value.reason == "SHUTTING_DOWN"


def test_reads_in_plenty_are_logged_so_many_times_a_second_and_the_rest_is_counted() -> None:
    lines = LineRate(20)
    assert [lines.has_room(7.5) for _ in range(50)] == [True] * 20 + [False] * 30
    assert lines.has_room(8.0)
    assert lines.left_out() == {"unlogged_count": 30}
    assert lines.left_out() == {}


def test_commands_are_logged_each() -> None:
    lines = LineRate(None)
    assert all(lines.has_room(7.5) for _ in range(500))


def test_grpcs_own_abort_is_no_defect() -> None:
    with pytest.raises(grpc.aio.AbortError):
        calls._known(grpc.aio.AbortError())


def test_the_client_pings_no_more_often_than_the_server_allows() -> None:
    client, server = dict(CLIENT_OPTIONS), dict(SERVER_OPTIONS)
    assert client["grpc.keepalive_time_ms"] >= server["grpc.http2.min_ping_interval_without_data_ms"]
    assert server["grpc.keepalive_permit_without_calls"] == 1
    assert client["grpc.max_receive_message_length"] == server["grpc.max_send_message_length"]
