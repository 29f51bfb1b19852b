"""Changes of orders that are refused, lost, late, or made by somebody else in TWS."""

from __future__ import annotations

import asyncio
import json
from dataclasses import replace
from decimal import Decimal
from pathlib import Path

import pytest
from ibkr_gateway_server.domain.errors import BrokerLinkDown, NotModifiable, ReconciliationRequired
from ibkr_gateway_server.domain.events import ModifiedExternally, NoticeReceived
from ibkr_gateway_server.domain.orders import BrokerNotice, OrderState, OrderType
from ibkr_gateway_server.simulator import Fault

from tests.failures.conftest import virtually
from tests.failures.dealings import (
    ASKED_AGAIN_S,
    OPEN_ORDER,
    PLACE,
    QUARANTINE_S,
    WORD_S,
    Dealings,
    dealing,
    limit,
)

S = OrderState
CHANGE, SECOND_CHANGE = "the-change-000001", "the-change-000002"
BEFORE, AFTER = limit("10"), limit("11", 12)


def terms_of(dealings: Dealings) -> tuple[Decimal | None, Decimal, str]:
    """Limit price, quantity and the change that is not confirmed, as told."""
    status = dealings.status()
    return status.limit_price, status.quantity, status.pending_modify_id


@pytest.mark.parametrize("code", [104, 105, 110, 134, 201])
def test_O25_a_change_is_refused(tmp_path: Path, code: int) -> None:
    """IBKR answers the change of a working order with 104, 105, 110, 134 or 201, which refuses a new order as well.

    ModifyOrder answers OK at once: WORKING with the terms of before, the code among the warnings, and no change
    pending. The order is never REJECTED, and may be changed again.
    """

    async def main() -> None:
        async with dealing(tmp_path) as dealings:
            await dealings.place(BEFORE)
            dealings.inject(Fault.REFUSE, PLACE, code=code, text="No.")
            status = await dealings.modify(AFTER, CHANGE)
            assert status.state is S.WORKING
            assert terms_of(dealings) == (10, 10, "")
            assert status.warnings == (BrokerNotice(code, "No."),)
            assert dealings.told(NoticeReceived) == [NoticeReceived(BrokerNotice(code, "No."))]
            assert S.REJECTED not in dealings.states()
            # The same change again is the same answer; another one is another try.
            assert (await dealings.modify(AFTER, CHANGE)).limit_price == 10
            assert dealings.frames(PLACE) == 2
            await dealings.modify(AFTER, SECOND_CHANGE)
            assert terms_of(dealings) == (11, 12, "")
            await dealings.check()

    virtually(main)


def test_O24_a_change_to_a_price_that_ibkr_does_not_take(tmp_path: Path) -> None:
    """IBKR answers a change with 110, and the order fills later at the terms of before.

    ModifyOrder answers OK with the terms of before, WORKING, and 110 among the warnings; the order becomes FILLED with
    its old quantity.
    """

    async def main() -> None:
        async with dealing(tmp_path) as dealings:
            await dealings.place(BEFORE)
            dealings.inject(Fault.REFUSE, PLACE, code=110)
            await dealings.modify(AFTER, CHANGE)
            dealings.wanted(BEFORE)
            dealings.trade(10)
            await dealings.until_state(S.FILLED)
            assert dealings.status().filled_quantity == 10
            await dealings.check()

    virtually(main)


def test_O25_a_change_comes_after_the_order_has_filled(tmp_path: Path) -> None:
    """An order fills while a change of it is on its way; IBKR refuses the change with 104.

    ModifyOrder answers OK with state FILLED, the old quantity, and no change pending. A further change fails with
    FAILED_PRECONDITION and NOT_MODIFIABLE, and nothing is sent.
    """

    async def main() -> None:
        async with dealing(tmp_path) as dealings:
            await dealings.place(BEFORE)
            dealings.inject(Fault.LATE, PLACE, delay_s=1.0)
            changing = asyncio.ensure_future(dealings.modify(AFTER, CHANGE))
            await dealings.until(lambda: dealings.frames(PLACE) == 2)
            dealings.trade(10)
            status = await changing
            assert (status.state, status.quantity, status.pending_modify_id) == (S.FILLED, 10, "")
            await asyncio.sleep(2.0)
            with pytest.raises(NotModifiable):
                await dealings.modify(limit("12", 12), SECOND_CHANGE)
            assert dealings.frames(PLACE) == 2
            dealings.wanted(BEFORE)
            await dealings.check()

    virtually(main)


def test_O32_the_word_on_a_change_is_lost(tmp_path: Path) -> None:
    """A change takes effect, and the openOrder that would show it is lost.

    ModifyOrder answers OK when its caller's time is up: the terms of before, with pending_modify_id. Another change
    fails with RECONCILIATION_REQUIRED, unsent. After 10 s IBKR is asked, shows the new terms, and they are told.
    """

    async def main() -> None:
        async with dealing(tmp_path) as dealings:
            await dealings.place(BEFORE)
            dealings.inject(Fault.LOSE_REPLY, OPEN_ORDER, times=None, duration_s=2.0)
            await dealings.modify(AFTER, CHANGE, wait_s=1.0)
            assert terms_of(dealings) == (10, 10, CHANGE)
            with pytest.raises(ReconciliationRequired):
                await dealings.modify(limit("12", 12), SECOND_CHANGE)
            assert dealings.frames(PLACE) == 2
            await dealings.until(lambda: terms_of(dealings) == (11, 12, ""), WORD_S)
            assert dealings.told(ModifiedExternally) == []
            await dealings.check()

    virtually(main)


def test_O32_a_change_takes_effect_and_the_connection_breaks(tmp_path: Path) -> None:
    """A change takes effect, and the connection breaks before IBKR's word on it.

    ModifyOrder answers OK: once the gateway is back IBKR shows the new terms, and they are told. The change was sent
    once.
    """

    async def main() -> None:
        async with dealing(tmp_path) as dealings:
            await dealings.place(BEFORE)
            dealings.inject(Fault.DISCONNECT_AFTER, PLACE)
            await dealings.modify(AFTER, CHANGE)
            assert terms_of(dealings) == (11, 12, "")
            assert dealings.frames(PLACE) == 2
            assert dealings.told(ModifiedExternally) == []
            await dealings.check()

    virtually(main)


@pytest.mark.parametrize("where", ["through the gateway", "in TWS"])
def test_O37_an_order_is_reduced_to_what_has_filled(tmp_path: Path, where: str) -> None:
    """Four of ten have filled, and the quantity is changed to four, through the gateway or in TWS.

    IBKR calls the order filled, and so it is told: FILLED with quantity and filled quantity 4, from its one execution;
    the six that were given up are never told as filled.
    """

    async def main() -> None:
        async with dealing(tmp_path) as dealings:
            await dealings.place(BEFORE)
            dealings.trade(4)
            await dealings.settle()
            if where == "in TWS":
                dealings.simulator.gateway.modify_manually(dealings.truth().perm_id, quantity=4.0)
                dealings.simulator.flush()
                dealings.wanted(limit(quantity=4))
            else:
                await dealings.modify(limit(quantity=4), CHANGE)
            await dealings.until_state(S.FILLED)
            status = dealings.status()
            assert (status.quantity, status.filled_quantity, status.pending_modify_id) == (4, 4, "")
            assert max(quantity for _, quantity in dealings.quantities()) == 4
            assert len(dealings.told(ModifiedExternally)) == (where == "in TWS")
            await dealings.check()

    virtually(main)


def test_O32_an_order_is_cancelled_while_a_change_is_not_confirmed(tmp_path: Path) -> None:
    """A change is not confirmed, and the caller cancels the order.

    CancelOrder works as ever and answers OK with CANCELLED. Nothing is pending any more.
    """

    async def main() -> None:
        async with dealing(tmp_path) as dealings:
            await dealings.place(BEFORE)
            dealings.inject(Fault.LOSE_REPLY, OPEN_ORDER, times=None, duration_s=2.0)
            await dealings.modify(AFTER, CHANGE, wait_s=1.0)
            assert terms_of(dealings) == (10, 10, CHANGE)
            status = await dealings.cancel()
            assert (status.state, status.pending_modify_id) == (S.CANCELLED, "")
            await dealings.check()

    virtually(main)


def test_O32_a_change_takes_effect_late(tmp_path: Path) -> None:
    """A change takes effect after 60 s; until then IBKR, asked, lists the order with the terms of before.

    Those lists settle nothing: the change stays pending, with its pending_modify_id. When the new terms are shown they
    are told, as those of the change and not as somebody else's.
    """

    async def main() -> None:
        async with dealing(tmp_path) as dealings:
            await dealings.place(BEFORE)
            dealings.inject(Fault.LATE, PLACE, delay_s=60.0)
            await dealings.modify(AFTER, CHANGE)
            await asyncio.sleep(40.0)
            assert terms_of(dealings) == (10, 10, CHANGE)
            await asyncio.sleep(20.0)
            assert terms_of(dealings) == (11, 12, "")
            assert dealings.told(ModifiedExternally) == []
            await dealings.check()

    virtually(main)


@pytest.mark.parametrize("fault", [Fault.LOSE, Fault.DISCONNECT_BEFORE], ids=lambda fault: fault.name.lower())
def test_O32_a_change_is_lost(tmp_path: Path, fault: Fault) -> None:
    """A change is read and forgotten, or the connection breaks before it is read.

    The order is WORKING with the terms of before and pending_modify_id, until complete lists have shown it unchanged
    for 120 s: the change is then presumed not applied, nothing is pending, and the order may be changed again.
    """

    async def main() -> None:
        async with dealing(tmp_path) as dealings:
            await dealings.place(BEFORE)
            dealings.inject(fault, PLACE)
            await dealings.modify(AFTER, CHANGE, wait_s=1.0)
            await asyncio.sleep(60.0)
            assert terms_of(dealings) == (10, 10, CHANGE)
            await dealings.until(lambda: terms_of(dealings) == (10, 10, ""), QUARANTINE_S)
            assert dealings.frames(PLACE) == 2
            ends = [json.loads(record.body_json)["state"] for record in dealings.recorded("order.modify.end")]
            assert ends == ["PRESUMED_NOT_APPLIED"]
            await dealings.modify(AFTER, SECOND_CHANGE)
            assert terms_of(dealings) == (11, 12, "")
            await dealings.check()

    virtually(main)


def test_O33_a_change_while_the_link_is_down(tmp_path: Path) -> None:
    """An order is to be changed while TWS has no link to IBKR.

    ModifyOrder fails with UNAVAILABLE and BROKER_LINK_DOWN, and nothing is sent; not when the link is back either. The
    same modify_id may be used again, and changes the order then.
    """

    async def main() -> None:
        async with dealing(tmp_path) as dealings:
            await dealings.place(BEFORE)
            dealings.inject(Fault.LINK_LOST, duration_s=30.0)
            await asyncio.sleep(0.1)
            with pytest.raises(BrokerLinkDown):
                await dealings.life.desk.modify("the-order-000001", CHANGE, AFTER)
            await asyncio.sleep(60.0)
            assert dealings.frames(PLACE) == 1
            assert terms_of(dealings) == (10, 10, "")
            await dealings.modify(AFTER, CHANGE)
            assert terms_of(dealings) == (11, 12, "")
            assert dealings.frames(PLACE) == 2
            await dealings.check()

    virtually(main)


def test_O37_an_order_is_changed_in_tws(tmp_path: Path) -> None:
    """Somebody changes price and quantity of a gateway's order in TWS.

    The stream tells modified_externally, with the order before and after, and then the new status. Terms and quantity
    are the new ones from then on; the order may be changed and cancelled through the gateway as before.
    """

    async def main() -> None:
        async with dealing(tmp_path) as dealings:
            await dealings.place(BEFORE)
            dealings.simulator.gateway.modify_manually(dealings.truth().perm_id, limit_price=11.0, quantity=12.0)
            dealings.simulator.flush()
            dealings.wanted(AFTER)
            await dealings.until(lambda: dealings.told(ModifiedExternally))
            (told,) = dealings.told(ModifiedExternally)
            assert (told.before.limit_price, told.before.quantity) == (10, 10)
            assert (told.after.limit_price, told.after.quantity) == (11, 12)
            assert terms_of(dealings) == (11, 12, "")
            assert len(dealings.recorded("external.modify")) == 1
            await dealings.modify(limit("12", 12), CHANGE)
            assert terms_of(dealings) == (12, 12, "")
            assert len(dealings.told(ModifiedExternally)) == 1
            await dealings.check()

    virtually(main)


def test_O37_an_order_is_changed_in_tws_while_the_gateway_is_away(tmp_path: Path) -> None:
    """Somebody changes the type and the time in force of a gateway's order in TWS while the gateway is not connected.

    When the gateway is back the stream tells modified_externally with before and after, marked as recovered, once.
    """

    async def main() -> None:
        async with dealing(tmp_path) as dealings:
            await dealings.place(BEFORE)
            dealings.inject(Fault.REFUSE_CONNECTIONS, duration_s=20.0)
            dealings.inject(Fault.DISCONNECT)
            changed = {"order_type": "STP", "limit_price": None, "aux_price": 900.0, "tif": "GTC"}
            dealings.simulator.gateway.modify_manually(dealings.truth().perm_id, **changed)
            await asyncio.sleep(ASKED_AGAIN_S)
            (told,) = dealings.told(ModifiedExternally)
            assert told.before.order_type is OrderType.LMT
            assert (told.after.order_type, told.after.stop_price) == (OrderType.STP, 900)
            assert (told.after.limit_price, told.after.time_in_force) == (None, "GTC")
            assert [one.recovered for one in dealings.events if one.happening == told] == [True]
            await dealings.check()

    virtually(main)


def test_O37_an_order_is_changed_in_tws_while_a_change_is_on_its_way(tmp_path: Path) -> None:
    """Somebody changes the price of an order in TWS while a change by the gateway is on its way, and that is refused.

    The stream tells the one in TWS as modified_externally; the terms are those of TWS, and nothing is pending.
    """

    async def main() -> None:
        async with dealing(tmp_path) as dealings:
            await dealings.place(BEFORE)
            dealings.inject(Fault.REFUSE, PLACE, code=134, text="Modify order failed.")
            dealings.simulator.gateway.modify_manually(dealings.truth().perm_id, limit_price=10.5)
            await dealings.modify(AFTER, CHANGE)
            dealings.wanted(replace(BEFORE, limit_price=Decimal("10.5")))
            await dealings.settle()
            assert terms_of(dealings) == (Decimal("10.5"), 10, "")
            assert len(dealings.told(ModifiedExternally)) == 1
            await dealings.check()

    virtually(main)
