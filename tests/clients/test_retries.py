"""What gRPC tries again by itself: reads, and nothing else."""

from __future__ import annotations

import asyncio
from collections import Counter
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any

import grpc
import pytest
from ibkr_gateway import Unavailable, connect, connect_sync
from ibkr_gateway.connection import READS
from ibkr_gateway.v1 import (
    account_service_pb2,
    audit_service_pb2,
    gateway_service_pb2,
    market_data_service_pb2,
    orders_service_pb2,
    reference_data_service_pb2,
    simulation_service_pb2,
)

FILES: tuple[Any, ...] = (
    account_service_pb2,
    audit_service_pb2,
    gateway_service_pb2,
    market_data_service_pb2,
    orders_service_pb2,
    reference_data_service_pb2,
    simulation_service_pb2,
)
# Unary RPCs that do something, or make something that can be used once (a preview's token).
NOT_REPEATED = {
    "AuditService/AcceptAuditRollback",
    "GatewayService/HaltTrading",
    "GatewayService/ResumeTrading",
    "OrdersService/CancelAllOrders",
    "OrdersService/CancelOrder",
    "OrdersService/CancelOrderSet",
    "OrdersService/ModifyOrder",
    "OrdersService/PlaceOrder",
    "OrdersService/PreviewOrder",
    "SimulationService/AdvanceClock",
    "SimulationService/InjectFault",
    "SimulationService/Reset",
    "SimulationService/SetQuote",
    "SimulationService/SetScenario",
}


def unary() -> set[str]:
    return {
        f"{service.name}/{method.name}"
        for file in FILES
        for service in file.DESCRIPTOR.services_by_name.values()
        for method in service.methods
        if not method.client_streaming and not method.server_streaming
    }


def test_every_unary_rpc_of_the_contract_is_a_read_or_is_not_repeated() -> None:
    reads = {f"{service}/{method}" for service, methods in READS.items() for method in methods}
    assert reads | NOT_REPEATED == unary()
    assert not reads & NOT_REPEATED


@asynccontextmanager
async def refusing(calls: Counter[str]) -> AsyncIterator[str]:
    """A server that refuses everything as a proxy or a dying server does, and counts."""

    class Refusing(grpc.GenericRpcHandler):
        def service(self, handler_call_details: Any) -> Any:
            async def refuse(_: bytes, context: Any) -> None:
                calls[handler_call_details.method.rpartition(".")[2]] += 1
                await context.abort(grpc.StatusCode.UNAVAILABLE, "not now")

            return grpc.unary_unary_rpc_method_handler(refuse)

    server = grpc.aio.server()
    server.add_generic_rpc_handlers((Refusing(),))
    port = server.add_insecure_port("127.0.0.1:0")
    await server.start()
    try:
        yield f"127.0.0.1:{port}"
    finally:
        await server.stop(None)


async def test_a_read_is_tried_three_times_and_an_order_once() -> None:
    calls: Counter[str] = Counter()
    async with refusing(calls) as target, connect(target) as gateway:
        with pytest.raises(Unavailable):
            await gateway.market_data.GetQuote(market_data_service_pb2.GetQuoteRequest())
        with pytest.raises(Unavailable):
            await gateway.orders.PlaceOrder(orders_service_pb2.PlaceOrderRequest())
    assert calls == {"MarketDataService/GetQuote": 3, "OrdersService/PlaceOrder": 1}


async def test_the_synchronous_client_does_the_same() -> None:
    calls: Counter[str] = Counter()

    def ask(target: str) -> None:
        with connect_sync(target) as gateway:
            with pytest.raises(Unavailable):
                gateway.account.GetPositions(account_service_pb2.GetPositionsRequest())
            with pytest.raises(Unavailable):
                gateway.orders.CancelOrder(orders_service_pb2.CancelOrderRequest())

    async with refusing(calls) as target:
        await asyncio.to_thread(ask, target)
    assert calls == {"AccountService/GetPositions": 3, "OrdersService/CancelOrder": 1}
