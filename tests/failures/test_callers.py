"""Callers that show no token, a wrong one, or one that is not for what they ask."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack
from datetime import UTC, datetime, timedelta

import grpc
import pytest
from grpc_health.v1 import health_pb2, health_pb2_grpc
from grpc_reflection.v1alpha import reflection_pb2, reflection_pb2_grpc
from ibkr_gateway import GatewayError, Unauthenticated, connect, stock
from ibkr_gateway.v1 import common_pb2
from ibkr_gateway.v1 import gateway_service_pb2 as pb
from ibkr_gateway.v1 import market_data_service_pb2 as market_pb
from ibkr_gateway.v1 import orders_service_pb2 as orders_pb

from benchmarks.clients.http2 import (
    ACK,
    DATA,
    END_HEADERS,
    END_STREAM,
    GOAWAY,
    HEADERS,
    PREFACE,
    RESET,
    SETTINGS,
    frame,
)
from tests.callers import TokenFile
from tests.conftest import Gateway, MakeGateway
from tests.failures.conftest import eventually_recorded

PLACE = "/ibkr_gateway.v1.OrdersService/PlaceOrder"


@pytest.fixture
async def guarded(make_gateway: MakeGateway, tokens: TokenFile) -> Gateway:
    return await make_gateway(tokens_file=tokens.path)


@pytest.fixture
def tokens(tmp_path_factory: pytest.TempPathFactory) -> TokenFile:
    file = TokenFile(tmp_path_factory.mktemp("tokens") / "tokens.toml")
    file.reader, file.expired = file.issue("reader", "read"), file.issue("old", "trade", expires="2026-01-01")  # type: ignore[attr-defined]
    return file


@pytest.mark.parametrize(
    ("shown", "code", "reason"),
    [
        (None, "UNAUTHENTICATED", "TOKEN_MISSING"),
        ("x" * 43, "UNAUTHENTICATED", "TOKEN_INVALID"),
        ("expired", "UNAUTHENTICATED", "TOKEN_EXPIRED"),
        ("reader", "PERMISSION_DENIED", "SCOPE_MISSING"),
        ("y" * 10_000, "UNAUTHENTICATED", "TOKEN_INVALID"),
    ],
    ids=["missing", "wrong", "expired", "only for reading", "of 10 KB"],
)
async def test_G14_an_order_without_a_token_for_it(
    guarded: Gateway, tokens: TokenFile, shown: str | None, code: str, reason: str
) -> None:
    """An order comes with no token, a wrong one, one that has expired, one that is for reading only, or one of 10 KB.

    `UNAUTHENTICATED` or `PERMISSION_DENIED`, with `TOKEN_MISSING`, `TOKEN_INVALID`, `TOKEN_EXPIRED` or `SCOPE_MISSING`;
    nothing of the token is repeated, and no frame is written. `authz.denied` in the record has at most the first eight
    digits of the token's hash.
    """
    token = {"expired": tokens.expired, "reader": tokens.reader}.get(shown or "", shown)  # type: ignore[attr-defined]
    metadata = [("authorization", f"Bearer {token}")] if token else []
    async with connect(guarded.running.target, timeout_s=10) as client:
        with pytest.raises(GatewayError) as refused:
            await client.orders.PlaceOrder(orders_pb.PlaceOrderRequest(client_order_id="k" * 20), metadata=metadata)
    assert (refused.value.code.name, refused.value.reason) == (code, reason)
    assert token is None or token not in refused.value.message + str(refused.value.details)
    assert guarded.simulator.state().order_frame_count == 0
    async with connect(guarded.running.target, timeout_s=10, token=tokens.reader) as reader:  # type: ignore[attr-defined]
        (row,) = await eventually_recorded(Gateway(guarded.running, reader), "authz.denied", len)
    assert (row["reason"], row["endpoint"]) == (reason, PLACE)
    assert len(row["token_hash"]) == (8 if reason in ("TOKEN_INVALID", "TOKEN_EXPIRED") else 0)


@pytest.mark.parametrize("token", [b"\xff\xfe\xfd" * 15, ("ü" * 43).encode()], ids=["no text", "UTF-8"])
async def test_G14_a_token_that_is_not_ascii(guarded: Gateway, token: bytes) -> None:
    """A token comes that is not ASCII, which no client library sends: bytes that are no text, and letters as UTF-8.

    The stream ends without an answer, by gRPC's own check or as `UNAUTHENTICATED`; the server answers the next caller.
    """
    path, value = b"/ibkr_gateway.v1.GatewayService/GetTradingStatus", b"Bearer " + token
    # HPACK, literal without indexing: POST and http of the static table, then the path and the rest by their names.
    block = b"\x83\x86\x04" + bytes([len(path)]) + path + b"\x01\x09localhost"
    for key, text in ((b"content-type", b"application/grpc"), (b"te", b"trailers"), (b"authorization", value)):
        block += b"\0" + bytes([len(key)]) + key + bytes([len(text)]) + text
    reader, writer = await asyncio.open_connection("127.0.0.1", guarded.running.port)
    message = frame(DATA, END_STREAM, 1, b"\0" * 5)
    writer.write(PREFACE + frame(SETTINGS, 0, 0, b"") + frame(HEADERS, END_HEADERS, 1, block) + message)
    kinds: set[int] = set()
    async with asyncio.timeout(10):
        while True:
            head = await reader.readexactly(9)
            payload = await reader.readexactly(int.from_bytes(head[:3]))
            kinds.add(head[3])
            if head[3] == SETTINGS and not head[4]:
                writer.write(frame(SETTINGS, ACK, 0, b""))
            if head[3] in (RESET, GOAWAY) or (head[3] == HEADERS and head[4] & END_STREAM):
                break
    assert DATA not in kinds
    assert token not in payload
    writer.close()
    await writer.wait_closed()
    async with connect(guarded.running.target, timeout_s=10) as client:
        assert (await client.gateway.GetHealth(pb.GetHealthRequest())).is_simulation


async def test_G14_a_token_expires_while_its_stream_is_open(
    make_gateway: MakeGateway, tmp_path_factory: pytest.TempPathFactory
) -> None:
    """A token expires while its caller reads a stream on which nothing happens, and another one that is never quiet.

    Both end with `UNAUTHENTICATED` and `TOKEN_EXPIRED`, and the record has each as `authz.denied`.
    """
    file = TokenFile(tmp_path_factory.mktemp("expiring") / "tokens.toml")
    end = datetime.now(UTC) + timedelta(seconds=1.5)
    token, lasting = file.issue("short", "read", expires=end.isoformat()), file.issue("long", "read")
    guarded = await make_gateway(tokens_file=file.path)
    async with connect(guarded.running.target, token=token) as short:
        quiet = short.gateway.WatchSession(pb.WatchSessionRequest())
        busy = short.market_data.StreamQuotes(market_pb.StreamQuotesRequest(instruments=[stock("AAPL")]))
        counts = await asyncio.gather(read_until_expired(quiet), read_until_expired(busy))
    assert datetime.now(UTC) >= end
    assert all(count > 0 for count in counts)
    async with connect(guarded.running.target, timeout_s=10, token=lasting) as other:
        told = Gateway(guarded.running, other)
        rows = await eventually_recorded(told, "authz.denied", lambda rows: len(rows) == 2)
    assert {row["reason"] for row in rows} == {"TOKEN_EXPIRED"}


async def read_until_expired(stream: AsyncIterator[object]) -> int:
    """How many messages a stream had before its caller's token expired."""
    count = 0

    async def read() -> None:
        nonlocal count
        async for _ in stream:
            count += 1

    with pytest.raises(Unauthenticated) as ended:
        await read()
    assert ended.value.reason == "TOKEN_EXPIRED"
    return count


async def test_G16_health_and_reflection_without_a_token(guarded: Gateway) -> None:
    """A caller without a token asks for health, and by reflection for what is served.

    Health, the standard one and `GetHealth`, is answered; reflection is refused with `UNAUTHENTICATED`.
    """
    async with grpc.aio.insecure_channel(guarded.running.target) as channel:
        health = await health_pb2_grpc.HealthStub(channel).Check(health_pb2.HealthCheckRequest(), timeout=10)
        assert health.status == health_pb2.HealthCheckResponse.SERVING
        asked = reflection_pb2_grpc.ServerReflectionStub(channel).ServerReflectionInfo(
            iter([reflection_pb2.ServerReflectionRequest(list_services="")]), timeout=10
        )
        with pytest.raises(grpc.aio.AioRpcError) as refused:
            await asked.read()
        assert refused.value.code() is grpc.StatusCode.UNAUTHENTICATED
    async with connect(guarded.running.target, timeout_s=10) as client:
        assert (await client.gateway.GetHealth(pb.GetHealthRequest())).is_simulation


_OWNERS = {"owner": ("trade",), "other": ("trade",), "chief": ("trade", "admin")}


async def test_P07_an_order_of_another_caller(
    make_gateway: MakeGateway, tmp_path_factory: pytest.TempPathFactory
) -> None:
    """A caller with a token for trading names the order that another one's token has placed, to cancel or to change it.

    PERMISSION_DENIED with SCOPE_MISSING, and nothing is sent; a cancel of all its own orders leaves it alone. Whoever
    has the scope admin cancels it.
    """
    file = TokenFile(tmp_path_factory.mktemp("owners") / "tokens.toml")
    shown = {name: file.issue(name, *scopes) for name, scopes in _OWNERS.items()}
    guarded = await make_gateway(tokens_file=file.path)
    named = orders_pb.OrderKey(client_order_id="an-order-of-the-owner")
    spec = orders_pb.OrderSpec(
        instrument=stock("AAPL"),
        side=common_pb2.SIDE_BUY,
        quantity="10",
        order_type=orders_pb.ORDER_TYPE_LMT,
        limit_price="10",
    )
    own_scope = orders_pb.CancelAllOrdersRequest(scope=orders_pb.CANCEL_SCOPE_OWN)
    async with AsyncExitStack() as stack:
        owner, other, admin = [
            await stack.enter_async_context(connect(guarded.running.target, timeout_s=10, token=token))
            for token in shown.values()
        ]
        await owner.orders.PlaceOrder(orders_pb.PlaceOrderRequest(client_order_id=named.client_order_id, order=spec))
        with pytest.raises(GatewayError) as refused:
            await other.orders.CancelOrder(orders_pb.CancelOrderRequest(order=named))
        assert (refused.value.reason, refused.value.details["scope"]) == ("SCOPE_MISSING", "admin")
        change = orders_pb.ModifyOrderRequest(client_order_id=named.client_order_id, modify_id="m" * 16, order=spec)
        with pytest.raises(GatewayError) as refused:
            await other.orders.ModifyOrder(change)
        assert refused.value.reason == "SCOPE_MISSING"
        assert not (await other.orders.CancelAllOrders(own_scope)).results
        assert guarded.simulator.frames_received(4) == 0
        cancelled = (await admin.orders.CancelOrder(orders_pb.CancelOrderRequest(order=named))).status
        assert cancelled.state == orders_pb.ORDER_STATE_CANCELLED
