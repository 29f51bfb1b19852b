"""Orders and cancels that the gateway refuses, and a connection that comes back."""

from __future__ import annotations

from ibapi.order_cancel import OrderCancel

from compat.official.orders import share
from compat.official.reference import near_option
from compat.official.talk import ACCOUNT, CLIENT, LATE, Connection, Talk, order, step


@step("too large for the account: 201", 201)
def too_large(talk: Talk) -> None:
    order_id = talk.next_order_id()
    talk.api.placeOrder(order_id, talk.aapl, order("MKT", quantity=10_000_000))
    error = talk.error(201, reqId=order_id)
    assert error.errorString.startswith("Order rejected - reason:")
    assert talk.wait("orderStatus", orderId=order_id)[-1].status == "Inactive"


@step("an order type that is none: 321", 321)
def wrong_type(talk: Talk) -> None:
    order_id = talk.next_order_id()
    talk.api.placeOrder(order_id, talk.aapl, order("NONE SUCH"))
    assert talk.error(321, reqId=order_id).errorString.endswith("Invalid order type was entered")


@step("a price off the step: 110", 110)
def off_step(talk: Talk) -> None:
    order_id = talk.next_order_id()
    talk.api.placeOrder(order_id, talk.aapl, order("LMT", lmtPrice=100.001))
    assert "minimum price variation" in talk.error(110, reqId=order_id).errorString
    assert talk.told("openOrder", orderId=order_id) == []


@step("outside trading hours: 399")
def off_hours(talk: Talk) -> None:
    sunday = Connection()
    sunday.open(talk.closed_port, CLIENT)
    (first,) = talk.until("its first id", lambda: sunday.told("nextValidId"))
    sunday.placeOrder(first.orderId, talk.aapl, order("LMT", lmtPrice=100.0))
    (error,) = talk.until("399", lambda: sunday.told("error", errorCode=399))
    assert error.reqId == first.orderId
    held = "Order Message:\nBUY 10 AAPL NASDAQ.NMS\nWarning: Your order will not be placed"
    # ibapi hands out what stands in the message; the end of a line is one there.
    assert error.errorString.startswith(held)
    talk.until("the order", lambda: sunday.told("orderStatus", status="PreSubmitted"))
    sunday.close()


@step("cancel of an unknown order: 10147", 10147)
def cancel_unknown(talk: Talk) -> None:
    talk.api.cancelOrder(999_999, OrderCancel())
    assert talk.error(10147).reqId == 999_999


@step("cancel of a filled order: 10148", 10148)
def cancel_filled(talk: Talk) -> None:
    talk.api.cancelOrder(talk.filled, OrderCancel())
    error = talk.error(10148)
    assert error.reqId == talk.filled
    assert error.errorString.endswith("state: Filled.")


@step("an order id again: 103", 103)
def duplicate_id(talk: Talk) -> None:
    skipped = talk.next_order_id()
    talk.place(order("MKT"), "Filled")
    talk.api.placeOrder(skipped, talk.aapl, order("MKT"))
    error = talk.error(103)
    assert (error.reqId, error.errorString) == (skipped, "Duplicate order id")


@step("change of a filled order: 104", 104)
def change_filled(talk: Talk) -> None:
    talk.api.placeOrder(talk.filled, talk.aapl, order("MKT", quantity=20))
    assert talk.error(104).reqId == talk.filled


@step("exercise of an option that is not held: 322", 322)
def exercise(talk: Talk) -> None:
    option, order_id = near_option(talk), talk.next_order_id()
    talk.api.exerciseOptions(order_id, option, 1, 1, ACCOUNT, 0, "", "", False)
    error = talk.error(322)
    assert error.reqId == order_id
    assert "No unlapsed position" in error.errorString


@step("reconnect: the order is still there", 202)
def reconnect(talk: Talk) -> None:
    price = share(talk.quote()[0], 0.8)
    order_id = talk.place(order("LMT", lmtPrice=price, tif="GTC"), "Submitted")
    perm_id = talk.told("orderStatus", orderId=order_id)[-1].permId
    talk.api.close()
    talk.reconnected()
    talk.api.open(talk.port, CLIENT)
    assert talk.wait("nextValidId")[0].orderId > order_id
    talk.api.reqOpenOrders()
    talk.wait("openOrderEnd")
    found = talk.told("openOrder")[-1]
    assert (found.orderId, found.order.permId, found.order.lmtPrice) == (order_id, perm_id, price)
    assert found.orderState.status == "Submitted"
    # Another client id sees it, and does not own it.
    other = Connection()
    other.open(talk.port, LATE)
    talk.until("its first id", lambda: other.told("nextValidId"))
    other.reqAllOpenOrders()
    talk.until("their end", lambda: other.told("openOrderEnd"))
    assert [(event.orderId, event.order.clientId) for event in other.told("openOrder")] == [(order_id, CLIENT)]
    other.close()
    talk.cancel(order_id)
