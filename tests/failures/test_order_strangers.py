"""Orders that this gateway did not place: by hand in TWS, by other programs, with its own mark or one made up."""

from __future__ import annotations

import asyncio
from pathlib import Path

import pytest
from ibkr_gateway_server.domain.errors import NotCancellable, ReconciliationRequired, ScopeMissing
from ibkr_gateway_server.domain.events import AlarmRaised
from ibkr_gateway_server.domain.orders import AlarmKind, OrderKey, OrderOrigin, OrderState, OrderStatus, TimeInForce
from ibkr_gateway_server.domain.tallies import ORDER_CONFLICTS
from ibkr_gateway_server.simulator import Fault
from ibkr_gateway_server.simulator.instruments import ContractQuery
from ibkr_gateway_server.simulator.orders import Order as SimulatedOrder
from ibkr_gateway_server.simulator.orders import Terms

from tests.failures.conftest import virtually
from tests.failures.dealings import ACCOUNT, ASKED_AGAIN_S, CANCEL, PLACE, Dealings, dealing, limit

S = OrderState


def alarms(dealings: Dealings) -> list[AlarmKind]:
    return [alarm.kind for alarm in dealings.told(AlarmRaised)]


async def externals(dealings: Dealings) -> list[OrderStatus]:
    """Open orders that were placed elsewhere, as ListOpenOrders shows them."""
    shown = await dealings.life.desk.open_orders(include_external=True)
    return [status for status in shown if status.origin is not OrderOrigin.GATEWAY]


def of_program(dealings: Dealings, **terms: object) -> SimulatedOrder:
    """Another program places an order."""
    gateway = dealings.simulator.gateway
    fields = {"action": "BUY", "quantity": 5.0, "order_type": "LMT", "limit_price": 20.0, "account": ACCOUNT}
    order_id = gateway.next_order_id(77)
    gateway.place(
        77, order_id, ContractQuery(symbol="AAPL", sec_type="STK", exchange="SMART"), Terms(**{**fields, **terms})
    )
    return gateway.orders[77, order_id]


# --- two live orders for one intent ----------------------------------------------------------------------------------


async def in_conflict(dealings: Dealings) -> SimulatedOrder:
    """Place an order, and let IBKR come to show another live one with its mark."""
    await dealings.place(limit())
    twin = dealings.by_hand(order_ref=dealings.life.store.order_ref("the-order-000001"))
    dealings.strangers.add(twin.perm_id)
    await dealings.until_state(S.CONFLICT, timeout_s=ASKED_AGAIN_S)
    return twin


def test_O34_two_live_orders_for_one_intent(tmp_path: Path) -> None:
    """IBKR comes to list two live orders with the mark of one intent.

    The order's state is CONFLICT, and the stream tells an alarm of that kind; the record has order.conflict. New orders
    of that contract fail with RECONCILIATION_REQUIRED, unsent, those of others are placed. Nothing is ever cancelled by
    the gateway itself.
    """

    async def main() -> None:
        async with dealing(tmp_path) as dealings:
            twin = await in_conflict(dealings)
            assert alarms(dealings) == [AlarmKind.CONFLICT]
            assert len(dealings.recorded("order.conflict")) == 1
            assert dealings.life.session.tallies.value(ORDER_CONFLICTS) == 1
            with pytest.raises(ReconciliationRequired):
                await dealings.life.desk.place("of-that-contract-01", limit("9"))
            assert (await dealings.place(limit(symbol="MSFT"), "of-another-000001")).state is S.WORKING
            assert dealings.frames(PLACE) == 2
            (stranger,) = await externals(dealings)
            assert (stranger.perm_id, stranger.origin) == (twin.perm_id, OrderOrigin.EXTERNAL_OWN)
            await asyncio.sleep(2 * ASKED_AGAIN_S)
            assert alarms(dealings) == [AlarmKind.CONFLICT]
            assert dealings.status().state is S.CONFLICT
            assert dealings.frames(CANCEL) == 0

    virtually(main)


def test_O34_the_other_order_of_a_conflict_ends(tmp_path: Path) -> None:
    """Of two live orders with one mark the second is cancelled, in TWS.

    IBKR is asked, and the order is WORKING again; new orders of the contract are placed.
    """

    async def main() -> None:
        async with dealing(tmp_path) as dealings:
            twin = await in_conflict(dealings)
            dealings.simulator.gateway.cancel_manually(twin.perm_id)
            await dealings.until_state(S.WORKING, timeout_s=ASKED_AGAIN_S)
            assert (await dealings.place(limit("9"), "of-that-contract-01")).state is S.WORKING
            assert dealings.order().status.perm_id == dealings.truth().perm_id

    virtually(main)


@pytest.mark.parametrize("ends", ["filled", "cancelled"])
def test_O34_the_gateways_own_order_of_a_conflict_ends(tmp_path: Path, ends: str) -> None:
    """Of two live orders with one mark the gateway's own fills, or is cancelled through it.

    Its state is FILLED or CANCELLED, CancelOrder answers with that, and the conflict is over. The other order is listed
    as EXTERNAL_OWN while it is open.
    """

    async def main() -> None:
        async with dealing(tmp_path) as dealings:
            await in_conflict(dealings)
            if ends == "filled":
                dealings.trade(10)
                await dealings.until_state(S.FILLED)
            else:
                assert (await dealings.cancel()).state is S.CANCELLED
            assert (await dealings.place(limit("9"), "of-that-contract-01")).state is S.WORKING
            assert [status.origin for status in await externals(dealings)] == [OrderOrigin.EXTERNAL_OWN]
            await asyncio.sleep(ASKED_AGAIN_S)
            assert dealings.status().state is (S.FILLED if ends == "filled" else S.CANCELLED)
            assert alarms(dealings) == [AlarmKind.CONFLICT]

    virtually(main)


def test_O34_the_other_order_of_a_conflict_ends_while_the_gateway_is_down(tmp_path: Path) -> None:
    """The gateway dies with an order in CONFLICT; the other order is cancelled, and a day later the gateway is back.

    IBKR's lists of the day name the gateway's own order alone: it is WORKING, and new orders of that contract are
    placed.
    """

    async def main() -> None:
        async with dealing(tmp_path) as dealings:
            await dealings.place(limit(time_in_force=TimeInForce.GTC))
            twin = dealings.by_hand(order_ref=dealings.life.store.order_ref("the-order-000001"), tif="GTC")
            dealings.strangers.add(twin.perm_id)
            await dealings.until_state(S.CONFLICT, timeout_s=ASKED_AGAIN_S)
            await dealings.kill()
            dealings.simulator.gateway.cancel_manually(twin.perm_id)
            dealings.let_pass(86_400.0)
            await dealings.start()
            await dealings.until_state(S.WORKING, timeout_s=60.0)
            assert (await dealings.place(limit("9"), "of-that-contract-01")).state is S.WORKING

    virtually(main)


# --- orders placed elsewhere -----------------------------------------------------------------------------------------


def test_O35_an_order_is_placed_by_hand_in_tws(tmp_path: Path) -> None:
    """Somebody places an order by hand in TWS: it has no order id and no mark.

    ListOpenOrders with include_external lists it as EXTERNAL, without a client_order_id, and the record has it as
    external.seen. It is not among the gateway's orders, and an admin's cancel of it fails with NOT_CANCELLABLE, since
    TWS could not be told which order is meant.
    """

    async def main() -> None:
        async with dealing(tmp_path) as dealings:
            placed = dealings.by_hand()
            (shown,) = await externals(dealings)
            assert (shown.perm_id, shown.origin, shown.client_order_id) == (placed.perm_id, OrderOrigin.EXTERNAL, "")
            assert (shown.quantity, shown.limit_price, shown.state) == (5, 20, S.WORKING)
            assert await dealings.life.desk.open_orders() == ()
            assert dealings.recorded("external.seen")
            with pytest.raises(NotCancellable):
                await dealings.life.desk.cancel(OrderKey(perm_id=placed.perm_id), may_touch_others=True)
            assert dealings.frames(CANCEL) == 0
            assert alarms(dealings) == []

    virtually(main)


def test_O35_an_order_is_placed_by_another_program(tmp_path: Path) -> None:
    """Another program places an order under an order id that the gateway also uses.

    It is listed as EXTERNAL, and the gateway's own order stays what it is. A caller without the scope admin gets
    PERMISSION_DENIED and SCOPE_MISSING for its cancel, and nothing is sent; an admin cancels it by its perm_id where
    its order id means no order of the gateway, and gets NOT_CANCELLABLE where it does.
    """

    async def main() -> None:
        async with dealing(tmp_path) as dealings:
            await dealings.place(limit())
            same, other = of_program(dealings), of_program(dealings)
            assert same.order_id == dealings.status().order_id
            await asyncio.sleep(1.0)
            assert [status.perm_id for status in await externals(dealings)] == [same.perm_id, other.perm_id]
            assert (dealings.status().perm_id, dealings.status().quantity) == (dealings.truth().perm_id, 10)
            desk = dealings.life.desk
            with pytest.raises(ScopeMissing):
                await desk.cancel(OrderKey(perm_id=other.perm_id))
            with pytest.raises(NotCancellable):
                await desk.cancel(OrderKey(perm_id=same.perm_id), may_touch_others=True)
            assert dealings.frames(CANCEL) == 0
            cancelled = await desk.cancel(OrderKey(perm_id=other.perm_id), may_touch_others=True)
            assert cancelled.state is S.CANCELLED
            assert (other.status, same.status) == ("Cancelled", "Submitted")
            await dealings.check()

    virtually(main)


def test_O35_an_order_of_another_program_fills(tmp_path: Path) -> None:
    """An order of another program, with the gateway's order id and no mark, fills while the gateway is not connected.

    The fill is nobody's here: no order of the gateway has filled, and its list has the other one no more.
    """

    async def main() -> None:
        async with dealing(tmp_path) as dealings:
            await dealings.place(limit())
            stranger = of_program(dealings)
            await asyncio.sleep(1.0)
            assert len(await externals(dealings)) == 1
            dealings.simulator.drop_connections()
            dealings.trade(5, order=stranger)
            await asyncio.sleep(5.0)
            assert dealings.order().executions == ()
            assert dealings.status().state is S.WORKING
            assert await externals(dealings) == []
            await dealings.check()

    virtually(main)


# --- marks -----------------------------------------------------------------------------------------------------------


def test_O36_a_mark_that_the_gateway_did_not_make(tmp_path: Path) -> None:
    """Another program's order carries an orderRef that looks like the gateway's and lacks its seal.

    The stream tells an alarm FORGED_MARK, once, and the record has orderref.spoof. The order is listed as EXTERNAL,
    never adopted, and answers to no client_order_id.
    """

    async def main() -> None:
        async with dealing(tmp_path) as dealings:
            await dealings.place(limit())
            mark = dealings.life.store.order_ref("the-order-000001")
            forged = of_program(dealings, order_ref=mark[:-1] + ("A" if mark[-1] != "A" else "B"))
            await asyncio.sleep(2 * ASKED_AGAIN_S)
            assert alarms(dealings) == [AlarmKind.FORGED_MARK]
            assert len(dealings.recorded("orderref.spoof")) == 1
            (shown,) = await externals(dealings)
            assert (shown.perm_id, shown.origin, shown.client_order_id) == (forged.perm_id, OrderOrigin.EXTERNAL, "")
            assert dealings.status().state is S.WORKING
            assert dealings.status().perm_id == dealings.truth().perm_id
            await dealings.check()

    virtually(main)


def test_O36_a_mark_of_the_gateway_that_its_record_does_not_know(tmp_path: Path) -> None:
    """IBKR lists an order with a mark that only this gateway can have made, and the record has no such order.

    The stream tells an alarm ORPHAN, once, and the record has orphan.found. The order is listed as EXTERNAL_OWN and not
    placed again; an admin may cancel it.
    """

    async def main() -> None:
        async with dealing(tmp_path) as dealings:
            orphan = of_program(dealings, order_ref=dealings.life.store.order_ref("of-a-lost-record-01"))
            await asyncio.sleep(1.0)
            (shown,) = await externals(dealings)
            assert (shown.perm_id, shown.origin) == (orphan.perm_id, OrderOrigin.EXTERNAL_OWN)
            dealings.inject(Fault.DISCONNECT)
            await asyncio.sleep(5.0)
            assert alarms(dealings) == [AlarmKind.ORPHAN]
            assert len(dealings.recorded("orphan.found")) == 1
            assert dealings.frames(PLACE) == 0
            cancelled = await dealings.life.desk.cancel(OrderKey(perm_id=orphan.perm_id), may_touch_others=True)
            assert cancelled.state is S.CANCELLED

    virtually(main)
