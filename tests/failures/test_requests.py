"""Requests that are too many, too large, or no requests at all."""

from __future__ import annotations

import asyncio
import itertools
import random
import ssl
from collections.abc import Iterable
from contextlib import suppress
from typing import Any

import grpc
import pytest
from ibkr_gateway import GatewayError, InvalidRequest, connect, stock
from ibkr_gateway.errors import from_rpc_error
from ibkr_gateway.v1 import audit_service_pb2 as audit_pb
from ibkr_gateway.v1 import gateway_service_pb2 as pb
from ibkr_gateway.v1 import market_data_service_pb2 as market_pb
from ibkr_gateway.v1 import orders_service_pb2 as orders_pb
from ibkr_gateway_server.rpc.server import OPTIONS

from benchmarks.clients.http2 import Grpc
from benchmarks.clients.http2 import connect as connect_raw
from tests.conftest import Gateway, eventually
from tests.failures.test_audit_space import order

HEALTH = "/ibkr_gateway.v1.GatewayService/GetHealth"
PLACE = "/ibkr_gateway.v1.OrdersService/PlaceOrder"
STREAM = "/ibkr_gateway.v1.MarketDataService/StreamQuotes"
SUBSCRIBE = "/ibkr_gateway.v1.MarketDataService/SubscribeMarketData"
KEY = "an-order-of-its-caller"


async def check_alive(gateway: Gateway) -> None:
    """Another caller is answered, and nothing of an order has left."""
    async with connect(gateway.running.target, timeout_s=10) as other:
        assert (await other.gateway.GetHealth(pb.GetHealthRequest())).is_simulation
    assert gateway.simulator.state().order_frame_count == 0


async def answer_to(gateway: Gateway, endpoint: str, request: bytes, **how: Any) -> GatewayError:
    """How a call with these bytes is refused."""
    options = (("grpc.max_metadata_size", 2**24), ("grpc.absolute_max_metadata_size", 2**24))
    async with grpc.aio.insecure_channel(gateway.running.target, options=options) as channel:
        call = channel.stream_stream(endpoint)(iter([request]), timeout=10, **how)
        with pytest.raises(grpc.aio.AioRpcError) as refused:
            await call.read()
    return from_rpc_error(refused.value)


def open_streams(gateway: Gateway) -> float:
    """How many streams are being served."""
    return sum(each.value for each in gateway.running.metrics.snapshot().gauges if each.name == "open_streams")


async def test_G07_one_caller_floods_the_server(gateway: Gateway) -> None:
    """One caller keeps a hundred calls under way without end; another one asks meanwhile.

    The other one is answered each time, and so is the flood: a connection has at most a thousand calls at a time, so
    that nobody waits for more than these. Calls are not limited by rate, since a refusal costs as much as an answer;
    what reaches IBKR is, with RATE_LIMITED and ORDER_RATE.
    """
    assert dict(OPTIONS)["grpc.max_concurrent_streams"] == 1_000
    answered = itertools.count()
    flood = await connect_raw(gateway.running.port, Grpc(lambda *_: None, lambda _stream: more()))

    def more() -> None:
        next(answered)
        flood.call(HEALTH, b"")

    for _ in range(100):
        flood.call(HEALTH, b"")
    for _ in range(10):
        before = next(answered)
        await gateway.client.gateway.GetHealth(pb.GetHealthRequest())
        assert next(answered) > before + 1
    flood.close()


async def test_G08_streams_are_opened_and_reset_without_end(gateway: Gateway) -> None:
    """A hundred connections are opened that say nothing, and on one of them thousands of streams, each reset at once.

    Others are answered meanwhile and afterwards, and nothing is left of any of the streams.
    """
    silent = [await connect_raw(gateway.running.port, Grpc(lambda *_: None)) for _ in range(100)]
    request = market_pb.StreamQuotesRequest(instruments=[stock("AAPL")]).SerializeToString()
    for number in range(3_000):
        silent[0].reset(silent[0].call(STREAM, request))
        if number % 1_000 == 0:
            await check_alive(gateway)
    await check_alive(gateway)
    await eventually(lambda: open_streams(gateway) == 0)
    for connection in silent:
        connection.close()


async def test_G09_a_request_above_its_limit(gateway: Gateway) -> None:
    """A request has one byte more than 64 KiB.

    RESOURCE_EXHAUSTED by gRPC itself, before anything is read of it, and without a reason of the gateway's.
    """
    largest = 64 * 1024
    beside = len(orders_pb.PlaceOrderRequest(preview_token="x" * largest).SerializeToString()) - largest
    for size, code in ((largest, "INVALID_ARGUMENT"), (largest + 1, "RESOURCE_EXHAUSTED")):
        request = orders_pb.PlaceOrderRequest(preview_token="x" * (size - beside)).SerializeToString()
        assert len(request) == size
        refused = await answer_to(gateway, PLACE, request)
        assert refused.code.name == code
    assert refused.reason == ""
    await check_alive(gateway)


@pytest.mark.parametrize(
    "request_",
    [random.Random(7).randbytes(200), b"\x0a\xff\xff\xff\xff\x0f", b"\x0a\x02\xff\xfe", b"\x7b" * 10_000],
    ids=["random bytes", "a length that is cut off", "no UTF-8", "nested ten thousand deep"],
)
@pytest.mark.parametrize("endpoint", [PLACE, STREAM, SUBSCRIBE])
async def test_G10_bytes_that_are_no_request(gateway: Gateway, endpoint: str, request_: bytes) -> None:
    """Instead of a message there come random bytes, a length that is cut off, text that is no UTF-8, or groups nested
    ten thousand deep, to a unary call and to both kinds of streams.

    INVALID_ARGUMENT with REQUEST_MALFORMED; nothing of it is repeated, and nothing is done.
    """
    refused = await answer_to(gateway, endpoint, request_)
    assert (refused.code.name, refused.reason) == ("INVALID_ARGUMENT", "REQUEST_MALFORMED")
    await check_alive(gateway)


@pytest.mark.parametrize("field", ["side", "order_type", "time_in_force", "oca_type"])
@pytest.mark.parametrize("value", [0, 99])
async def test_G11_a_value_that_this_server_does_not_know(gateway: Gateway, field: str, value: int) -> None:
    """An order has a side, a type, a time in force or a kind of OCA group that this server does not know, as a newer
    client may send; or no side or type at all.

    INVALID_ARGUMENT with FIELD_INVALID and the field's name: never a default in its place. A time in force and a kind
    of group may be left out.
    """
    changed = order(**({"oca_group": "g"} if field == "oca_type" else {}), **{field: value})
    request = orders_pb.PreviewOrderRequest(order=changed)
    if value == 0 and field in ("time_in_force", "oca_type"):
        assert (await gateway.client.orders.PreviewOrder(request)).preview.legs
        return
    with pytest.raises(InvalidRequest) as refused:
        await gateway.client.orders.PlaceOrder(orders_pb.PlaceOrderRequest(client_order_id=KEY, order=changed))
    assert (refused.value.reason, list(refused.value.fields)) == ("FIELD_INVALID", [f"order.{field}"])
    await check_alive(gateway)


async def test_G12_a_field_of_a_newer_contract(gateway: Gateway) -> None:
    """A client of a newer contract sends a field that this server does not know: to a read, and in an order.

    The read is answered without it. The order is refused with REQUEST_MALFORMED, since what it leaves out might be what
    makes it safe; so is a change.
    """
    unknown = b"\xf8\x3f\x01"
    read = audit_pb.QueryAuditEventsRequest.FromString(unknown)
    assert (await gateway.client.audit.QueryAuditEvents(read)).events
    placed = orders_pb.PlaceOrderRequest(client_order_id=KEY, order=order()).SerializeToString()
    nested = orders_pb.OrderSpec.FromString(order().SerializeToString() + unknown)
    for request in (
        orders_pb.PlaceOrderRequest.FromString(placed + unknown),
        orders_pb.PlaceOrderRequest(client_order_id=KEY, order=nested),
    ):
        with pytest.raises(InvalidRequest) as refused:
            await gateway.client.orders.PlaceOrder(request)
        assert refused.value.reason == "REQUEST_MALFORMED"
    change = orders_pb.ModifyOrderRequest(client_order_id=KEY, modify_id="m" * 16, order=nested)
    with pytest.raises(InvalidRequest) as refused:
        await gateway.client.orders.ModifyOrder(change)
    assert refused.value.reason == "REQUEST_MALFORMED"
    await check_alive(gateway)


def hello_of_tls() -> bytes:
    """What a client that speaks TLS says first."""
    said = ssl.MemoryBIO()
    client = ssl.create_default_context().wrap_bio(ssl.MemoryBIO(), said, server_hostname="localhost")
    with pytest.raises(ssl.SSLWantReadError):
        client.do_handshake()
    return said.read()


@pytest.mark.parametrize(
    "said",
    [b"GET / HTTP/1.1\r\nHost: localhost\r\n\r\n", hello_of_tls(), b"\x00" * 4_000, b"\xff" * 4_000],
    ids=["HTTP/1.1", "TLS", "zeros", "ones"],
)
async def test_G13_another_protocol_than_grpc(gateway: Gateway, said: bytes) -> None:
    """Something that is no gRPC client connects: it speaks HTTP/1.1, TLS to a port without it, or noise.

    Its connection is ended; everybody else is served.
    """
    reader, writer = await asyncio.open_connection("127.0.0.1", gateway.running.port)
    writer.write(said)
    async with asyncio.timeout(10):
        with suppress(ConnectionResetError):
            await reader.read()
    writer.close()
    await check_alive(gateway)


@pytest.mark.parametrize(
    "metadata",
    [[("x-note", "a" * 1_000_000)], [(f"x-note-{number}", "a" * 20) for number in range(1_000)]],
    ids=["a megabyte", "a thousand entries"],
)
async def test_G15_metadata_without_measure(gateway: Gateway, metadata: Iterable[tuple[str, str]]) -> None:
    """A call comes with a megabyte of metadata, or with a thousand entries of it.

    RESOURCE_EXHAUSTED by gRPC itself: all of a call's metadata has at most 16 KiB.
    """
    refused = await answer_to(gateway, HEALTH, b"", metadata=tuple(metadata))
    assert (refused.code.name, refused.reason) == ("RESOURCE_EXHAUSTED", "")
    await check_alive(gateway)
