"""An unmodified TWS API client over TCP: ib_async as its users have it, with nothing of ours in between."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import AsyncIterator

import pytest
from ibkr_gateway_server.simulator import Simulator

from tests.conftest import eventually

ib_async = pytest.importorskip("ib_async")


@pytest.fixture
async def ib(caplog: pytest.LogCaptureFixture) -> AsyncIterator[object]:
    """A connected client; fails the test when its decoder complains."""
    caplog.set_level(logging.ERROR)
    async with Simulator(seed=7, tick_interval_s=0.02).listen() as address:
        client = ib_async.IB()
        await client.connectAsync(address.host, address.port, clientId=3, raiseSyncErrors=True)
        yield client
        client.disconnect()
        await asyncio.sleep(0)
    complaints = [record.getMessage() for record in caplog.records if "decoder" in record.name.lower()]
    assert complaints == []


async def test_it_connects_and_sees_its_account_and_positions(ib) -> None:
    assert ib.client.serverVersion() == 178
    assert ib.managedAccounts() == ["DU1234567"]
    assert {position.contract.symbol for position in ib.positions()} == {"AAPL", "SPY", "MES"}
    summary = {value.tag: value.value for value in await ib.accountSummaryAsync()}
    assert float(summary["NetLiquidation"]) > 0


async def test_it_finds_every_kind_of_contract(ib) -> None:
    found = await ib.qualifyContractsAsync(
        ib_async.Stock("AAPL", "SMART", "USD"),
        ib_async.Index("SPX", "CBOE"),
        ib_async.Forex("EURUSD"),
        ib_async.Future("MES", "202612", "CME"),
    )
    assert [contract.conId for contract in found][:3] == [265598, 416904, 12087792]
    chains = await ib.reqSecDefOptParamsAsync("AAPL", "", "STK", 265598)
    option = ib_async.Option("AAPL", min(chains[0].expirations), sorted(chains[0].strikes)[10], "C", "SMART")
    assert (await ib.qualifyContractsAsync(option))[0].multiplier == "100"


async def test_it_streams_ticks_and_takes_a_snapshot(ib) -> None:
    (aapl,) = await ib.qualifyContractsAsync(ib_async.Stock("AAPL", "SMART", "USD"))
    ticker = ib.reqMktData(aapl)
    await eventually(lambda: ticker.bid == ticker.bid and ticker.ask > ticker.bid and ticker.last > 0)
    ib.cancelMktData(aapl)
    (snapshot,) = await ib.reqTickersAsync(aapl)
    assert snapshot.bid > 0


async def test_it_reads_bars_whose_last_meets_the_quote(ib) -> None:
    (aapl,) = await ib.qualifyContractsAsync(ib_async.Stock("AAPL", "SMART", "USD"))
    bars = await ib.reqHistoricalDataAsync(aapl, "", "1 M", "1 day", "TRADES", True)
    assert len(bars) >= 19
    assert all(bar.low <= min(bar.open, bar.close) <= max(bar.open, bar.close) <= bar.high for bar in bars)


async def test_it_places_and_fills_a_market_order_with_every_callback(ib) -> None:
    (aapl,) = await ib.qualifyContractsAsync(ib_async.Stock("AAPL", "SMART", "USD"))
    trade = ib.placeOrder(aapl, ib_async.MarketOrder("BUY", 10))
    await eventually(lambda: trade.fills and trade.fills[0].commissionReport.execId)
    assert [entry.status for entry in trade.log if entry.status] == [
        "PendingSubmit",
        "PreSubmitted",
        "PreSubmitted",
        "Filled",
    ]
    assert trade.fills[0].commissionReport.commission == 1.0
    assert trade.orderStatus.filled == 10


async def test_it_rests_modifies_and_cancels_a_limit_order(ib) -> None:
    (aapl,) = await ib.qualifyContractsAsync(ib_async.Stock("AAPL", "SMART", "USD"))
    order = ib_async.LimitOrder("BUY", 10, 10.0)
    trade = ib.placeOrder(aapl, order)
    await eventually(lambda: trade.orderStatus.status == "Submitted")
    order.lmtPrice = 11.0
    ib.placeOrder(aapl, order)
    assert [open_trade.order.lmtPrice for open_trade in await ib.reqAllOpenOrdersAsync()] == [11.0]
    ib.cancelOrder(order)
    await eventually(lambda: trade.orderStatus.status == "Cancelled")


async def test_its_what_if_has_margin_and_commission(ib) -> None:
    (aapl,) = await ib.qualifyContractsAsync(ib_async.Stock("AAPL", "SMART", "USD"))
    state = await ib.whatIfOrderAsync(aapl, ib_async.LimitOrder("BUY", 10, 100.0))
    assert float(state.initMarginChange) == pytest.approx(275.0)
    assert state.commission == 1.0
