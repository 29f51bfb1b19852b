"""Orders that the gateway takes, and lists of them."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from typing import Any

from ibapi.execution import ExecutionFilter
from ibapi.order_cancel import OrderCancel

from compat.official.talk import CLIENT, Talk, order, step


def rests(talk: Talk, kind: str, status: str, action: str = "BUY", **terms: Any) -> tuple[Any, Any]:
    """Place an order that rests, look at it from another connection, and cancel it. Returns the order and its status as
    they were told."""
    order_id = talk.place(order(kind, action, **terms), status)
    opened, seen = talk.seen(order_id)
    assert (opened.contract.symbol, opened.order.action, opened.order.totalQuantity) == ("AAPL", action, 10)
    assert (opened.order.orderType, opened.orderState.status, seen.status) == (kind, status, status)
    assert (opened.order.clientId, seen.clientId) == (CLIENT, CLIENT)
    assert (seen.filled, seen.remaining, seen.permId) == (0, 10, opened.order.permId)
    talk.cancel(order_id)
    return opened.order, seen


def share(price: float, rate: float) -> float:
    """A part of a price, in cents."""
    return round(price * rate, 2)


@step("MKT")
def market(talk: Talk) -> None:
    order_id = talk.place(order("MKT"), "Filled")
    report = talk.wait("commissionAndFeesReport")[0].commissionAndFeesReport
    status = talk.told("orderStatus", orderId=order_id, status="Filled")[0]
    assert (status.filled, status.remaining) == (10, 0)
    fills = [event.execution for event in talk.told("execDetails")]
    assert sum(fill.shares for fill in fills) == 10
    assert {(fill.side, fill.orderId, fill.acctNumber) for fill in fills} == {("BOT", order_id, "DU1234567")}
    assert (report.execId, report.commissionAndFees, report.currency) == (fills[0].execId, 1.0, "USD")
    bid, _ = talk.quote()
    assert abs(status.avgFillPrice / bid - 1) < 0.01
    talk.filled = order_id


@step("LMT", 202)
def limit(talk: Talk) -> None:
    price = share(talk.quote()[0], 0.9)
    seen, _ = rests(talk, "LMT", "Submitted", lmtPrice=price, orderRef="compat")
    assert (seen.lmtPrice, seen.orderRef, seen.tif) == (price, "compat", "DAY")


@step("STP", 202)
def stop(talk: Talk) -> None:
    price = share(talk.quote()[1], 1.1)
    seen, status = rests(talk, "STP", "PreSubmitted", auxPrice=price)
    assert (seen.auxPrice, status.whyHeld) == (price, "trigger")


@step("STP LMT", 202)
def stop_limit(talk: Talk) -> None:
    price = share(talk.quote()[1], 1.1)
    seen, _ = rests(talk, "STP LMT", "PreSubmitted", auxPrice=price, lmtPrice=price + 1)
    assert (seen.auxPrice, seen.lmtPrice) == (price, price + 1)


@step("TRAIL by an amount", 202)
def trail(talk: Talk) -> None:
    bid, _ = talk.quote()
    seen, _ = rests(talk, "TRAIL", "PreSubmitted", "SELL", auxPrice=20.0)
    assert seen.auxPrice == 20.0
    assert abs(seen.trailStopPrice - (bid - 20)) < 3


@step("TRAIL by percent", 202)
def trail_percent(talk: Talk) -> None:
    bid, _ = talk.quote()
    seen, _ = rests(talk, "TRAIL", "PreSubmitted", "SELL", trailingPercent=10.0)
    assert seen.trailingPercent == 10.0
    assert abs(seen.trailStopPrice - bid * 0.9) < 3


@step("TRAIL LIMIT", 202)
def trail_limit(talk: Talk) -> None:
    price = round(talk.quote()[0] - 20, 2)
    terms = {"auxPrice": 20.0, "trailStopPrice": price, "lmtPriceOffset": 0.5}
    seen, _ = rests(talk, "TRAIL LIMIT", "PreSubmitted", "SELL", **terms)
    assert (seen.auxPrice, seen.lmtPriceOffset) == (20.0, 0.5)
    assert abs(seen.trailStopPrice - price) < 3


@step("MOC", 202)
def market_on_close(talk: Talk) -> None:
    rests(talk, "MOC", "PreSubmitted")


@step("LOC", 202)
def limit_on_close(talk: Talk) -> None:
    price = share(talk.quote()[0], 0.9)
    seen, _ = rests(talk, "LOC", "PreSubmitted", lmtPrice=price)
    assert seen.lmtPrice == price


@step("MIT", 202)
def market_if_touched(talk: Talk) -> None:
    price = share(talk.quote()[0], 0.9)
    seen, _ = rests(talk, "MIT", "PreSubmitted", auxPrice=price)
    assert seen.auxPrice == price


@step("LIT", 202)
def limit_if_touched(talk: Talk) -> None:
    price = share(talk.quote()[0], 0.9)
    seen, _ = rests(talk, "LIT", "PreSubmitted", auxPrice=price, lmtPrice=price + 1)
    assert (seen.auxPrice, seen.lmtPrice) == (price, price + 1)


@step("REL", 202)
def relative(talk: Talk) -> None:
    price = share(talk.quote()[0], 0.9)
    seen, _ = rests(talk, "REL", "Submitted", lmtPrice=price, auxPrice=0.02)
    assert (seen.lmtPrice, seen.auxPrice) == (price, 0.02)


@step("MTL")
def market_to_limit(talk: Talk) -> None:
    order_id = talk.place(order("MTL"), "Filled")
    assert talk.told("orderStatus", orderId=order_id, status="Filled")[0].filled == 10


@step("IOC", 202)
def immediate_or_cancel(talk: Talk) -> None:
    order_id = talk.place(order("LMT", lmtPrice=share(talk.quote()[0], 0.9), tif="IOC"), "Cancelled")
    talk.error(202, reqId=order_id)
    assert talk.told("execDetails") == []


@step("FOK")
def fill_or_kill(talk: Talk) -> None:
    talk.place(order("LMT", lmtPrice=share(talk.quote()[0], 0.9), tif="FOK"), "Inactive")
    assert talk.told("execDetails") == []


@step("GTD", 202)
def good_till_date(talk: Talk) -> None:
    until = f"{datetime.now(UTC) + timedelta(days=3):%Y%m%d-%H:%M:%S}"
    price = share(talk.quote()[0], 0.9)
    seen, _ = rests(talk, "LMT", "Submitted", lmtPrice=price, tif="GTD", goodTillDate=until)
    assert seen.tif == "GTD"
    assert seen.goodTillDate.startswith("20")


@step("GTC", 202)
def good_till_cancelled(talk: Talk) -> None:
    seen, _ = rests(talk, "LMT", "Submitted", lmtPrice=share(talk.quote()[0], 0.9), tif="GTC")
    assert seen.tif == "GTC"


@step("OPG", 202)
def at_the_opening(talk: Talk) -> None:
    seen, _ = rests(talk, "LMT", "PreSubmitted", lmtPrice=share(talk.quote()[0], 0.9), tif="OPG")
    assert seen.tif == "OPG"


@step("bracket", 202)
def bracket(talk: Talk) -> None:
    bid, _ = talk.quote()
    parent, profit, loss = (talk.next_order_id() for _ in range(3))
    talk.api.placeOrder(parent, talk.aapl, order("LMT", lmtPrice=share(bid, 0.9), transmit=False))
    above, below = share(bid, 1.2), share(bid, 0.8)
    talk.api.placeOrder(profit, talk.aapl, order("LMT", "SELL", lmtPrice=above, parentId=parent, transmit=False))
    talk.api.placeOrder(loss, talk.aapl, order("STP", "SELL", auxPrice=below, parentId=parent))
    talk.wait("orderStatus", orderId=parent, status="Submitted")
    for child in (profit, loss):
        talk.wait("orderStatus", orderId=child, status="PreSubmitted")
    opened, status = talk.seen(loss)
    assert (opened.order.parentId, opened.order.action, opened.order.auxPrice) == (parent, "SELL", below)
    assert "child" in status.whyHeld
    talk.cancel(parent)
    for child in (profit, loss):
        talk.wait("orderStatus", orderId=child, status="Cancelled")
        talk.error(202, reqId=child)


@step("OCA group", 202)
def one_cancels_all(talk: Talk) -> None:
    bid, ask = talk.quote()
    group: dict[str, Any] = {"ocaGroup": f"compat {bid}", "ocaType": 1}
    resting = talk.place(order("LMT", lmtPrice=share(bid, 0.9), **group), "Submitted")
    opened, _ = talk.seen(resting)
    assert (opened.order.ocaGroup, opened.order.ocaType) == (group["ocaGroup"], 1)
    talk.place(order("LMT", lmtPrice=share(ask, 1.01), **group), "Filled")
    talk.wait("orderStatus", orderId=resting, status="Cancelled")
    talk.error(202, reqId=resting)


@step("what-if")
def what_if(talk: Talk) -> None:
    order_id = talk.next_order_id()
    talk.api.placeOrder(order_id, talk.aapl, order("LMT", lmtPrice=100.0, whatIf=True))
    state = talk.wait("openOrder", orderId=order_id)[0].orderState
    assert abs(float(state.initMarginChange) - 275) < 1
    assert abs(float(state.maintMarginChange) - 250) < 1
    assert (state.commissionAndFees, state.commissionAndFeesCurrency) == (1.0, "USD")
    assert float(state.initMarginAfter) > float(state.initMarginBefore) > 0
    assert talk.told("orderStatus", orderId=order_id) == []


@step("modify", 202)
def modify(talk: Talk) -> None:
    bid, _ = talk.quote()
    order_id = talk.place(order("LMT", lmtPrice=share(bid, 0.8)), "Submitted")
    talk.api.placeOrder(order_id, talk.aapl, order("LMT", quantity=15, lmtPrice=share(bid, 0.85)))
    talk.wait("orderStatus", orderId=order_id, remaining=15)
    opened, status = talk.seen(order_id)
    assert (opened.order.lmtPrice, opened.order.totalQuantity, status.remaining) == (share(bid, 0.85), 15, 15)
    talk.cancel(order_id)


@step("cancel: 202", 202)
def cancel(talk: Talk) -> None:
    order_id = talk.place(order("LMT", lmtPrice=share(talk.quote()[0], 0.9)), "Submitted")
    talk.cancel(order_id)
    (error,) = talk.told("error")
    assert (error.reqId, error.errorString) == (order_id, "Order Canceled - reason:")
    assert talk.told("orderStatus", orderId=order_id, status="Cancelled")[0].remaining == 10


@step("open orders")
def open_orders(talk: Talk) -> None:
    price = share(talk.quote()[0], 0.8)
    placed = [talk.place(order("LMT", lmtPrice=price, tif="GTC"), "Submitted") for _ in range(2)]
    begin = len(talk.api.events)
    talk.api.reqOpenOrders()
    talk.wait("openOrderEnd")
    assert [event.orderId for event in talk.api.told("openOrder", begin)] == placed
    begin = len(talk.watcher.events)
    talk.watcher.reqOpenOrders()
    talk.until("the other's end", lambda: talk.watcher.told("openOrderEnd", begin))
    assert talk.watcher.told("openOrder", begin) == []


@step("all open orders")
def all_open_orders(talk: Talk) -> None:
    begin = len(talk.watcher.events)
    talk.watcher.reqAllOpenOrders()
    talk.until("their end", lambda: talk.watcher.told("openOrderEnd", begin))
    found = talk.watcher.told("openOrder", begin)
    assert [(event.order.clientId, event.orderState.status) for event in found] == [(CLIENT, "Submitted")] * 2
    assert {event.contract.conId for event in found} == {talk.aapl.conId}


@step("global cancel", 202)
def global_cancel(talk: Talk) -> None:
    talk.api.reqGlobalCancel(OrderCancel())
    talk.error(202, 2)
    begin = len(talk.api.events)
    talk.api.reqAllOpenOrders()
    talk.wait("openOrderEnd")
    assert talk.api.told("openOrder", begin) == []


@step("completed orders")
def completed_orders(talk: Talk) -> None:
    talk.api.reqCompletedOrders(False)
    talk.wait("completedOrdersEnd")
    found = talk.told("completedOrder")
    kinds = {(event.order.orderType, event.orderState.status) for event in found}
    assert {("MKT", "Filled"), ("LMT", "Cancelled"), ("TRAIL", "Cancelled")} <= kinds
    filled = next(event for event in found if event.orderState.status == "Filled")
    assert (filled.order.filledQuantity, filled.contract.symbol) == (10, "AAPL")
    assert filled.orderState.completedStatus == "Filled Size: 10"
    assert filled.orderState.completedTime


def executions_of(talk: Talk, **wanted: Any) -> list[Any]:
    """Executions that pass a filter."""
    chosen = ExecutionFilter()
    for name, value in wanted.items():
        assert hasattr(chosen, name), name
        setattr(chosen, name, value)
    return talk.ask(talk.api.reqExecutions, chosen, rows="execDetails", end="execDetailsEnd")


@step("executions")
def executions(talk: Talk) -> None:
    found = [event.execution for event in executions_of(talk)]
    ids = [execution.execId for execution in found]
    assert talk.filled in {execution.orderId for execution in found}
    assert len(ids) == len(set(ids))
    assert [event.commissionAndFeesReport.execId for event in talk.told("commissionAndFeesReport")] == ids
    # A moment with its time zone, a venue instead of the router.
    assert all(execution.time.count(" ") == 2 and execution.exchange != "SMART" for execution in found)


@step("executions, filtered")
def executions_filtered(talk: Talk) -> None:
    found = executions_of(talk, clientId=CLIENT, symbol="AAPL", side="BUY")
    assert {(event.contract.symbol, event.execution.side) for event in found} == {("AAPL", "BOT")}
    assert executions_of(talk, symbol="SPY") == []
