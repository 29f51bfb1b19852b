"""Market data as it comes."""

from __future__ import annotations

import itertools
import math
from typing import Any

from compat.ib_library.reference import near_option
from compat.ib_library.talk import Talk, step


@step("streaming quotes")
async def streaming(talk: Talk) -> None:
    ticker = talk.ib.reqMktData(talk.aapl)
    await talk.until("a whole quote", lambda: ticker.ask > ticker.bid > 0 and ticker.last > 0 and ticker.close > 0)
    assert ticker.bidSize > 0
    assert ticker.askSize > 0
    assert ticker.low <= ticker.last <= ticker.high
    assert ticker.minTick == 0.01
    assert ticker.marketDataType == 1
    first = ticker.bid, ticker.ask
    await talk.until("another quote", lambda: (ticker.bid, ticker.ask) != first)
    talk.ib.cancelMktData(talk.aapl)


@step("snapshot")
async def snapshot(talk: Talk) -> None:
    (ticker,) = await talk.ib.reqTickersAsync(talk.aapl)
    assert ticker.ask > ticker.bid > 0
    assert 0 < ticker.ask - ticker.bid < 1


@step("generic ticks")
async def generic_ticks(talk: Talk) -> None:
    ticker = talk.ib.reqMktData(talk.aapl, "100,101,104,106,165,221,233,236,375,411,456")
    names = ["callVolume", "putOpenInterest", "histVolatility", "impliedVolatility", "avVolume", "low52week"]
    names += ["high13week", "markPrice", "rtVolume", "vwap", "shortableShares", "rtHistVolatility"]
    await talk.until("all of them", lambda: all(getattr(ticker, name, 1) > 0 for name in names))
    assert ticker.low52week < ticker.last < ticker.high52week
    assert 0.01 < ticker.impliedVolatility < 5
    assert ticker.dividends is not None
    talk.ib.cancelMktData(talk.aapl)


# 300: the client cancels what the gateway has refused.
@step("no subscription: 354", 354, 300, logs=("Error 354", "Error 300"))
async def refused(talk: Talk) -> None:
    ticker = talk.ib.reqMktData(talk.ibm)
    await talk.until_error(354)
    assert math.isnan(ticker.last)
    talk.ib.cancelMktData(talk.ibm)
    await talk.until_error(300)


@step("delayed data: 10167", 10167)
async def delayed(talk: Talk) -> None:
    talk.ib.reqMarketDataType(3)
    ticker = talk.ib.reqMktData(talk.ibm)
    await talk.until("delayed ticks", lambda: ticker.ask > ticker.bid > 0 and ticker.last > 0)
    assert ticker.marketDataType == 3
    talk.ib.cancelMktData(talk.ibm)
    talk.ib.reqMarketDataType(1)


@step("option greeks")
async def greeks(talk: Talk) -> None:
    option = await near_option(talk)
    ticker = talk.ib.reqMktData(option)
    await talk.until("greeks", lambda: ticker.modelGreeks and ticker.bidGreeks and ticker.askGreeks)
    model = ticker.modelGreeks
    assert 0 < model.delta < 1
    assert model.gamma > 0
    assert model.theta < 0
    assert model.vega > 0
    assert 0.01 < model.impliedVol < 5
    assert abs(model.undPrice - option.strike) < 50
    assert ticker.bidGreeks.optPrice == ticker.bid
    talk.ib.cancelMktData(option)


@step("implied volatility and option price")
async def calculations(talk: Talk) -> None:
    option = await near_option(talk)
    found = await talk.ib.calculateImpliedVolatilityAsync(option, 12.5, option.strike)
    assert found.optPrice == 12.5
    again = await talk.ib.calculateOptionPriceAsync(option, found.impliedVol, option.strike)
    assert abs(again.optPrice - 12.5) < 1e-3


async def _book_changes(talk: Talk, ticker: Any) -> None:
    before = list(ticker.domBids)
    await talk.until("other rows", lambda: ticker.domBids != before and len(ticker.domAsks) == len(ticker.domBids) == 5)


@step("depth", 2152)
async def depth(talk: Talk) -> None:
    ticker = talk.ib.reqMktDepth(talk.aapl, 5, isSmartDepth=True)
    for _ in range(3):
        await _book_changes(talk, ticker)
        bids, asks = ([level.price for level in levels] for levels in (ticker.domBids, ticker.domAsks))
        assert bids == sorted(bids, reverse=True)
        assert asks == sorted(asks)
        assert bids[0] < asks[0]
        assert all(level.size > 0 and level.marketMaker for level in ticker.domBids)
    talk.ib.cancelMktDepth(talk.aapl, isSmartDepth=True)


async def tick_by_tick(talk: Talk, kind: str, name: str, number: int = 0) -> list[Any]:
    """Ticks of a kind, at least five; those of the step before may still be on their way."""
    ticker = talk.ib.reqTickByTickData(talk.aapl, kind)
    told: list[Any] = []

    def keep(_: object) -> None:
        ticks = (tick for tick in ticker.tickByTicks if type(tick).__name__ == name)
        told.extend(tick for tick in ticks if getattr(tick, "tickType", number) == number)

    talk.ib.pendingTickersEvent += keep
    await talk.until("five ticks", lambda: len(told) >= 5)
    talk.ib.pendingTickersEvent -= keep
    talk.ib.cancelTickByTickData(talk.aapl, kind)
    times = [tick.time for tick in told]
    assert times == sorted(times)
    return told


@step("tick by tick: Last")
async def tick_by_tick_last(talk: Talk) -> None:
    told = await tick_by_tick(talk, "Last", "TickByTickAllLast", 1)
    assert all(tick.price > 0 and tick.size > 0 and tick.exchange for tick in told)


@step("tick by tick: AllLast")
async def tick_by_tick_all_last(talk: Talk) -> None:
    told = await tick_by_tick(talk, "AllLast", "TickByTickAllLast", 2)
    assert all(tick.price > 0 and tick.size > 0 and tick.exchange for tick in told)


@step("tick by tick: BidAsk")
async def tick_by_tick_bid_ask(talk: Talk) -> None:
    told = await tick_by_tick(talk, "BidAsk", "TickByTickBidAsk")
    assert all(tick.askPrice > tick.bidPrice > 0 and tick.bidSize > 0 < tick.askSize for tick in told)


@step("tick by tick: MidPoint")
async def tick_by_tick_midpoint(talk: Talk) -> None:
    told = await tick_by_tick(talk, "MidPoint", "TickByTickMidPoint")
    assert all(tick.midPoint > 0 for tick in told)


@step("five-second bars")
async def five_second_bars(talk: Talk) -> None:
    bars = talk.ib.reqRealTimeBars(talk.aapl, 5, "TRADES", False)
    await talk.until("three bars", lambda: len(bars) >= 3)
    talk.ib.cancelRealTimeBars(bars)
    assert {(later.time - bar.time).total_seconds() for bar, later in itertools.pairwise(bars)} == {5.0}
    assert all(0 < bar.low <= min(bar.open_, bar.close) <= max(bar.open_, bar.close) <= bar.high for bar in bars)


@step("headlines as ticks")
async def headlines(talk: Talk) -> None:
    before = len(talk.ib.newsTicks())
    talk.ib.reqMktData(talk.aapl, "mdoff,292")
    await talk.until("headlines", lambda: len(talk.ib.newsTicks()) >= before + 3)
    talk.ib.cancelMktData(talk.aapl)
    assert all("[SIMULATED]" in tick.headline and tick.providerCode for tick in talk.ib.newsTicks())
