"""An unmodified TWS API client over TCP: ib_async or ib_insync as its users have it, nothing of ours in between."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import AsyncIterator
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest
from ibkr_gateway_server.simulator import Simulator
from ibkr_gateway_server.simulator.behaviour import Behaviour

from tests.conftest import eventually

try:
    import ib_async as library
except ImportError:
    library = pytest.importorskip("ib_insync")

# What a test asked for and its client logs as an error: an order's end, a line that was refused, and its cancel, a
# scan's end, an exercise, advisors' groups, the event calendar, fundamentals.
EXPECTED = tuple(f"Error {code}" for code in (162, 202, 300, 321, 322, 354, 10276, 10358))


@pytest.fixture
async def ib(caplog: pytest.LogCaptureFixture) -> AsyncIterator[Any]:
    """A connected client; fails the test when it logs an error that the test did not ask for."""
    caplog.set_level(logging.ERROR)
    async with Simulator(seed=7, tick_interval_s=0.02, speed=10.0).listen() as address:
        client = library.IB()
        await client.connectAsync(address.host, address.port, clientId=3)
        yield client
        client.disconnect()
        await asyncio.sleep(0)
    said = [record.getMessage() for phase in ("setup", "call") for record in caplog.get_records(phase)]
    assert [message for message in said if not message.startswith(EXPECTED)] == []


@pytest.fixture
async def aapl(ib: Any) -> Any:
    """A contract that the client has looked up."""
    (contract,) = await ib.qualifyContractsAsync(library.Stock("AAPL", "SMART", "USD"))
    return contract


async def test_it_connects_and_sees_its_account_and_positions(ib: Any) -> None:
    assert ib.client.serverVersion() in (176, 178)
    assert ib.managedAccounts() == ["DU1234567"]
    assert {position.contract.symbol for position in ib.positions()} == {"AAPL", "SPY", "MES"}
    assert {item.contract.symbol for item in ib.portfolio()} == {"AAPL", "SPY", "MES"}
    summary = {value.tag: value.value for value in await ib.accountSummaryAsync()}
    assert float(summary["NetLiquidation"]) > 0
    assert abs(await ib.reqCurrentTimeAsync() - datetime.now(UTC)) < timedelta(days=1)


async def test_it_finds_every_kind_of_contract(ib: Any) -> None:
    found = await ib.qualifyContractsAsync(
        library.Stock("AAPL", "SMART", "USD"),
        library.Index("SPX", "CBOE"),
        library.Forex("EURUSD"),
        library.Future("MES", "202612", "CME"),
    )
    assert [contract.conId for contract in found][:3] == [265598, 416904, 12087792]
    chains = await ib.reqSecDefOptParamsAsync("AAPL", "", "STK", 265598)
    option = library.Option("AAPL", min(chains[0].expirations), sorted(chains[0].strikes)[10], "C", "SMART")
    assert (await ib.qualifyContractsAsync(option))[0].multiplier == "100"
    assert [match.contract.symbol for match in await ib.reqMatchingSymbolsAsync("MSFT")] == ["MSFT"]
    assert [rule.increment for rule in await ib.reqMarketRuleAsync(26)] == [0.01]


async def test_it_streams_ticks_and_takes_a_snapshot(ib: Any, aapl: Any) -> None:
    ticker = ib.reqMktData(aapl, "233")
    await eventually(lambda: ticker.bid == ticker.bid and ticker.ask > ticker.bid and ticker.last > 0)
    first = ticker.bid, ticker.ask
    await eventually(lambda: (ticker.bid, ticker.ask) != first)
    ib.cancelMktData(aapl)
    (snapshot,) = await ib.reqTickersAsync(aapl)
    assert snapshot.bid > 0


async def test_it_reads_an_options_model(ib: Any) -> None:
    chains = await ib.reqSecDefOptParamsAsync("SPY", "", "STK", 756733)
    option = library.Option("SPY", min(chains[0].expirations), sorted(chains[0].strikes)[10], "P", "SMART")
    await ib.qualifyContractsAsync(option)
    ticker = ib.reqMktData(option)
    await eventually(lambda: ticker.modelGreeks is not None)
    assert -1 < ticker.modelGreeks.delta < 0


async def test_it_is_refused_live_data_and_given_delayed_data(ib: Any) -> None:
    (ibm,) = await ib.qualifyContractsAsync(library.Stock("IBM", "SMART", "USD"))
    errors: list[int] = []
    ib.errorEvent += lambda _req_id, code, _text, _contract: errors.append(code)
    ib.reqMktData(ibm)
    await eventually(lambda: 354 in errors)
    ib.cancelMktData(ibm)
    ib.reqMarketDataType(3)
    ticker = ib.reqMktData(ibm)
    await eventually(lambda: ticker.marketDataType == 3 and ticker.bid > 0)
    ib.cancelMktData(ibm)


async def test_it_reads_bars_whose_last_meets_the_quote(ib: Any, aapl: Any) -> None:
    days = await ib.reqHistoricalDataAsync(aapl, "", "1 M", "1 day", "TRADES", True)
    assert len(days) >= 19
    assert all(bar.low <= min(bar.open, bar.close) <= max(bar.open, bar.close) <= bar.high for bar in days)
    hours = await ib.reqHistoricalDataAsync(aapl, "", "2 D", "1 hour", "MIDPOINT", False, 2)
    (ticker,) = await ib.reqTickersAsync(aapl)
    # Between the two requests the price goes on; ten simulated seconds do not take it far.
    assert hours[-1].close == pytest.approx(ticker.marketPrice(), rel=1e-3)


async def test_it_keeps_bars_up_to_date(ib: Any, aapl: Any) -> None:
    bars = await ib.reqHistoricalDataAsync(aapl, "", "600 S", "1 min", "TRADES", False, 1, True)
    count = len(bars)
    await eventually(lambda: len(bars) > count, 15)
    ib.cancelHistoricalData(bars)
    five_seconds = ib.reqRealTimeBars(aapl, 5, "TRADES", False)
    await eventually(lambda: len(five_seconds) >= 2)
    ib.cancelRealTimeBars(five_seconds)
    assert await ib.reqHeadTimeStampAsync(aapl, "TRADES", True, 1) is not None


async def test_it_places_and_fills_a_market_order_with_every_callback(ib: Any, aapl: Any) -> None:
    trade = ib.placeOrder(aapl, library.MarketOrder("BUY", 10))
    await eventually(lambda: trade.fills and trade.fills[0].commissionReport.execId)
    told = [entry.status for entry in trade.log if entry.status]
    assert told == ["PendingSubmit", "PreSubmitted", "PreSubmitted", "Filled"]
    assert trade.fills[0].commissionReport.commission == 1.0
    assert trade.orderStatus.filled == 10
    assert [fill.execution.execId for fill in await ib.reqExecutionsAsync()] == [trade.fills[0].execution.execId]


async def test_it_rests_modifies_and_cancels_a_limit_order(ib: Any, aapl: Any) -> None:
    order = library.LimitOrder("BUY", 10, 10.0)
    trade = ib.placeOrder(aapl, order)
    await eventually(lambda: trade.orderStatus.status == "Submitted")
    order.lmtPrice = 11.0
    ib.placeOrder(aapl, order)
    assert [open_trade.order.lmtPrice for open_trade in await ib.reqAllOpenOrdersAsync()] == [11.0]
    ib.cancelOrder(order)
    await eventually(lambda: trade.orderStatus.status == "Cancelled")
    completed = await ib.reqCompletedOrdersAsync(False)
    assert [trade.orderStatus.status for trade in completed] == ["Cancelled"]


async def test_it_places_a_bracket(ib: Any, aapl: Any) -> None:
    bracket = ib.bracketOrder("BUY", 10, 10.0, 20.0, 5.0)
    trades = [ib.placeOrder(aapl, order) for order in bracket]
    await eventually(lambda: trades[0].orderStatus.status == "Submitted")
    await eventually(lambda: {trade.orderStatus.status for trade in trades[1:]} == {"PreSubmitted"})
    ib.reqGlobalCancel()
    await eventually(lambda: {trade.orderStatus.status for trade in trades} == {"Cancelled"})


async def test_its_what_if_has_margin_and_commission(ib: Any, aapl: Any) -> None:
    state = await ib.whatIfOrderAsync(aapl, library.LimitOrder("BUY", 10, 100.0))
    assert float(state.initMarginChange) == pytest.approx(275.0)
    assert state.commission == 1.0


async def test_it_follows_its_profit_and_loss(ib: Any) -> None:
    whole, single = ib.reqPnL("DU1234567"), ib.reqPnLSingle("DU1234567", "", 265598)
    await eventually(lambda: whole.unrealizedPnL == whole.unrealizedPnL and single.value == single.value)
    assert single.position == 100
    ib.cancelPnL("DU1234567")
    ib.cancelPnLSingle("DU1234567", "", 265598)


async def test_it_sees_two_accounts_and_the_currencies_of_one_in_euros() -> None:
    behaviour = Behaviour(base_currencies={"DU1234567": "EUR"})
    simulator = Simulator(seed=7, accounts=("DU1234567", "DU7654321"), behaviour=behaviour, tick_interval_s=0.02)
    async with simulator.listen() as address:
        ib = library.IB()
        await ib.connectAsync(address.host, address.port, clientId=3)
        try:
            assert ib.managedAccounts() == ["DU1234567", "DU7654321"]
            values = {(value.tag, value.currency): value.value for value in ib.accountValues("DU1234567")}
            assert 0.5 < float(values["ExchangeRate", "USD"]) < 1.0
            assert float(values["StockMarketValue", "USD"]) > float(values["StockMarketValue", "BASE"]) > 0
            assert {value.currency for value in ib.accountValues("DU7654321") if value.tag == "NetLiquidation"} == {
                "USD"
            }
            ledgers = [value for value in await ib.accountSummaryAsync() if value.tag == "CashBalance"]
            assert {(value.account, value.currency) for value in ledgers} == {
                ("All", name) for name in ("BASE", "EUR", "USD")
            }
        finally:
            ib.disconnect()
            await asyncio.sleep(0)


async def option_of(ib: Any, symbol: str, con_id: int) -> Any:
    """A call near the money, as the client has looked it up."""
    chains = await ib.reqSecDefOptParamsAsync(symbol, "", "STK", con_id)
    strikes = sorted(chains[0].strikes)
    option = library.Option(symbol, min(chains[0].expirations), strikes[len(strikes) // 2], "C", "SMART")
    (found,) = await ib.qualifyContractsAsync(option)
    return found


async def test_it_keeps_a_book(ib: Any, aapl: Any) -> None:
    ticker = ib.reqMktDepth(aapl, 5, isSmartDepth=True)
    quotes = ib.reqMktData(aapl)
    for _ in range(3):
        before = list(ticker.domBids)
        await eventually(lambda before=before: ticker.domBids != before and len(ticker.domAsks) == 5)  # type: ignore[misc]
        bids, asks = ([level.price for level in levels] for levels in (ticker.domBids, ticker.domAsks))
        assert bids == sorted(bids, reverse=True)
        assert asks == sorted(asks)
        assert len(bids) == 5
        assert bids[0] < asks[0]
        assert all(level.size > 0 and level.marketMaker for level in ticker.domBids)
    await eventually(lambda: quotes.bid == ticker.domBids[0].price)
    ib.cancelMktDepth(aapl, isSmartDepth=True)
    ib.cancelMktData(aapl)


async def test_it_keeps_a_book_without_makers(ib: Any) -> None:
    (future,) = await ib.qualifyContractsAsync(library.Future("MES", "202612", "CME"))
    ticker = ib.reqMktDepth(future, 3)
    await eventually(lambda: len(ticker.domBids) == 3 and len(ticker.domAsks) == 3)
    assert {level.marketMaker for level in ticker.domBids} == {""}
    ib.cancelMktDepth(future)


async def test_it_reads_the_venues_of_depth_and_of_quotes(ib: Any, aapl: Any) -> None:
    assert ("NASDAQ", "STK", "Deep2") in {
        (venue.exchange, venue.secType, venue.serviceDataType) for venue in await ib.reqMktDepthExchangesAsync()
    }
    ticker = ib.reqMktData(aapl)
    await eventually(lambda: ticker.bboExchange)
    components = await ib.reqSmartComponentsAsync(ticker.bboExchange)
    assert {component.exchangeLetter for component in components} >= {"N", "P", "Q", "Z"}
    ib.cancelMktData(aapl)


@pytest.mark.parametrize(
    ("kind", "name"),
    [
        ("Last", "TickByTickAllLast"),
        ("AllLast", "TickByTickAllLast"),
        ("BidAsk", "TickByTickBidAsk"),
        ("MidPoint", "TickByTickMidPoint"),
    ],
)
async def test_it_reads_tick_by_tick(ib: Any, aapl: Any, kind: str, name: str) -> None:
    ticker = ib.reqTickByTickData(aapl, kind, 10)
    told: list[str] = []
    ib.pendingTickersEvent += lambda tickers: told.extend(type(tick).__name__ for tick in ticker.tickByTicks)
    await eventually(lambda: len(told) > 5)
    assert set(told) == {name}
    ib.cancelTickByTickData(aapl, kind)


@pytest.mark.parametrize(
    ("shown", "name"),
    [("TRADES", "HistoricalTickLast"), ("BID_ASK", "HistoricalTickBidAsk"), ("MIDPOINT", "HistoricalTick")],
)
async def test_it_reads_ticks_of_the_past(ib: Any, aapl: Any, shown: str, name: str) -> None:
    end = await ib.reqCurrentTimeAsync()
    ticks = await ib.reqHistoricalTicksAsync(aapl, "", end, 100, shown, False)
    assert {type(tick).__name__ for tick in ticks} == {name}
    assert 100 <= len(ticks) <= 104
    assert ticks[-1].time <= end
    later = await ib.reqHistoricalTicksAsync(aapl, ticks[0].time, "", 50, shown, False)
    assert later[:50] == ticks[:50]


async def test_it_reads_a_histogram(ib: Any, aapl: Any) -> None:
    rows = await ib.reqHistogramDataAsync(aapl, True, "3 days")
    assert len(rows) > 10
    assert all(row.count > 0 and row.price > 0 for row in rows)


async def test_it_reads_generic_ticks(ib: Any) -> None:
    (spy,) = await ib.qualifyContractsAsync(library.Stock("SPY", "SMART", "USD"))
    ticker = ib.reqMktData(spy, "100,101,104,105,106,165,221,233,236,293,294,295,318,375,411,456,576,577,578,595,614")
    numbers = ("callVolume", "putOpenInterest", "histVolatility", "impliedVolatility", "avOptionVolume", "avVolume")
    numbers += ("low52week", "high13week", "markPrice", "rtVolume", "vwap", "shortableShares", "tradeCount")
    numbers += ("volumeRate", "lastRthTrade", "rtHistVolatility")
    await eventually(lambda: [name for name in numbers if not getattr(ticker, name, 1) > 0] == [])
    assert ticker.dividends is not None
    ib.cancelMktData(spy)


async def test_it_reads_the_computations_of_an_option(ib: Any) -> None:
    option = await option_of(ib, "AAPL", 265598)
    ticker = ib.reqMktData(option)
    await eventually(lambda: ticker.bidGreeks and ticker.askGreeks and ticker.lastGreeks and ticker.modelGreeks)
    assert ticker.bidGreeks.optPrice == ticker.bid
    ib.cancelMktData(option)
    found = await ib.calculateImpliedVolatilityAsync(option, 12.5, option.strike)
    assert found.optPrice == 12.5
    again = await ib.calculateOptionPriceAsync(option, found.impliedVol, option.strike)
    assert again.optPrice == pytest.approx(12.5, abs=1e-4)
    ib.exerciseOptions(option, 1, 1, "DU1234567", 0)
    errors: list[int] = []
    ib.errorEvent += lambda _req_id, code, *_: errors.append(code)
    await eventually(lambda: errors == [322])


async def test_it_reads_news(ib: Any, aapl: Any) -> None:
    providers = await ib.reqNewsProvidersAsync()
    codes = "+".join(provider.code for provider in providers)
    found = await ib.reqHistoricalNewsAsync(aapl.conId, codes, "", "", 10)
    # ib_insync hands out the request's list, ib_async the same under the name of one headline.
    assert len(found) == 10
    assert all("[SIMULATED]" in story.headline for story in found)
    article = await ib.reqNewsArticleAsync(found[0].providerCode, found[0].articleId)
    assert found[0].headline.partition("}")[2] in article.articleText
    ib.reqMktData(aapl, "mdoff,292")
    await eventually(lambda: len(ib.newsTicks()) >= 5)
    ib.cancelMktData(aapl)
    ib.reqNewsBulletins(True)
    ib.cancelNewsBulletins()


async def test_it_scans_the_market(ib: Any) -> None:
    assert "<scanCode>TOP_PERC_GAIN</scanCode>" in await ib.reqScannerParametersAsync()
    wanted = library.ScannerSubscription(instrument="STK", locationCode="STK.US.MAJOR", scanCode="MOST_ACTIVE")
    found = await ib.reqScannerDataAsync(wanted, [], [library.TagValue("priceAbove", "5")])
    assert [row.rank for row in found] == list(range(len(found)))
    assert {row.contractDetails.contract.secType for row in found} == {"STK"}
    assert "AAPL" in {row.contractDetails.contract.symbol for row in found}


async def test_it_is_told_what_its_login_does_not_have(ib: Any, aapl: Any) -> None:
    errors: list[int] = []
    ib.errorEvent += lambda _req_id, code, *_: errors.append(code)
    assert not await ib.reqFundamentalDataAsync(aapl, "ReportSnapshot")
    ib.reqWshMetaData()
    ib.client.requestFA(1)
    await eventually(lambda: errors == [10358, 10276, 321])
    assert not await ib.reqUserInfoAsync()
