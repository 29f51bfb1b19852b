"""Orders that the gateway takes, and lists of them."""

from __future__ import annotations

from datetime import timedelta
from typing import Any

from compat.ib_library.talk import CLIENT, Talk, library, order, step

LOGS = ("Error 202", "Canceled order: ")


@step("MKT")
async def market(talk: Talk) -> None:
    trade = await talk.place(order("MKT"), "Filled")
    await talk.until("its commission", lambda: trade.fills and trade.fills[0].commissionReport.execId)
    assert (trade.orderStatus.filled, trade.orderStatus.remaining) == (10, 0)
    assert sum(fill.execution.shares for fill in trade.fills) == 10
    assert {fill.execution.side for fill in trade.fills} == {"BOT"}
    assert trade.fills[0].commissionReport.commission == 1.0
    bid, _ = await talk.quote()
    assert abs(trade.orderStatus.avgFillPrice / bid - 1) < 0.01
    talk.filled = trade


@step("LMT", 202, logs=LOGS)
async def limit(talk: Talk) -> None:
    price = round((await talk.quote())[0] * 0.9, 2)
    trade = await talk.place(order("LMT", lmtPrice=price, orderRef="compat"), "Submitted")
    seen = await talk.seen(trade)
    assert (seen.order.orderType, seen.order.lmtPrice, seen.order.orderRef) == ("LMT", price, "compat")
    assert (seen.contract.symbol, seen.order.action, seen.order.totalQuantity, seen.order.tif) == (
        "AAPL", "BUY", 10, "DAY")  # fmt: skip
    await talk.cancel(trade)


@step("STP", 202, logs=LOGS)
async def stop(talk: Talk) -> None:
    price = round((await talk.quote())[1] * 1.1, 2)
    trade = await talk.place(order("STP", auxPrice=price), "PreSubmitted")
    seen = await talk.seen(trade)
    assert (seen.order.orderType, seen.order.auxPrice, seen.orderStatus.whyHeld) == ("STP", price, "trigger")
    await talk.cancel(trade)


@step("STP LMT", 202, logs=LOGS)
async def stop_limit(talk: Talk) -> None:
    price = round((await talk.quote())[1] * 1.1, 2)
    trade = await talk.place(order("STP LMT", auxPrice=price, lmtPrice=price + 1), "PreSubmitted")
    seen = await talk.seen(trade)
    assert (seen.order.orderType, seen.order.auxPrice, seen.order.lmtPrice) == ("STP LMT", price, price + 1)
    await talk.cancel(trade)


@step("TRAIL by an amount", 202, logs=LOGS)
async def trail(talk: Talk) -> None:
    bid, _ = await talk.quote()
    trade = await talk.place(order("TRAIL", "SELL", auxPrice=20.0), "PreSubmitted")
    seen = (await talk.seen(trade)).order
    assert (seen.orderType, seen.auxPrice) == ("TRAIL", 20.0)
    assert abs(seen.trailStopPrice - (bid - 20)) < 3
    await talk.cancel(trade)


@step("TRAIL by percent", 202, logs=LOGS)
async def trail_percent(talk: Talk) -> None:
    bid, _ = await talk.quote()
    trade = await talk.place(order("TRAIL", "SELL", trailingPercent=10.0), "PreSubmitted")
    seen = (await talk.seen(trade)).order
    assert (seen.orderType, seen.trailingPercent) == ("TRAIL", 10.0)
    assert abs(seen.trailStopPrice - bid * 0.9) < 3
    await talk.cancel(trade)


@step("TRAIL LIMIT", 202, logs=LOGS)
async def trail_limit(talk: Talk) -> None:
    price = round((await talk.quote())[0] - 20, 2)
    wanted = order("TRAIL LIMIT", "SELL", auxPrice=20.0, trailStopPrice=price, lmtPriceOffset=0.5)
    trade = await talk.place(wanted, "PreSubmitted")
    seen = (await talk.seen(trade)).order
    assert (seen.orderType, seen.auxPrice, seen.lmtPriceOffset) == ("TRAIL LIMIT", 20.0, 0.5)
    assert abs(seen.trailStopPrice - price) < 3
    await talk.cancel(trade)


@step("MOC", 202, logs=LOGS)
async def market_on_close(talk: Talk) -> None:
    trade = await talk.place(order("MOC"), "PreSubmitted")
    assert (await talk.seen(trade)).order.orderType == "MOC"
    await talk.cancel(trade)


@step("LOC", 202, logs=LOGS)
async def limit_on_close(talk: Talk) -> None:
    price = round((await talk.quote())[0] * 0.9, 2)
    trade = await talk.place(order("LOC", lmtPrice=price), "PreSubmitted")
    seen = (await talk.seen(trade)).order
    assert (seen.orderType, seen.lmtPrice) == ("LOC", price)
    await talk.cancel(trade)


@step("MIT", 202, logs=LOGS)
async def market_if_touched(talk: Talk) -> None:
    price = round((await talk.quote())[0] * 0.9, 2)
    trade = await talk.place(order("MIT", auxPrice=price), "PreSubmitted")
    seen = (await talk.seen(trade)).order
    assert (seen.orderType, seen.auxPrice) == ("MIT", price)
    await talk.cancel(trade)


@step("LIT", 202, logs=LOGS)
async def limit_if_touched(talk: Talk) -> None:
    price = round((await talk.quote())[0] * 0.9, 2)
    trade = await talk.place(order("LIT", auxPrice=price, lmtPrice=price + 1), "PreSubmitted")
    seen = (await talk.seen(trade)).order
    assert (seen.orderType, seen.auxPrice, seen.lmtPrice) == ("LIT", price, price + 1)
    await talk.cancel(trade)


@step("REL", 202, logs=LOGS)
async def relative(talk: Talk) -> None:
    price = round((await talk.quote())[0] * 0.9, 2)
    trade = await talk.place(order("REL", lmtPrice=price, auxPrice=0.02), "Submitted")
    seen = (await talk.seen(trade)).order
    assert (seen.orderType, seen.lmtPrice, seen.auxPrice) == ("REL", price, 0.02)
    await talk.cancel(trade)


@step("MTL")
async def market_to_limit(talk: Talk) -> None:
    trade = await talk.place(order("MTL"), "Filled")
    assert trade.orderStatus.filled == 10


@step("IOC", 202, logs=LOGS)
async def immediate_or_cancel(talk: Talk) -> None:
    price = round((await talk.quote())[0] * 0.9, 2)
    trade = await talk.place(order("LMT", lmtPrice=price, tif="IOC"), "Cancelled")
    await talk.until_error(202)
    assert (trade.orderStatus.filled, trade.fills) == (0, [])


@step("FOK")
async def fill_or_kill(talk: Talk) -> None:
    price = round((await talk.quote())[0] * 0.9, 2)
    trade = await talk.place(order("LMT", lmtPrice=price, tif="FOK"), "Inactive")
    assert (trade.orderStatus.filled, trade.fills) == (0, [])


@step("GTD", 202, logs=LOGS)
async def good_till_date(talk: Talk) -> None:
    price = round((await talk.quote())[0] * 0.9, 2)
    until = await talk.ib.reqCurrentTimeAsync() + timedelta(days=3)
    wanted = order("LMT", lmtPrice=price, tif="GTD", goodTillDate=f"{until:%Y%m%d-%H:%M:%S}")
    trade = await talk.place(wanted, "Submitted")
    seen = (await talk.seen(trade)).order
    assert seen.tif == "GTD"
    assert seen.goodTillDate.startswith("20")
    await talk.cancel(trade)


@step("GTC", 202, logs=LOGS)
async def good_till_cancelled(talk: Talk) -> None:
    price = round((await talk.quote())[0] * 0.9, 2)
    trade = await talk.place(order("LMT", lmtPrice=price, tif="GTC"), "Submitted")
    assert (await talk.seen(trade)).order.tif == "GTC"
    await talk.cancel(trade)


@step("OPG", 202, logs=LOGS)
async def at_the_opening(talk: Talk) -> None:
    price = round((await talk.quote())[0] * 0.9, 2)
    trade = await talk.place(order("LMT", lmtPrice=price, tif="OPG"), "PreSubmitted")
    assert (await talk.seen(trade)).order.tif == "OPG"
    await talk.cancel(trade)


@step("bracket", 202, logs=LOGS)
async def bracket(talk: Talk) -> None:
    bid, _ = await talk.quote()
    prices = [round(bid * rate, 2) for rate in (0.9, 1.2, 0.8)]
    parent, profit, loss = (talk.ib.placeOrder(talk.aapl, each) for each in talk.ib.bracketOrder("BUY", 10, *prices))
    await talk.until("the parent", lambda: parent.orderStatus.status == "Submitted")
    await talk.until("both", lambda: {t.orderStatus.status for t in (profit, loss)} == {"PreSubmitted"})
    seen = await talk.seen(loss)
    assert (seen.order.parentId, seen.order.action, seen.order.auxPrice) == (parent.order.orderId, "SELL", prices[2])
    assert "child" in seen.orderStatus.whyHeld
    await talk.cancel(parent)
    await talk.until("its children's end", lambda: {t.orderStatus.status for t in (profit, loss)} == {"Cancelled"})
    await talk.until("202 for each", lambda: len(talk.recorder.errors) == 3)


@step("OCA group", 202, logs=LOGS)
async def one_cancels_all(talk: Talk) -> None:
    bid, ask = await talk.quote()
    group: dict[str, Any] = {"ocaGroup": f"compat {bid}", "ocaType": 1}
    resting = await talk.place(order("LMT", lmtPrice=round(bid * 0.9, 2), **group), "Submitted")
    seen = (await talk.seen(resting)).order
    assert (seen.ocaGroup, seen.ocaType) == (group["ocaGroup"], 1)
    await talk.place(order("LMT", lmtPrice=round(ask * 1.01, 2), **group), "Filled")
    await talk.until("the other's end", lambda: resting.orderStatus.status == "Cancelled")
    await talk.until_error(202)


@step("what-if")
async def what_if(talk: Talk) -> None:
    state = await talk.ib.whatIfOrderAsync(talk.aapl, order("LMT", lmtPrice=100.0))
    assert abs(float(state.initMarginChange) - 275) < 1
    assert abs(float(state.maintMarginChange) - 250) < 1
    assert (state.commission, state.commissionCurrency) == (1.0, "USD")
    assert float(state.initMarginAfter) > float(state.initMarginBefore) > 0


@step("modify", 202, logs=LOGS)
async def modify(talk: Talk) -> None:
    bid, _ = await talk.quote()
    wanted = order("LMT", lmtPrice=round(bid * 0.8, 2))
    trade = await talk.place(wanted, "Submitted")
    wanted.lmtPrice, wanted.totalQuantity = round(bid * 0.85, 2), 15
    talk.ib.placeOrder(talk.aapl, wanted)
    await talk.until("its log", lambda: any(entry.message == "Modify" for entry in trade.log))
    seen = await talk.seen(trade)
    assert (seen.order.lmtPrice, seen.order.totalQuantity, seen.orderStatus.remaining) == (wanted.lmtPrice, 15, 15)
    await talk.cancel(trade)


@step("cancel: 202", 202, logs=LOGS)
async def cancel(talk: Talk) -> None:
    trade = await talk.place(order("LMT", lmtPrice=round((await talk.quote())[0] * 0.9, 2)), "Submitted")
    await talk.cancel(trade)
    (error,) = talk.recorder.errors
    assert error == (trade.order.orderId, 202, "Order Canceled - reason:")
    assert trade.orderStatus.remaining == 10


@step("open orders")
async def open_orders(talk: Talk) -> None:
    price = round((await talk.quote())[0] * 0.8, 2)
    placed = [await talk.place(order("LMT", lmtPrice=price, tif="GTC"), "Submitted") for _ in range(2)]
    found = await talk.ib.reqOpenOrdersAsync()
    assert [trade.order.permId for trade in found] == [trade.order.permId for trade in placed]
    assert await talk.watcher.reqOpenOrdersAsync() == []


@step("all open orders")
async def all_open_orders(talk: Talk) -> None:
    found = await talk.watcher.reqAllOpenOrdersAsync()
    assert [(trade.order.clientId, trade.orderStatus.status) for trade in found] == [(CLIENT, "Submitted")] * 2
    assert {trade.contract.conId for trade in found} == {talk.aapl.conId}


@step("global cancel", 202, logs=LOGS)
async def global_cancel(talk: Talk) -> None:
    talk.ib.reqGlobalCancel()
    await talk.until("two cancels", lambda: len(talk.recorder.errors) == 2)
    assert await talk.ib.reqAllOpenOrdersAsync() == []


@step("completed orders")
async def completed_orders(talk: Talk) -> None:
    found = await talk.ib.reqCompletedOrdersAsync(False)
    kinds = {(trade.order.orderType, trade.orderStatus.status) for trade in found}
    assert {("MKT", "Filled"), ("LMT", "Cancelled"), ("TRAIL", "Cancelled")} <= kinds
    filled = next(trade for trade in found if trade.order.permId == talk.filled.order.permId)
    assert filled.order.filledQuantity == 10
    assert filled.contract.symbol == "AAPL"


@step("executions")
async def executions(talk: Talk) -> None:
    found = await talk.ib.reqExecutionsAsync()
    ids = [fill.execution.execId for fill in found]
    assert {fill.execution.execId for fill in talk.filled.fills} <= set(ids)
    assert len(ids) == len(set(ids))
    # A commission is told to the fill that the library knows, not to the one that it returns.
    known = {fill.execution.execId: fill.commissionReport for fill in talk.ib.fills()}
    assert all(known[exec_id].execId == exec_id and known[exec_id].commission >= 1 for exec_id in ids)
    assert all(fill.execution.time.tzinfo for fill in found)


@step("executions, filtered")
async def executions_filtered(talk: Talk) -> None:
    everything = await talk.ib.reqExecutionsAsync(library.ExecutionFilter(clientId=CLIENT, symbol="AAPL", side="BUY"))
    assert {fill.contract.symbol for fill in everything} == {"AAPL"}
    assert {fill.execution.side for fill in everything} == {"BOT"}
    assert await talk.ib.reqExecutionsAsync(library.ExecutionFilter(symbol="SPY")) == []
