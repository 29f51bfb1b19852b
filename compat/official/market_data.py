"""Market data as it comes."""

from __future__ import annotations

import itertools
from types import SimpleNamespace

from ibapi.contract import Contract

from compat.official.reference import near_option
from compat.official.talk import Talk, step

# Tick types, by IBKR's table.
BID, ASK, LAST, HIGH, LOW, CLOSE = 1, 2, 4, 6, 7, 9
DELAYED_BID, DELAYED_ASK, DELAYED_LAST = 66, 67, 68
BID_MODEL, ASK_MODEL, MODEL = 10, 11, 13


def subscribe(talk: Talk, what: Contract, generic: str = "") -> int:
    """A line of market data. Returns its id."""
    req_id = talk.next_id()
    talk.api.reqMktData(req_id, what, generic, False, False, [])
    return req_id


def prices(talk: Talk, req_id: int) -> dict[int, float]:
    """The last price of each tick type."""
    return {event.tickType: event.price for event in talk.told("tickPrice", reqId=req_id)}


@step("streaming quotes")
def streaming(talk: Talk) -> None:
    req_id = subscribe(talk, talk.aapl)
    talk.until("a whole quote", lambda: {BID, ASK, LAST, HIGH, LOW, CLOSE} <= prices(talk, req_id).keys())
    found = prices(talk, req_id)
    assert found[ASK] > found[BID] > 0
    assert found[LOW] <= found[LAST] <= found[HIGH]
    assert all(event.size > 0 for event in talk.told("tickSize", reqId=req_id))
    assert talk.told("tickReqParams", reqId=req_id)[0].minTick == 0.01
    assert talk.told("marketDataType", reqId=req_id)[0].marketDataType == 1
    talk.until("another quote", lambda: prices(talk, req_id)[BID] != found[BID])
    talk.api.cancelMktData(req_id)


@step("snapshot")
def snapshot(talk: Talk) -> None:
    bid, ask = talk.quote()
    assert ask > bid > 0
    assert ask - bid < 1


@step("generic ticks")
def generic_ticks(talk: Talk) -> None:
    req_id = subscribe(talk, talk.aapl, "100,101,104,106,165,221,233,236,375,411,456")
    numbers = {23, 24, 46, 58}  # historical, implied volatility, shortable, historical volatility of the day
    sizes = {21, 28, 29, 89}  # average volume, open interest of puts, volume of calls, shortable shares
    told = {15, 16, 37}  # 13 weeks' low and high, mark price
    texts = {48, 59}  # trades and volume, dividends
    for callback, wanted in (("tickGeneric", numbers), ("tickSize", sizes), ("tickPrice", told), ("tickString", texts)):
        talk.until(f"{callback} {wanted}", lambda c=callback, w=wanted: w <= types(talk, c, req_id))
    implied = next(event.value for event in talk.told("tickGeneric", reqId=req_id, tickType=24))
    assert 0.01 < implied < 5
    traded = talk.told("tickString", reqId=req_id, tickType=48)[0].value.split(";")
    assert len(traded) == 6
    assert float(traded[0]) > 0
    talk.api.cancelMktData(req_id)


def types(talk: Talk, callback: str, req_id: int) -> set[int]:
    """Tick types that have come."""
    return {event.tickType for event in talk.told(callback, reqId=req_id)}


# 300: the cancel of what the gateway has refused.
@step("no subscription: 354", 354, 300)
def refused(talk: Talk) -> None:
    req_id = subscribe(talk, talk.ibm)
    assert talk.error(354).reqId == req_id
    assert talk.told("tickPrice", reqId=req_id) == []
    talk.api.cancelMktData(req_id)
    assert talk.error(300).reqId == req_id


@step("delayed data: 10167", 10167)
def delayed(talk: Talk) -> None:
    talk.api.reqMarketDataType(3)
    req_id = subscribe(talk, talk.ibm)
    talk.until("delayed ticks", lambda: {DELAYED_BID, DELAYED_ASK, DELAYED_LAST} <= prices(talk, req_id).keys())
    found = prices(talk, req_id)
    assert found[DELAYED_ASK] > found[DELAYED_BID] > 0
    assert BID not in found
    assert talk.told("marketDataType", reqId=req_id)[0].marketDataType == 3
    talk.api.cancelMktData(req_id)
    talk.api.reqMarketDataType(1)


@step("option greeks")
def greeks(talk: Talk) -> None:
    option = near_option(talk)
    req_id = subscribe(talk, option)
    computed = "tickOptionComputation"
    talk.until("greeks", lambda: {BID_MODEL, ASK_MODEL, MODEL} <= types(talk, computed, req_id))
    model = talk.told(computed, reqId=req_id, tickType=MODEL)[0]
    assert 0 < model.delta < 1
    assert model.gamma > 0
    assert model.theta < 0
    assert model.vega > 0
    assert 0.01 < model.impliedVol < 5
    assert abs(model.undPrice - option.strike) < 50
    bid = talk.told(computed, reqId=req_id, tickType=BID_MODEL)[0]
    assert bid.optPrice == talk.told("tickPrice", reqId=req_id, tickType=BID)[0].price
    talk.api.cancelMktData(req_id)


@step("implied volatility and option price")
def calculations(talk: Talk) -> None:
    option = near_option(talk)
    first, second = talk.next_id(), talk.next_id()
    talk.api.calculateImpliedVolatility(first, option, 12.5, option.strike, [])
    (found,) = talk.wait("tickOptionComputation", reqId=first)
    assert found.optPrice == 12.5
    talk.api.calculateOptionPrice(second, option, found.impliedVol, option.strike, [])
    (again,) = talk.wait("tickOptionComputation", reqId=second)
    assert abs(again.optPrice - 12.5) < 1e-3


@step("depth", 2152)
def depth(talk: Talk) -> None:
    req_id = talk.next_id()
    talk.api.reqMktDepth(req_id, talk.aapl, 5, True, [])
    talk.until("rows that change", lambda: len(talk.told("updateMktDepthL2", reqId=req_id, operation=1)) >= 5)
    talk.api.cancelMktDepth(req_id, True)
    asks: dict[int, float] = {}
    bids: dict[int, float] = {}
    for row in talk.told("updateMktDepthL2", reqId=req_id):
        side = bids if row.side == 1 else asks
        # A row that is there is changed or taken away; one that comes is the next.
        assert (row.position in side) == (row.operation != 0)
        assert row.marketMaker
        assert row.isSmartDepth
        if row.operation == 2:
            del side[row.position]
        else:
            assert row.size > 0
            side[row.position] = row.price
    assert sorted(bids) == sorted(asks) == [0, 1, 2, 3, 4]
    assert [bids[row] for row in range(5)] == sorted(bids.values(), reverse=True)
    assert bids[0] < asks[0]


def tick_by_tick(talk: Talk, kind: str, callback: str) -> list[SimpleNamespace]:
    """Ticks of a kind, at least five."""
    req_id = talk.next_id()
    talk.api.reqTickByTickData(req_id, talk.aapl, kind, 0, False)
    talk.wait(callback, 5, reqId=req_id)
    talk.api.cancelTickByTickData(req_id)
    found = talk.told(callback, reqId=req_id)
    times = [tick.time for tick in found]
    assert times == sorted(times)
    return found


@step("tick by tick: Last")
def tick_by_tick_last(talk: Talk) -> None:
    told = tick_by_tick(talk, "Last", "tickByTickAllLast")
    assert all(tick.price > 0 and tick.size > 0 and tick.exchange and tick.tickType == 1 for tick in told)


@step("tick by tick: AllLast")
def tick_by_tick_all_last(talk: Talk) -> None:
    told = tick_by_tick(talk, "AllLast", "tickByTickAllLast")
    assert all(tick.price > 0 and tick.size > 0 and tick.exchange and tick.tickType == 2 for tick in told)


@step("tick by tick: BidAsk")
def tick_by_tick_bid_ask(talk: Talk) -> None:
    told = tick_by_tick(talk, "BidAsk", "tickByTickBidAsk")
    assert all(tick.askPrice > tick.bidPrice > 0 and tick.bidSize > 0 < tick.askSize for tick in told)


@step("tick by tick: MidPoint")
def tick_by_tick_midpoint(talk: Talk) -> None:
    assert all(tick.midPoint > 0 for tick in tick_by_tick(talk, "MidPoint", "tickByTickMidPoint"))


@step("five-second bars")
def five_second_bars(talk: Talk) -> None:
    req_id = talk.next_id()
    talk.api.reqRealTimeBars(req_id, talk.aapl, 5, "TRADES", False, [])
    talk.wait("realtimeBar", 3, reqId=req_id)
    talk.api.cancelRealTimeBars(req_id)
    bars = talk.told("realtimeBar", reqId=req_id)
    assert {later.time - bar.time for bar, later in itertools.pairwise(bars)} == {5}
    assert all(0 < bar.low <= min(bar.open_, bar.close) <= max(bar.open_, bar.close) <= bar.high for bar in bars)


@step("headlines as ticks")
def headlines(talk: Talk) -> None:
    req_id = subscribe(talk, talk.aapl, "mdoff,292")
    talk.wait("tickNews", 3, reqId=req_id)
    talk.api.cancelMktData(req_id)
    assert all("[SIMULATED]" in event.headline and event.providerCode for event in talk.told("tickNews"))
