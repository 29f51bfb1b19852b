"""What IBKR says of orders: rejections, notices, and its words in any order, lost and repeated."""

from __future__ import annotations

import asyncio
import itertools
from decimal import Decimal
from pathlib import Path

import pytest
from ibkr_gateway import new_client_order_id, stock
from ibkr_gateway.v1 import common_pb2
from ibkr_gateway.v1 import orders_service_pb2 as pb
from ibkr_gateway_server.domain.errors import MaxOpenOrders
from ibkr_gateway_server.domain.events import CommissionReported, Filled, NoticeReceived
from ibkr_gateway_server.domain.orders import BrokerNotice, OrderState, Side
from ibkr_gateway_server.simulator import Fault
from ibkr_gateway_server.trading.guard import TradingRules

from tests.conftest import Gateway
from tests.failures.conftest import inject, recorded, virtually
from tests.failures.dealings import (
    COMMISSION,
    EXECUTION,
    OPEN_ORDER,
    PLACE,
    STATUS,
    dealing,
    limit,
    market,
)

ASK_OPEN_ORDERS = 16
S = OrderState


def order(**terms: str) -> pb.OrderSpec:
    fields = {"instrument": stock("AAPL"), "side": common_pb2.SIDE_BUY, "quantity": "10", "limit_price": "10"}
    return pb.OrderSpec(order_type=pb.ORDER_TYPE_LMT, **{**fields, **terms})


async def place(gateway: Gateway, spec: pb.OrderSpec, key: str = "") -> pb.OrderResult:
    request = pb.PlaceOrderRequest(client_order_id=key or new_client_order_id(), order=spec)
    return (await gateway.client.orders.PlaceOrder(request)).result


async def test_O22_an_order_is_rejected(gateway: Gateway) -> None:
    """IBKR answers a new order with 201, in words of its own.

    PlaceOrder answers OK with state REJECTED, and IBKR's code and words as the rejection: data, never an error of the
    call. The record has it, the key stays used, and the same key again answers the same without another message.
    """
    text = "Order rejected - reason:The order's price is too far from the market."
    inject(gateway.simulator, Fault.REFUSE, PLACE, code=201, text=text)
    key = new_client_order_id()
    result = await place(gateway, order(), key)
    assert result.state == pb.ORDER_STATE_REJECTED
    assert (result.status.rejection.ibkr_code, result.status.rejection.text) == (201, text)
    assert (await place(gateway, order(), key)).state == pb.ORDER_STATE_REJECTED
    assert gateway.simulator.frames_received(PLACE) == 1
    told = [body["status"] for body in await recorded(gateway, "order.status")]
    assert [status["rejection"]["code"] for status in told if status["state"] == "REJECTED"] == [201]


@pytest.mark.parametrize(
    ("code", "text"),
    [
        (399, "Order Message:\nWarning: Your order will not be placed at the exchange until 09:30."),
        (10349, "Order TIF was set to DAY based on order preset."),
        (404, "Order held while securities are located."),
        (2109, "Order Event Warning: Attribute 'Outside Regular Trading Hours' is ignored."),
    ],
)
def test_O23_a_notice_about_a_working_order(tmp_path: Path, code: int, text: str) -> None:
    """TWS sends an error message about a working order that is only a notice: 399, 404, 2109 or 10349.

    The order's state stays as it is. The stream tells the notice, the order has it among its warnings, and the record
    keeps it.
    """

    async def main() -> None:
        async with dealing(tmp_path) as dealings:
            await dealings.place(limit())
            dealings.say(code, text)
            await dealings.settle()
            assert dealings.states() == [S.PENDING, S.SENT, S.WORKING]
            assert dealings.told(NoticeReceived) == [NoticeReceived(BrokerNotice(code, text))]
            assert dealings.status().warnings == (BrokerNotice(code, text),)
            assert len(dealings.recorded("order.notice")) == 1
            await dealings.check()

    virtually(main)


async def test_O24_a_new_order_whose_price_ibkr_does_not_take(gateway: Gateway) -> None:
    """IBKR answers a new order with 110, though its price is one of the market rule's.

    PlaceOrder answers OK with state REJECTED and IBKR's code and words.
    """
    inject(gateway.simulator, Fault.REFUSE, PLACE, code=110)
    result = await place(gateway, order())
    assert result.state == pb.ORDER_STATE_REJECTED
    assert result.status.rejection.ibkr_code == 110
    assert gateway.simulator.gateway.orders == {}


def test_O26_an_order_is_said_to_be_cancelled_by_a_message_alone(tmp_path: Path) -> None:
    """Somebody cancels an order in TWS; the message 202 arrives, the orderStatus that should be before it does not.

    The message alone changes nothing. It makes the gateway ask, and what IBKR lists as completed makes the order
    CANCELLED a moment later, told as recovered.
    """

    async def main() -> None:
        async with dealing(tmp_path) as dealings:
            await dealings.place(limit())
            dealings.inject(Fault.LOSE_REPLY, STATUS, times=2)
            dealings.simulator.gateway.cancel_manually(dealings.truth().perm_id)
            await dealings.until_state(S.CANCELLED)
            assert dealings.events[-1].recovered
            assert dealings.states() == [S.PENDING, S.SENT, S.WORKING, S.CANCELLED]
            await dealings.check()

    virtually(main)


def test_O26_a_working_order_is_said_to_be_cancelled(tmp_path: Path) -> None:
    """The message 202 arrives about an order that works, and goes on working.

    The order stays WORKING: IBKR is asked, and lists it as open.
    """

    async def main() -> None:
        async with dealing(tmp_path) as dealings:
            await dealings.place(limit())
            asked = dealings.frames(ASK_OPEN_ORDERS)
            dealings.say(202, "Order Canceled - reason:")
            await dealings.until(lambda: dealings.frames(ASK_OPEN_ORDERS) == asked + 1)
            await dealings.settle()
            assert dealings.states() == [S.PENDING, S.SENT, S.WORKING]
            await dealings.check()

    virtually(main)


WORDS = {"status": (STATUS, OPEN_ORDER), "execution": (EXECUTION,), "commission": (COMMISSION,)}


@pytest.mark.parametrize("order_of_words", list(itertools.permutations(WORDS)), ids=" then ".join)
def test_O27_the_words_on_a_fill_arrive_in_any_order(tmp_path: Path, order_of_words: tuple[str, ...]) -> None:
    """What IBKR says of a fill, its status, its execution and its commission, arrives in any of the six orders.

    The order becomes FILLED once, with the first word that says so. Its average price is that of the execution, the
    fill and its commission are each told once, and a stream goes on telling what comes after the end.
    """

    async def main() -> None:
        async with dealing(tmp_path) as dealings:
            await dealings.place(limit())
            for late_s, word in enumerate(order_of_words, start=1):
                for message_id in WORDS[word]:
                    how = {"delay_s": float(late_s), "times": None, "duration_s": 0.5}
                    dealings.inject(Fault.DELAY_REPLY, message_id, **how)
            dealings.trade(10, price=9.75)
            await asyncio.sleep(8.0)
            assert dealings.states() == [S.PENDING, S.SENT, S.WORKING, S.FILLED]
            assert dealings.status().average_fill_price == Decimal("9.75")
            (fill,) = dealings.told(Filled)
            (fee,) = dealings.told(CommissionReported)
            assert fill.execution.quantity == 10
            assert fee.execution.commission == dealings.status().commission
            assert dealings.status().commission
            await dealings.check()

    virtually(main)


def test_O27_no_status_ever_says_that_an_order_has_filled(tmp_path: Path) -> None:
    """A market order fills at once; its execution arrives, and no orderStatus and no openOrder of it, ever.

    The execution alone makes the order FILLED, with its average price; PlaceOrder answers as soon as it is heard.
    """

    async def main() -> None:
        async with dealing(tmp_path) as dealings:
            for message_id in (STATUS, OPEN_ORDER):
                dealings.inject(Fault.LOSE_REPLY, message_id, times=None, duration_s=60.0)
            status = await dealings.place(market())
            assert status.state in (S.PARTIAL, S.FILLED)
            await dealings.until_state(S.FILLED)
            assert dealings.status().average_fill_price == Decimal(str(round(dealings.truth().average_price, 6)))
            await dealings.settle()
            assert len(dealings.told(CommissionReported)) == len(dealings.told(Filled))
            await dealings.check()

    virtually(main)


def test_O28_a_fill_in_parts_told_twice(tmp_path: Path) -> None:
    """An order of 10 fills by 3, 4 and 3, and IBKR says everything about each fill twice.

    The order is PARTIAL with 3 and 7 and then FILLED with 10, at the average price of its executions. Each execution
    and each commission is told once, and recorded once.
    """

    async def main() -> None:
        async with dealing(tmp_path) as dealings:
            await dealings.place(limit())
            for message_id in (STATUS, OPEN_ORDER, EXECUTION, COMMISSION):
                dealings.inject(Fault.DUPLICATE_REPLY, message_id, times=None, duration_s=60.0)
            for quantity, price in ((3, 9.0), (4, 9.5), (3, 10.0)):
                dealings.trade(quantity, price)
                await asyncio.sleep(1.0)
            assert dealings.quantities() == [(S.PARTIAL, 3), (S.PARTIAL, 7), (S.FILLED, 10)]
            assert [one.execution.quantity for one in dealings.told(Filled)] == [3, 4, 3]
            assert len(dealings.told(CommissionReported)) == len(dealings.recorded("execution")) == 3
            assert dealings.status().average_fill_price == Decimal("9.5")
            await dealings.check()

    virtually(main)


@pytest.mark.parametrize("after_restart", [False, True], ids=["as it happens", "while disconnected"])
def test_O28_the_price_of_a_fill_is_corrected(tmp_path: Path, after_restart: bool) -> None:
    """The exchange corrects the price of a fill: the same execution again, its id ending in .02 instead of .01.

    The correction takes the place of the fill: quantities stay, the average price is the corrected one. The stream
    tells it as an execution with the new id, and a repetition of the wrong one counts no more.
    """

    async def main() -> None:
        async with dealing(tmp_path) as dealings:
            await dealings.place(limit())
            wrong = dealings.trade(10, 9.0)
            await dealings.settle()
            if after_restart:
                dealings.simulator.drop_connections()
            dealings.simulator.gateway.correct_execution(wrong.execution_id, 9.25)
            dealings.simulator.flush()
            await asyncio.sleep(5.0)
            (fill,) = dealings.order().executions
            assert (fill.quantity, fill.price) == (10, Decimal("9.25"))
            assert [one.execution.execution_id[-3:] for one in dealings.told(Filled)] == [".01", ".02"]
            assert dealings.status().filled_quantity == 10
            assert dealings.status().average_fill_price == Decimal("9.25")
            assert dealings.states()[-1] is S.FILLED
            await dealings.check()

    virtually(main)


def test_O28_a_correction_overtakes_the_fill(tmp_path: Path) -> None:
    """The correction of a fill arrives before the fill that it corrects.

    The corrected fill counts, with its price. The wrong one, when it comes, is neither counted nor told.
    """

    async def main() -> None:
        async with dealing(tmp_path) as dealings:
            await dealings.place(limit())
            dealings.inject(Fault.DELAY_REPLY, EXECUTION, delay_s=3.0)
            wrong = dealings.trade(10, 9.0)
            dealings.simulator.gateway.correct_execution(wrong.execution_id, 9.25)
            dealings.simulator.flush()
            await asyncio.sleep(8.0)
            assert [one.execution.execution_id[-3:] for one in dealings.told(Filled)] == [".02"]
            status = dealings.status()
            assert (status.state, status.filled_quantity) == (S.FILLED, 10)
            assert status.average_fill_price == Decimal("9.25")
            await dealings.check()

    virtually(main)


TOO_MANY = "Order rejected - reason:Order would exceed the maximum of 20 active orders per side per contract."


def test_O42_one_open_order_too_many_for_ibkr(tmp_path: Path) -> None:
    """The gateway's own limit is off, twenty orders of one contract and side are open, and IBKR rejects the next.

    PlaceOrder answers OK with state REJECTED and IBKR's code and words; the others work on.
    """

    async def main() -> None:
        rules = TradingRules(orders_enabled=True, max_open_orders=None)
        async with dealing(tmp_path, rules=rules) as dealings:
            for number in range(20):
                status = await dealings.place(limit(), f"one-of-twenty-{number:04d}")
                assert status.state is S.WORKING
            dealings.inject(Fault.REFUSE, PLACE, code=201, text=TOO_MANY)
            status = await dealings.place(limit())
            assert (status.state, status.rejection) == (S.REJECTED, BrokerNotice(201, TOO_MANY))
            await dealings.check()

    virtually(main)


def test_O42_one_open_order_too_many_for_the_gateway(tmp_path: Path) -> None:
    """Twenty orders of one contract and side are open, which is all that IBKR takes, and a caller places another.

    PlaceOrder fails with RESOURCE_EXHAUSTED and MAX_OPEN_ORDERS, and nothing has been sent. The other side, another
    contract, and the same order once one of the twenty has ended are placed.
    """

    async def main() -> None:
        async with dealing(tmp_path) as dealings:
            for number in range(20):
                await dealings.place(limit(), f"one-of-twenty-{number:04d}")
            with pytest.raises(MaxOpenOrders):
                await dealings.life.desk.place("one-too-many-0001", limit())
            assert dealings.frames(PLACE) == 20
            await dealings.place(limit("900", side=Side.SELL), "other-side-000001")
            await dealings.place(limit(symbol="MSFT"), "other-contract-01")
            await dealings.cancel("one-of-twenty-0007")
            assert (await dealings.place(limit(), "one-too-many-0001")).state is S.WORKING
            await dealings.check()

    virtually(main)


def test_O42_more_open_orders_at_once_than_ibkr_takes(tmp_path: Path) -> None:
    """Thirty orders of one contract and side are placed at the same moment.

    Twenty are placed. The others fail with RESOURCE_EXHAUSTED and MAX_OPEN_ORDERS, and nothing of them has been sent.
    """

    async def main() -> None:
        async with dealing(tmp_path) as dealings:
            placing = [dealings.life.desk.place(f"one-of-thirty-{number:04d}", limit()) for number in range(30)]
            answers = await asyncio.gather(*placing, return_exceptions=True)
            assert sum(isinstance(answer, MaxOpenOrders) for answer in answers) == 10
            assert dealings.frames(PLACE) == len(dealings.simulator.gateway.open_orders()) == 20

    virtually(main)
