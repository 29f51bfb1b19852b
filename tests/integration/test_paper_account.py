"""What must work on a real paper account. `make integration`, with IBKR_GATEWAY_PORT and the like in the environment.

Nothing trades: the one order is far from the market, is sent only where ORDERS_ENABLED=true asks for it, and is
cancelled.
"""

from __future__ import annotations

import os
from decimal import Decimal

import pytest
from ibkr_gateway import AsyncGateway, bar_size, duration, new_client_order_id, stock
from ibkr_gateway.v1 import account_service_pb2 as account_pb
from ibkr_gateway.v1 import common_pb2
from ibkr_gateway.v1 import gateway_service_pb2 as gateway_pb
from ibkr_gateway.v1 import market_data_service_pb2 as market_pb
from ibkr_gateway.v1 import orders_service_pb2 as orders_pb
from ibkr_gateway.v1 import reference_data_service_pb2 as reference_pb

pytestmark = pytest.mark.integration

SENDS_ORDERS = os.environ.get("ORDERS_ENABLED") == "true"

FAR_ORDER = orders_pb.OrderSpec(
    instrument=stock("AAPL"),
    side=common_pb2.SIDE_BUY,
    quantity="1",
    order_type=orders_pb.ORDER_TYPE_LMT,
    limit_price="1",
)


async def test_the_session_is_ready_and_ibkr_tells_its_time(paper: AsyncGateway) -> None:
    health = await paper.gateway.GetHealth(gateway_pb.GetHealthRequest())
    assert health.is_broker_connected
    assert not health.is_simulation
    told = await paper.gateway.GetServerTime(gateway_pb.GetServerTimeRequest())
    assert abs(told.broker_time.seconds - told.gateway_time.seconds) < 60


@pytest.mark.parametrize("symbol", ["AAPL", "SPY"])
async def test_a_stock_resolves(paper: AsyncGateway, symbol: str) -> None:
    request = reference_pb.ResolveContractRequest(instrument=stock(symbol))
    assert (await paper.reference_data.ResolveContract(request)).instrument.con_id > 0


async def test_there_are_daily_bars_of_a_month(paper: AsyncGateway) -> None:
    request = market_pb.GetHistoricalBarsRequest(
        instrument=stock("AAPL"),
        bar_size=bar_size("1 day"),
        duration=duration("1 M"),
        what_to_show=market_pb.WHAT_TO_SHOW_TRADES,
        regular_hours_only=True,
    )
    assert len((await paper.market_data.GetHistoricalBars(request)).bars) > 10


async def test_the_account_has_a_value_and_a_currency(paper: AsyncGateway) -> None:
    answer = await paper.account.GetAccountSummary(account_pb.GetAccountSummaryRequest())
    assert Decimal(answer.summary.net_liquidation) > 0
    assert answer.summary.currency


async def test_a_far_order_is_simulated_or_works_and_is_cancelled(paper: AsyncGateway) -> None:
    key = new_client_order_id()
    placed = await paper.orders.PlaceOrder(orders_pb.PlaceOrderRequest(client_order_id=key, order=FAR_ORDER))
    if not SENDS_ORDERS:
        assert placed.result.state == orders_pb.ORDER_STATE_SIMULATED
        return
    assert placed.result.state == orders_pb.ORDER_STATE_WORKING
    named = orders_pb.OrderKey(client_order_id=key)
    await paper.orders.CancelOrder(orders_pb.CancelOrderRequest(order=named))
    status = (await paper.orders.GetOrderStatus(orders_pb.GetOrderStatusRequest(order=named))).status
    assert status.state in (orders_pb.ORDER_STATE_CANCELLED, orders_pb.ORDER_STATE_CANCEL_PENDING)
