"""What must work against a broker before anything else is believed, through the Python client and a real server."""

from __future__ import annotations

from collections.abc import AsyncIterator
from datetime import date, timedelta
from decimal import Decimal

import pytest
from ibkr_gateway import AsyncGateway, GatewayError, bar_size, connect, duration, future, stock
from ibkr_gateway.v1 import account_service_pb2 as account_pb
from ibkr_gateway.v1 import common_pb2
from ibkr_gateway.v1 import market_data_service_pb2 as market_pb
from ibkr_gateway.v1 import simulation_service_pb2 as simulation_pb

SUBSCRIBE = 1


@pytest.fixture
async def client(server: str) -> AsyncIterator[AsyncGateway]:
    async with connect(server, timeout_s=15.0) as connected:
        yield connected


@pytest.mark.parametrize("instrument", [stock("AAPL"), future("MES")], ids=["AAPL", "MES"])
async def test_there_is_a_quote(client: AsyncGateway, instrument: common_pb2.Instrument) -> None:
    quote = (await client.market_data.GetQuote(market_pb.GetQuoteRequest(instrument=instrument))).quote
    assert 0 < quote.bid_price <= quote.ask_price
    assert quote.last_price > 0
    assert quote.market_data_type == common_pb2.MARKET_DATA_TYPE_LIVE


async def test_there_are_daily_bars_of_a_month(client: AsyncGateway) -> None:
    request = market_pb.GetHistoricalBarsRequest(
        instrument=stock("AAPL"), bar_size=bar_size("1 day"), duration=duration("1 M")
    )
    bars = (await client.market_data.GetHistoricalBars(request)).bars
    days = [date.fromisoformat(bar.date) for bar in bars]
    assert len(days) >= 15
    assert days == sorted(set(days))
    assert days[-1] - days[0] <= timedelta(days=32)
    assert all(0 < bar.low <= min(bar.open, bar.close) <= max(bar.open, bar.close) <= bar.high for bar in bars)


async def test_there_is_a_summary(client: AsyncGateway) -> None:
    summary = (await client.account.GetAccountSummary(account_pb.GetAccountSummaryRequest())).summary
    assert Decimal(summary.net_liquidation) > 0
    assert summary.currency == "USD"
    assert not summary.is_stale


async def test_there_are_positions_and_their_profit_and_loss(client: AsyncGateway) -> None:
    positions = (await client.account.GetPositions(account_pb.GetPositionsRequest())).positions
    assert all(Decimal(position.quantity) for position in positions)
    pnl = (await client.account.GetPnl(account_pb.GetPnlRequest())).pnl
    held = {position.instrument.con_id for position in positions}
    assert {detail.instrument.con_id for detail in pnl.details} == held
    of_positions = sum(Decimal(detail.unrealized_pnl) for detail in pnl.details)
    # The account's figure and those of its positions come in messages of their own, at moments of their own.
    assert abs(Decimal(pnl.unrealized_pnl) - of_positions) < Decimal(1000)


async def test_a_missing_permission_is_an_error_that_says_so(client: AsyncGateway) -> None:
    fault = simulation_pb.InjectFaultRequest(fault=simulation_pb.FAULT_REFUSE, message_id=SUBSCRIBE, code=354)
    await client.simulation.InjectFault(fault)
    with pytest.raises(GatewayError) as refused:
        await client.market_data.GetQuote(market_pb.GetQuoteRequest(instrument=stock("IBM")))
    assert refused.value.reason == "MARKET_DATA_NOT_SUBSCRIBED"
    assert refused.value.details["ibkr_code"] == "354"
    assert refused.value.correlation_id
    assert "IBM" in refused.value.message
