"""Cancels that come too late, are refused, are lost, or are sent while TWS has no link; and cancels of everything."""

from __future__ import annotations

import asyncio
from decimal import Decimal
from pathlib import Path

import pytest
from ibkr_gateway_server.audit.stored import Cause
from ibkr_gateway_server.domain.errors import DomainError, NotCancellable, TradingHalted
from ibkr_gateway_server.domain.halts import HaltLevel
from ibkr_gateway_server.domain.orders import BrokerNotice, OrderState
from ibkr_gateway_server.simulator import Behaviour, Fault
from ibkr_gateway_server.trading.guard import TradingRules
from ibkr_gateway_server.trading.halt import HaltSwitch

from tests.failures.conftest import virtually
from tests.failures.dealings import CANCEL, OPEN_ORDER, PLACE, STATUS, WORD_S, dealing, limit

S = OrderState
# A cancel takes half a second to the exchange: time for what races it.
FAR = Behaviour(exchange_s=0.5)
NEXT = (S.PENDING, S.SENT, S.WORKING)


@pytest.mark.parametrize("code", [10147, 10148, 161])
def test_O25_a_cancel_is_refused_and_the_order_works_on(tmp_path: Path, code: int) -> None:
    """IBKR answers the cancel of a working order with 161, 10147 or 10148, and the order works on.

    CancelOrder answers OK at once, with the state that IBKR's list of open orders gives, WORKING, and the code among
    the warnings. The code alone never made it CANCELLED.
    """

    async def main() -> None:
        async with dealing(tmp_path) as dealings:
            await dealings.place(limit())
            dealings.inject(Fault.REFUSE, CANCEL, code=code, text="No.")
            began = asyncio.get_running_loop().time()
            status = await dealings.cancel()
            assert asyncio.get_running_loop().time() - began < 1.0
            assert (status.state, status.warnings) == (S.WORKING, (BrokerNotice(code, "No."),))
            assert S.CANCELLED not in dealings.states()
            await dealings.check()

    virtually(main)


def test_O25_a_cancel_is_refused_since_the_order_has_filled(tmp_path: Path) -> None:
    """An order fills, the gateway is not told of it, and IBKR answers its cancel with 10148.

    CancelOrder answers OK with state FILLED, from IBKR's executions, and the code among the warnings. Another cancel of
    it fails with FAILED_PRECONDITION and NOT_CANCELLABLE, and nothing is sent.
    """

    async def main() -> None:
        async with dealing(tmp_path) as dealings:
            await dealings.place(limit())
            for message_id in (11, STATUS, OPEN_ORDER):
                dealings.inject(Fault.LOSE_REPLY, message_id, times=None, duration_s=0.05)
            dealings.trade(10)
            await asyncio.sleep(0.1)
            assert dealings.status().state is S.WORKING
            status = await dealings.cancel()
            assert status.state is S.FILLED
            assert [notice.code for notice in status.warnings] == [10148]
            with pytest.raises(NotCancellable):
                await dealings.cancel()
            assert dealings.frames(CANCEL) == 1
            await dealings.check()

    virtually(main)


def test_O29_an_order_fills_while_its_cancel_is_under_way(tmp_path: Path) -> None:
    """All of an order trades between its cancel's arrival and the exchange's word on it.

    The order goes from CANCEL_PENDING to FILLED: CancelOrder answers OK with that. IBKR's 161 about the cancel that
    came too late is among the warnings.
    """

    async def main() -> None:
        async with dealing(tmp_path, behaviour=FAR) as dealings:
            await dealings.place(limit())
            cancelling = asyncio.ensure_future(dealings.cancel())
            await dealings.until(lambda: dealings.truth().status == "PendingCancel")
            dealings.trade(10)
            assert (await cancelling).state is S.FILLED
            await asyncio.sleep(1.0)
            assert dealings.states() == [*NEXT, S.CANCEL_PENDING, S.FILLED]
            assert [notice.code for notice in dealings.status().warnings] == [161]
            await dealings.check()

    virtually(main)


def test_O29_an_order_fills_in_part_while_its_cancel_is_under_way(tmp_path: Path) -> None:
    """Four of ten trade between a cancel's arrival and the exchange's word on it; the rest is cancelled.

    The order ends as CANCELLED with a filled quantity of 4, at the average price of that, and with its execution.
    """

    async def main() -> None:
        async with dealing(tmp_path, behaviour=FAR) as dealings:
            await dealings.place(limit())
            cancelling = asyncio.ensure_future(dealings.cancel())
            await dealings.until(lambda: dealings.truth().status == "PendingCancel")
            dealings.trade(4, 9.5)
            status = await cancelling
            assert (status.state, status.filled_quantity) == (S.CANCELLED, 4)
            assert status.average_fill_price == Decimal("9.5")
            assert dealings.states() == [*NEXT, S.CANCEL_PENDING, S.CANCELLED]
            await dealings.check()

    virtually(main)


def test_O29_a_fill_is_heard_of_after_the_cancel(tmp_path: Path) -> None:
    """Four of ten trade before the cancel, and IBKR tells the execution only after it has told the cancel.

    The order is CANCELLED, and stays so; its filled quantity is 4, with the execution once that is there.
    """

    async def main() -> None:
        async with dealing(tmp_path) as dealings:
            await dealings.place(limit())
            dealings.inject(Fault.DELAY_REPLY, 11, delay_s=3.0)
            dealings.trade(4, 9.5)
            status = await dealings.cancel()
            assert (status.state, status.filled_quantity) == (S.CANCELLED, 4)
            await asyncio.sleep(5.0)
            assert dealings.states()[-1] is S.CANCELLED
            assert [fill.quantity for fill in dealings.order().executions] == [4]
            await dealings.check()

    virtually(main)


def test_O30_a_cancel_is_taken_and_the_connection_breaks(tmp_path: Path) -> None:
    """TWS takes a cancel, and the connection breaks before its word on it.

    CancelOrder answers OK: with CANCELLED if the gateway was back and told within its time, else with CANCEL_PENDING.
    Cancelling again is harmless. One cancel has been sent.
    """

    async def main() -> None:
        async with dealing(tmp_path) as dealings:
            await dealings.place(limit())
            dealings.inject(Fault.DISCONNECT_AFTER, CANCEL)
            status = await dealings.cancel()
            assert status.state is S.CANCELLED
            assert dealings.states() == [*NEXT, S.CANCEL_PENDING, S.CANCELLED]
            assert (await dealings.cancel()).state is S.CANCELLED
            assert dealings.frames(CANCEL) == 1
            await dealings.check()

    virtually(main)


@pytest.mark.parametrize("fault", [Fault.LOSE, Fault.DISCONNECT_BEFORE], ids=lambda fault: fault.name.lower())
def test_O30_a_cancel_is_lost(tmp_path: Path, fault: Fault) -> None:
    """A cancel is read and forgotten, or the connection breaks before it is read.

    CancelOrder answers OK with CANCEL_PENDING when its caller's time is up. After 10 s IBKR is asked, still lists the
    order, and it is WORKING again: the caller may repeat the cancel, which then ends it.
    """

    async def main() -> None:
        async with dealing(tmp_path) as dealings:
            await dealings.place(limit())
            dealings.inject(fault, CANCEL)
            assert (await dealings.cancel(wait_s=1.0)).state is S.CANCEL_PENDING
            await dealings.until_state(S.WORKING, timeout_s=WORD_S)
            assert dealings.truth().status == "Submitted"
            assert (await dealings.cancel()).state is S.CANCELLED
            assert dealings.frames(CANCEL) == 2
            await dealings.check()

    virtually(main)


def test_O30_a_cancel_is_repeated_while_the_first_is_under_way(tmp_path: Path) -> None:
    """A caller cancels an order three times before IBKR has answered; IBKR refuses the second and third with 10148.

    All three answer OK with CANCELLED, as IBKR does with the order.
    """

    async def main() -> None:
        async with dealing(tmp_path, behaviour=FAR) as dealings:
            await dealings.place(limit())
            answers = await asyncio.gather(*(dealings.cancel() for _ in range(3)))
            assert {status.state for status in answers} == {S.CANCELLED}
            assert S.WORKING not in dealings.states()[3:]
            await dealings.check()

    virtually(main)


@pytest.mark.parametrize("value", ["", "data_lost"], ids=["1102", "1101"])
def test_O31_a_cancel_while_the_link_is_down(tmp_path: Path, value: str) -> None:
    """An order is cancelled while TWS has no link to IBKR; the link is back with 1101 or 1102 after 30 s.

    CancelOrder answers OK with CANCEL_PENDING: sent, and not confirmed. Once the link is back and IBKR still lists the
    order, the cancel is sent once more, and the order becomes CANCELLED. The record has the second as cancel.retry.
    """

    async def main() -> None:
        async with dealing(tmp_path) as dealings:
            await dealings.place(limit())
            dealings.inject(Fault.LINK_LOST, duration_s=30.0, value=value)
            await asyncio.sleep(0.1)
            assert (await dealings.cancel(wait_s=5.0)).state is S.CANCEL_PENDING
            assert dealings.frames(CANCEL) == 1
            await dealings.until_state(S.CANCELLED, timeout_s=40.0)
            await asyncio.sleep(60.0)
            assert dealings.frames(CANCEL) == 2
            assert dealings.states() == [*NEXT, S.CANCEL_PENDING, S.CANCELLED]
            assert len(dealings.recorded("cancel.retry")) == len(dealings.recorded("order.cancel")) == 1
            await dealings.check()

    virtually(main)


@pytest.mark.parametrize("ends", ["filled", "cancelled"])
def test_O31_an_order_ends_before_the_link_is_back(tmp_path: Path, ends: str) -> None:
    """An order is cancelled while TWS has no link to IBKR, and has ended there by itself when the link is back.

    The order becomes FILLED or CANCELLED, as IBKR says, and no second cancel is sent.
    """

    async def main() -> None:
        async with dealing(tmp_path) as dealings:
            await dealings.place(limit())
            dealings.inject(Fault.LINK_LOST, duration_s=30.0)
            await asyncio.sleep(0.1)
            assert (await dealings.cancel(wait_s=1.0)).state is S.CANCEL_PENDING
            if ends == "filled":
                dealings.trade(10)
            else:
                dealings.simulator.gateway.cancel_manually(dealings.truth().perm_id)
            await asyncio.sleep(60.0)
            assert dealings.status().state is (S.FILLED if ends == "filled" else S.CANCELLED)
            assert dealings.frames(CANCEL) == 1
            assert dealings.recorded("cancel.retry") == []
            await dealings.check()

    virtually(main)


def test_O48_trading_is_halted_while_twenty_orders_are_being_placed(tmp_path: Path) -> None:
    """HaltTrading with CANCEL_OWN arrives while twenty PlaceOrder calls are under way.

    Those of which no byte has left fail with FAILED_PRECONDITION and TRADING_HALTED; the others answer OK, are told of
    to their end, and each has its cancel at TWS within 2 s. Nothing is left open.
    """

    async def main() -> None:
        async with dealing(tmp_path, rules=TradingRules(orders_enabled=True, max_open_orders=None)) as dealings:
            life = dealings.life
            switch = HaltSwitch(life.store, life.desk, life.session.now)
            await switch.load()
            life.desk.guard.obey(switch.look)
            running = asyncio.ensure_future(switch.run())
            await dealings.place(limit())
            keys = [f"one-of-twenty-{number:04d}" for number in range(20)]
            placing = [asyncio.ensure_future(dealings.place(limit(), key)) for key in keys]
            await dealings.until(lambda: dealings.frames(PLACE) >= 8)
            began = asyncio.get_running_loop().time()
            await switch.engage(HaltLevel.CANCEL_OWN, "enough", Cause())
            await dealings.until(lambda: dealings.frames(CANCEL) >= dealings.frames(PLACE), timeout_s=2.0)
            assert asyncio.get_running_loop().time() - began < 2.0
            answers = await asyncio.gather(*placing, return_exceptions=True)
            refused = [answer for answer in answers if isinstance(answer, DomainError)]
            assert {type(answer) for answer in refused} == {TradingHalted}
            assert len(refused) + dealings.frames(PLACE) - 1 == 20
            await asyncio.sleep(1.0)
            assert dealings.simulator.gateway.open_orders() == []
            assert life.desk.own_open_orders() == ()
            assert len(dealings.recorded("halt.engaged")) == 1
            for intent, answer in zip(dealings.placed[1:], answers, strict=True):
                intent.is_acknowledged = not isinstance(answer, DomainError)
            await dealings.check()
            running.cancel()

    virtually(main)
