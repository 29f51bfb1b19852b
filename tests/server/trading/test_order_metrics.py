"""Orders in the metrics."""

from __future__ import annotations

from pathlib import Path

from ibkr_gateway import connect, new_client_order_id, stock
from ibkr_gateway.v1 import common_pb2
from ibkr_gateway.v1 import gateway_service_pb2 as gateway_pb
from ibkr_gateway.v1 import orders_service_pb2 as pb
from ibkr_gateway_server.app import running
from ibkr_gateway_server.settings import load_settings

from tests.conftest import FAST, Gateway

BRACKET = pb.OrderSpec(
    instrument=stock("AAPL"),
    side=common_pb2.SIDE_BUY,
    quantity="1",
    order_type=pb.ORDER_TYPE_BRACKET,
    time_in_force=pb.TIME_IN_FORCE_GTC,
    limit_price="10",
    take_profit_price="500",
    stop_loss_price="5",
)


async def active(gateway: Gateway) -> dict[str, float]:
    """Open orders by their state."""
    told = await gateway.client.gateway.GetMetrics(gateway_pb.GetMetricsRequest())
    gauges = [gauge for gauge in told.gauges if gauge.name == "active_orders" and gauge.value]
    return {gauge.labels["status"]: gauge.value for gauge in gauges}


async def test_each_leg_of_a_bracket_is_open_until_it_is_cancelled(gateway: Gateway) -> None:
    key = new_client_order_id()
    await gateway.client.orders.PlaceOrder(pb.PlaceOrderRequest(client_order_id=key, order=BRACKET))
    assert await active(gateway) == {"WORKING": 3}
    await gateway.client.orders.CancelAllOrders(pb.CancelAllOrdersRequest(scope=pb.CANCEL_SCOPE_OWN))
    assert await active(gateway) == {}


async def test_orders_of_an_earlier_life_are_counted_before_anything_is_told_of_them(tmp_path: Path) -> None:
    chosen = {"ibkr_mode": "simulation", "grpc_port": 0, "audit_db_path": tmp_path / "audit.db"}
    settings = load_settings(chosen, env_file=None)
    async with running(settings, session_timings=FAST, drain_s=2.0) as started:
        await started.session.wait_until_ready(10)
        await _place(started.target)
    async with running(settings, session_timings=FAST, drain_s=2.0) as started:
        values = [each for each in started.metrics.snapshot().gauges if each.name == "active_orders"]
        assert sum(each.value for each in values) == 3


async def _place(target: str) -> None:
    async with connect(target, timeout_s=10.0) as client:
        request = pb.PlaceOrderRequest(client_order_id=new_client_order_id(), order=BRACKET)
        await client.orders.PlaceOrder(request)
