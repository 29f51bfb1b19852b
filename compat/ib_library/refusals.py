"""Orders and cancels that the gateway refuses, and a connection that comes back."""

from __future__ import annotations

from compat.ib_library.reference import near_option
from compat.ib_library.talk import ACCOUNT, CLIENT, IS_IB_ASYNC, LATE, Talk, library, order, step

CANCELLED = "Canceled order: "


@step("too large for the account: 201", 201, logs=("Error 201", CANCELLED))
async def too_large(talk: Talk) -> None:
    trade = talk.ib.placeOrder(talk.aapl, order("MKT", quantity=10_000_000))
    await talk.until_error(201)
    assert talk.recorder.errors[0][2].startswith("Order rejected - reason:")
    await talk.until("its end", lambda: trade.orderStatus.status in ("Inactive", "Cancelled"))


@step("an order type that is none: 321", 321, logs=("Error 321", "IBKR API validation warning: ", CANCELLED))
async def wrong_type(talk: Talk) -> None:
    talk.ib.placeOrder(talk.aapl, order("NONE SUCH"))
    await talk.until_error(321)
    assert talk.recorder.errors[0][2].endswith("Invalid order type was entered")


@step("a price off the step: 110", 110, logs=("Error 110", CANCELLED))
async def off_step(talk: Talk) -> None:
    trade = talk.ib.placeOrder(talk.aapl, order("LMT", lmtPrice=100.001))
    await talk.until_error(110)
    # ib_insync takes this for a warning about an order that lives.
    assert trade.orderStatus.status == ("Cancelled" if IS_IB_ASYNC else "PendingSubmit")


@step("outside trading hours: 399", logs=("IBKR API validation warning: ",))
async def off_hours(talk: Talk) -> None:
    sunday, told = library.IB(), list[tuple[int, str]]()
    sunday.errorEvent += lambda _req_id, code, text, _contract: told.append((code, text))
    await sunday.connectAsync("127.0.0.1", talk.closed_port, clientId=CLIENT)
    trade = sunday.placeOrder(talk.aapl, order("LMT", lmtPrice=100.0))
    await talk.until("399", lambda: any(code == 399 for code, _ in told))
    text = next(text for code, text in told if code == 399)
    assert text.startswith("Order Message:\nBUY 10 AAPL NASDAQ.NMS\nWarning: Your order will not be placed")
    # Whatever the client makes of the warning, the gateway has the order.
    await sunday.reqAllOpenOrdersAsync()
    await talk.until("the order", lambda: trade.orderStatus.status == "PreSubmitted")
    sunday.disconnect()


@step("cancel of an unknown order: 10147", 10147, logs=("Error 10147",))
async def cancel_unknown(talk: Talk) -> None:
    talk.ib.client.cancelOrder(999_999, "")
    await talk.until_error(10147)
    assert talk.recorder.errors[0][0] == 999_999


@step("cancel of a filled order: 10148", 10148, logs=("Error 10148",))
async def cancel_filled(talk: Talk) -> None:
    talk.ib.client.cancelOrder(talk.filled.order.orderId, "")
    await talk.until_error(10148)
    assert talk.recorder.errors[0][2].endswith("state: Filled.")


@step("an order id again: 103", 103, logs=("Error 103", CANCELLED))
async def duplicate_id(talk: Talk) -> None:
    skipped = talk.ib.client.getReqId()
    await talk.place(order("MKT"), "Filled")
    talk.ib.placeOrder(talk.aapl, order("MKT", orderId=skipped))
    await talk.until_error(103)
    assert talk.recorder.errors[0] == (skipped, 103, "Duplicate order id")


@step("change of a filled order: 104", 104, logs=("Error 104",))
async def change_filled(talk: Talk) -> None:
    # The library's own placeOrder refuses to send this.
    done = talk.filled.order
    changed = order("MKT", quantity=20, orderId=done.orderId, clientId=CLIENT, account=done.account)
    talk.ib.client.placeOrder(done.orderId, talk.aapl, changed)
    await talk.until_error(104)
    assert talk.recorder.errors[0][0] == done.orderId


@step("exercise of an option that is not held: 322", 322, logs=("Error 322",))
async def exercise(talk: Talk) -> None:
    option = await near_option(talk)
    talk.ib.exerciseOptions(option, 1, 1, ACCOUNT, 0)
    await talk.until_error(322)
    assert "No unlapsed position" in talk.recorder.errors[0][2]


@step("reconnect: the order is still there", 202, logs=("Error 202", CANCELLED))
async def reconnect(talk: Talk) -> None:
    price = round((await talk.quote())[0] * 0.8, 2)
    trade = await talk.place(order("LMT", lmtPrice=price, tif="GTC"), "Submitted")
    perm_id = trade.order.permId
    talk.ib.disconnect()
    await talk.ib.connectAsync("127.0.0.1", talk.port, clientId=CLIENT)
    (found,) = [trade for trade in talk.ib.openTrades() if trade.order.permId == perm_id]
    assert (found.orderStatus.status, found.order.lmtPrice) == ("Submitted", price)
    # Another client id sees it, and does not own it.
    other = library.IB()
    await other.connectAsync("127.0.0.1", talk.port, clientId=LATE)
    assert [trade.order.clientId for trade in await other.reqAllOpenOrdersAsync()] == [CLIENT]
    other.disconnect()
    await talk.cancel(found)
