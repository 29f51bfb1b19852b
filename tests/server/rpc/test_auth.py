"""Who may call what: tokens, scopes, TLS, on a real server."""

from __future__ import annotations

import asyncio
import hashlib
import json
import re
import sqlite3
from pathlib import Path

import grpc
import pytest
from grpc_health.v1 import health_pb2, health_pb2_grpc
from grpc_reflection.v1alpha import reflection_pb2
from ibkr_gateway import AsyncGateway, Refused, Tls, Unauthenticated, Unavailable, connect, stock
from ibkr_gateway.v1 import (
    account_service_pb2,
    audit_service_pb2,
    common_pb2,
    gateway_service_pb2,
    market_data_service_pb2,
    orders_service_pb2,
    reference_data_service_pb2,
    simulation_service_pb2,
)
from ibkr_gateway_server.audit.denials import BURST, Denial, Denials
from ibkr_gateway_server.audit.store import AuditStore
from ibkr_gateway_server.domain.audit import AuditFilter, PageRequest
from ibkr_gateway_server.domain.errors import Reason
from ibkr_gateway_server.rpc.scopes import SCOPES
from ibkr_gateway_server.simulator.instruments import ContractQuery
from ibkr_gateway_server.simulator.orders import Terms

from tests.callers import TokenFile
from tests.certificates import Authority
from tests.conftest import Gateway, MakeGateway, eventually
from tests.failures.conftest import eventually_recorded

PROTO = Path(__file__).resolve().parents[3] / "proto" / "ibkr_gateway" / "v1"
MODULES = (
    account_service_pb2,
    audit_service_pb2,
    gateway_service_pb2,
    market_data_service_pb2,
    orders_service_pb2,
    reference_data_service_pb2,
    simulation_service_pb2,
)
STATUS = gateway_service_pb2.GetTradingStatusRequest()


@pytest.fixture
def tokens(tmp_path: Path) -> TokenFile:
    return TokenFile(tmp_path / "tokens.toml")


def as_caller(gateway: Gateway, token: str | None) -> AsyncGateway:
    return connect(gateway.running.target, timeout_s=10.0, token=token)


def test_every_rpc_of_the_contract_needs_the_scope_that_its_comment_says() -> None:
    said = {}
    for path in PROTO.glob("*_service.proto"):
        text = path.read_text()
        ((comment, service),) = re.findall(r"((?:^//.*\n)+)service (\w+)", text, re.MULTILINE)
        of_service = re.search(r"Scope:\s+(\w+)", comment)
        for words, rpc in re.findall(r"((?:^  //.*\n)+)  rpc (\w+)\(", text, re.MULTILINE):
            flat = words.replace("\n  //", " ")
            own = re.search(r"Scope:\s+(\w+)", flat) or of_service
            said[f"/ibkr_gateway.v1.{service}/{rpc}"] = own[1] if own and "needs no token" not in flat else None
    assert said == SCOPES


def test_every_rpc_of_every_service_is_in_the_table() -> None:
    endpoints = {
        f"/{service.full_name}/{method.name}"
        for module in MODULES
        for service in module.DESCRIPTOR.services_by_name.values()
        for method in service.methods
    }
    assert endpoints == set(SCOPES)


async def test_without_tokens_every_caller_of_this_machine_may_do_everything(gateway: Gateway) -> None:
    await gateway.client.gateway.GetTradingStatus(STATUS)
    await gateway.client.simulation.GetState(simulation_service_pb2.GetStateRequest())


async def code_of(channel: grpc.aio.Channel, endpoint: str, *shown: str) -> str:
    """The status of an empty request of any kind of RPC; OK also for one that begins to stream."""
    call = channel.stream_stream(endpoint)(
        iter([b""]), metadata=[("authorization", each) for each in shown], timeout=10
    )
    try:
        async for _ in call:
            call.cancel()
            return "OK"
    except grpc.RpcError:
        pass
    return (await call.code()).name


async def test_each_rpc_answers_nobody_who_lacks_its_scope(make_gateway: MakeGateway, tokens: TokenFile) -> None:
    scopes = ("read", "preview", "trade", "admin")
    lacking = {scope: tokens.issue(f"no-{scope}", *(each for each in scopes if each != scope)) for scope in scopes}
    gateway = await make_gateway(tokens_file=tokens.path)
    async with grpc.aio.insecure_channel(gateway.running.target) as channel:
        for endpoint, scope in SCOPES.items():
            if scope is None:
                assert await code_of(channel, endpoint) == "OK"
                continue
            assert await code_of(channel, endpoint) == "UNAUTHENTICATED", endpoint
            assert await code_of(channel, endpoint, f"Bearer {lacking[scope]}") == "PERMISSION_DENIED", endpoint


async def test_a_token_with_the_scope_is_served_and_its_name_is_in_the_record(
    make_gateway: MakeGateway, tokens: TokenFile
) -> None:
    token = tokens.issue("strategy-a", "read", "trade")
    gateway = await make_gateway(tokens_file=tokens.path)
    async with as_caller(gateway, token) as client:
        order = orders_service_pb2.OrderSpec(
            instrument=stock("AAPL"),
            side=common_pb2.SIDE_BUY,
            quantity="1",
            order_type=orders_service_pb2.ORDER_TYPE_MKT,
        )
        await client.orders.PlaceOrder(orders_service_pb2.PlaceOrderRequest(client_order_id="k" * 20, order=order))
    rows = sqlite3.connect(tokens.path.with_name("audit.db")).execute(
        "SELECT DISTINCT principal FROM events WHERE kind IN ('order.intent', 'order.send')"
    )
    assert rows.fetchall() == [("strategy-a",)]


@pytest.mark.parametrize(
    ("shown", "reason"),
    [
        ([], "TOKEN_MISSING"),
        (["Bearer " + "x" * 43], "TOKEN_INVALID"),
        (["Basic TOKEN"], "TOKEN_INVALID"),
        (["Bearer "], "TOKEN_INVALID"),
        (["TOKEN"], "TOKEN_INVALID"),
        (["Bearer TOKEN", "Bearer TOKEN"], "TOKEN_INVALID"),
        (["Bearer EXPIRED"], "TOKEN_EXPIRED"),
    ],
)
async def test_what_is_shown_instead_of_a_token_is_told_apart(
    make_gateway: MakeGateway, tokens: TokenFile, shown: list[str], reason: str
) -> None:
    token, expired = tokens.issue("a", "read"), tokens.issue("b", "read", expires="2026-01-01")
    gateway = await make_gateway(tokens_file=tokens.path)
    texts = [text.replace("TOKEN", token).replace("EXPIRED", expired) for text in shown]
    async with as_caller(gateway, None) as client:
        with pytest.raises(Unauthenticated) as refused:
            await client.gateway.GetTradingStatus(STATUS, metadata=[("authorization", text) for text in texts])
    assert refused.value.reason == reason
    assert token not in refused.value.message + str(refused.value.details)


async def test_the_scheme_is_read_in_any_case(make_gateway: MakeGateway, tokens: TokenFile) -> None:
    token = tokens.issue("a", "read")
    gateway = await make_gateway(tokens_file=tokens.path)
    async with as_caller(gateway, None) as client:
        await client.gateway.GetTradingStatus(STATUS, metadata=[("authorization", f"bearer {token}")])


async def test_a_missing_scope_is_named(make_gateway: MakeGateway, tokens: TokenFile) -> None:
    token = tokens.issue("reader", "read")
    gateway = await make_gateway(tokens_file=tokens.path)
    async with as_caller(gateway, token) as client:
        with pytest.raises(Refused) as refused:
            await client.gateway.ResumeTrading(gateway_service_pb2.ResumeTradingRequest())
    assert (refused.value.reason, refused.value.details["scope"]) == ("SCOPE_MISSING", "admin")


async def test_orders_of_others_are_for_admin_to_cancel(make_gateway: MakeGateway, tokens: TokenFile) -> None:
    trader, boss = tokens.issue("trader", "read", "trade"), tokens.issue("boss", "read", "trade", "admin")
    gateway = await make_gateway(tokens_file=tokens.path)
    simulated = gateway.simulator.gateway
    for order_id in (1, 2):
        terms = Terms(action="BUY", quantity=1, order_type="LMT", limit_price=10.0, account="DU1234567")
        simulated.place(77, order_id, ContractQuery(con_id=265598), terms)
    await eventually(lambda: [order.status for order in simulated.open_orders()] == ["Submitted", "Submitted"])
    open_orders = orders_service_pb2.ListOpenOrdersRequest(include_external=True)
    every = orders_service_pb2.CancelAllOrdersRequest(scope=orders_service_pb2.CANCEL_SCOPE_GLOBAL)
    async with as_caller(gateway, trader) as client:
        first, _ = (await client.orders.ListOpenOrders(open_orders)).orders
        one = orders_service_pb2.CancelOrderRequest(order=orders_service_pb2.OrderKey(perm_id=first.perm_id))
        for cancel in (client.orders.CancelOrder(one), client.orders.CancelAllOrders(every)):
            with pytest.raises(Refused) as refused:
                await cancel
            assert (refused.value.reason, refused.value.details["scope"]) == ("SCOPE_MISSING", "admin")
        assert len(simulated.open_orders()) == 2
    async with as_caller(gateway, boss) as client:
        await client.orders.CancelAllOrders(every)
        await eventually(lambda: not simulated.open_orders())


async def test_health_needs_no_token(make_gateway: MakeGateway, tokens: TokenFile) -> None:
    tokens.issue("a", "read")
    gateway = await make_gateway(tokens_file=tokens.path)
    async with grpc.aio.insecure_channel(gateway.running.target) as channel:
        answer = await health_pb2_grpc.HealthStub(channel).Check(health_pb2.HealthCheckRequest())
    assert answer.status == health_pb2.HealthCheckResponse.SERVING


@pytest.mark.parametrize("service", ["grpc.reflection.v1.ServerReflection", "grpc.reflection.v1alpha.ServerReflection"])
async def test_reflection_is_for_whoever_has_a_token(
    make_gateway: MakeGateway, tokens: TokenFile, service: str
) -> None:
    token = tokens.issue("a", "preview")
    gateway = await make_gateway(tokens_file=tokens.path)
    request = reflection_pb2.ServerReflectionRequest(list_services="").SerializeToString()
    async with grpc.aio.insecure_channel(gateway.running.target) as channel:
        method = channel.stream_stream(f"/{service}/ServerReflectionInfo")
        refused = method(iter([request]), timeout=10)
        with pytest.raises(grpc.aio.AioRpcError):
            await refused.read()
        assert (await refused.code()) is grpc.StatusCode.UNAUTHENTICATED
        allowed = method(iter([request]), metadata=[("authorization", f"Bearer {token}")], timeout=10)
        assert b"OrdersService" in await allowed.read()
        allowed.cancel()


async def test_a_denial_is_recorded_by_the_beginning_of_a_hash(make_gateway: MakeGateway, tokens: TokenFile) -> None:
    token = tokens.issue("reader", "read")
    gateway = await make_gateway(tokens_file=tokens.path)
    async with as_caller(gateway, "x" * 43) as stranger, as_caller(gateway, token) as client:
        with pytest.raises(Unauthenticated):
            await stranger.gateway.GetTradingStatus(STATUS, metadata=(("x-correlation-id", "call-1"),))
        with pytest.raises(Refused):
            await client.gateway.ResumeTrading(gateway_service_pb2.ResumeTradingRequest())
        gateway = Gateway(gateway.running, client)
        unknown, denied = await eventually_recorded(gateway, "authz.denied", lambda rows: len(rows) == 2)
    assert unknown == {
        "reason": "TOKEN_INVALID",
        "endpoint": "/ibkr_gateway.v1.GatewayService/GetTradingStatus",
        "token_hash": hashlib.sha256(b"x" * 43).hexdigest()[:8],
    }
    assert (denied["reason"], denied["token_hash"]) == ("SCOPE_MISSING", "")
    rows = sqlite3.connect(tokens.path.with_name("audit.db")).execute(
        "SELECT principal, correlation_id FROM events WHERE kind = 'authz.denied' ORDER BY sequence"
    )
    assert [rows.fetchone()[1], rows.fetchone()[0]] == ["call-1", "reader"]


async def test_whoever_knocks_without_end_does_not_fill_the_record(tmp_path: Path) -> None:
    now = 0.0
    async with AuditStore(tmp_path / "audit.db") as store:
        denials = Denials(store, lambda: now)
        for _ in range(10 * BURST):
            denials.put(Denial(Reason.TOKEN_INVALID, "/x"))
        writing = asyncio.create_task(denials.run())

        async def rows() -> list[dict[str, object]]:
            page = await store.query(AuditFilter(kind="authz.denied"), PageRequest(size=1000))
            return [json.loads(record.body_json) for record in reversed(page.items)]

        async with asyncio.timeout(10):
            while len(await rows()) < BURST:
                await asyncio.sleep(0.005)
        assert (await rows())[0]["left_out_count"] == 9 * BURST
        denials.put(Denial(Reason.TOKEN_INVALID, "/x"))
        now = 6.0
        denials.put(Denial(Reason.TOKEN_INVALID, "/x"))
        async with asyncio.timeout(10):
            while len(await rows()) < BURST + 1:
                await asyncio.sleep(0.005)
        assert (await rows())[-1]["left_out_count"] == 1
        writing.cancel()
        await asyncio.wait([writing])


async def test_denials_that_the_record_cannot_take_are_written_later(tmp_path: Path) -> None:
    store = AuditStore(tmp_path / "audit.db")
    denials = Denials(store)
    denials.put(Denial(Reason.TOKEN_MISSING, "/x"))
    assert not await denials._write()
    async with store:
        assert await denials._write()
        assert len((await store.query(AuditFilter(), PageRequest())).items) == 1


async def test_tls_is_spoken_and_plain_text_is_not(make_gateway: MakeGateway, tmp_path: Path) -> None:
    authority = Authority(tmp_path)
    identity = authority.issue("server")
    gateway = await make_gateway(tls_cert_file=identity.cert, tls_key_file=identity.key)
    async with connect(gateway.running.target, tls=Tls(authority.file), timeout_s=10) as client:
        await client.gateway.GetTradingStatus(STATUS)
    other = Authority(tmp_path, "other")
    for distrusting in (connect(gateway.running.target, tls=Tls(other.file), timeout_s=10), gateway.client):
        async with distrusting:
            with pytest.raises(Unavailable) as refused:
                await distrusting.gateway.GetTradingStatus(STATUS)
            assert refused.value.reason == ""


async def test_clients_show_a_certificate_where_the_server_wants_one(make_gateway: MakeGateway, tmp_path: Path) -> None:
    authority, other = Authority(tmp_path), Authority(tmp_path, "other")
    server, mine, strange = authority.issue("server"), authority.issue("mine"), other.issue("strange")
    gateway = await make_gateway(tls_cert_file=server.cert, tls_key_file=server.key, tls_client_ca_file=authority.file)
    async with connect(gateway.running.target, tls=Tls(authority.file, mine.cert, mine.key)) as client:
        await client.gateway.GetTradingStatus(STATUS)
    for tls in (Tls(authority.file), Tls(authority.file, strange.cert, strange.key)):
        async with connect(gateway.running.target, tls=tls, timeout_s=10) as client:
            with pytest.raises(Unavailable):
                await client.gateway.GetTradingStatus(STATUS)


async def test_with_tls_and_tokens_other_machines_are_served(make_gateway: MakeGateway, tokens: TokenFile) -> None:
    authority = Authority(tokens.path.parent)
    identity, token = authority.issue("server"), tokens.issue("a", "read")
    gateway = await make_gateway(
        grpc_host="0.0.0.0", tls_cert_file=identity.cert, tls_key_file=identity.key, tokens_file=tokens.path
    )
    async with connect(f"127.0.0.1:{gateway.running.port}", token=token, tls=Tls(authority.file)) as client:
        await client.gateway.GetTradingStatus(STATUS)
