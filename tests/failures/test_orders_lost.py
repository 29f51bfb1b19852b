"""Orders whose fate is not known at once: lost, late, unanswered, or under way when the gateway's program ended."""

from __future__ import annotations

import asyncio
import json
import shutil
from pathlib import Path

import pytest
from ibkr_gateway_server.domain.errors import BrokerLinkDown, ClientOrderIdConflict, ScopeMissing
from ibkr_gateway_server.domain.events import AlarmRaised
from ibkr_gateway_server.domain.orders import AlarmKind, OrderKey, OrderOrigin, OrderState
from ibkr_gateway_server.domain.tallies import ORDER_ID_FLOOR, ORDERS_RESURRECTED, ORDERS_UNKNOWN
from ibkr_gateway_server.simulator import Fault

from tests.failures.conftest import virtually
from tests.failures.dealings import (
    ASKED_AGAIN_S,
    CANCEL,
    COMMISSION,
    EXECUTION,
    KEY,
    OPEN_ORDER,
    PLACE,
    QUARANTINE_S,
    STATUS,
    WORD_S,
    Dealings,
    dealing,
    limit,
    market,
)

S = OrderState


def silence(dealings: Dealings) -> None:
    """TWS says nothing of orders for a second."""
    for message_id in (STATUS, OPEN_ORDER, EXECUTION, COMMISSION):
        dealings.inject(Fault.LOSE_REPLY, message_id, times=None, duration_s=1.0)


def kill_once_recorded(dealings: Dealings) -> None:
    """The program ends with the very commit that makes an intent durable."""

    def look() -> None:
        dealings.life.kill() if dealings.recorded("order.intent") else kill_once_recorded(dealings)

    dealings.life.plan("after_commit", 0, look)


def found(dealings: Dealings, key: str = KEY) -> list[str]:
    """The states of an order that answers to the gateway's questions have brought, as recorded."""
    rows = [row for row in dealings.recorded("order.status") if row.client_order_id == key]
    bodies = [json.loads(row.body_json) for row in rows]
    return [body["status"]["state"] for body in bodies if body["recovered"]]


def test_O06_the_connection_breaks_before_an_order_is_read(tmp_path: Path) -> None:
    """The connection is reset before TWS reads the order's message.

    PlaceOrder answers OK with UNKNOWN. Two complete evidence sets at least 120 s apart do not name the order: then it
    is PRESUMED_NOT_PLACED. It is never sent again.
    """

    async def main() -> None:
        async with dealing(tmp_path) as dealings:
            dealings.inject(Fault.DISCONNECT_BEFORE, PLACE)
            assert (await dealings.place(limit())).state is S.UNKNOWN
            await asyncio.sleep(100)
            assert dealings.status().state is S.UNKNOWN
            assert dealings.life.session.tallies.value(ORDERS_UNKNOWN) == 1
            await asyncio.sleep(QUARANTINE_S)
            assert dealings.status().state is S.PRESUMED_NOT_PLACED
            absences = dealings.recorded("reconcile.absent")
            assert len(absences) >= 2
            assert (absences[-1].record_time - absences[0].record_time).total_seconds() >= 120
            # The broken one and no other: the simulator counts what it has been sent, read or not.
            assert dealings.frames(PLACE) == 1
            assert len(dealings.recorded("order.send")) == 1
            assert dealings.life.session.tallies.value(ORDERS_UNKNOWN) == 0
            # The key is used: repeating it tells the state and sends nothing.
            assert (await dealings.place(limit())).state is S.PRESUMED_NOT_PLACED
            assert dealings.frames(PLACE) == 1
            await dealings.check()

    virtually(main)


@pytest.mark.parametrize("fault", [Fault.DISCONNECT_AFTER, Fault.CLOSE_AFTER])
def test_O07_the_acknowledgement_of_a_working_order_is_lost(tmp_path: Path, fault: Fault) -> None:
    """TWS accepts an order, and the connection ends before its acknowledgement.

    UNKNOWN, then WORKING: the order is recognised by its mark among IBKR's open orders, and has its permId.
    """

    async def main() -> None:
        async with dealing(tmp_path) as dealings:
            dealings.inject(fault, PLACE)
            await dealings.place(limit(), wait_s=0.5)
            await dealings.until_state(S.WORKING, timeout_s=40.0)
            if fault is Fault.DISCONNECT_AFTER:
                assert dealings.states() == [S.PENDING, S.SENT, S.UNKNOWN, S.WORKING]
                assert found(dealings) == [S.WORKING]
            assert dealings.status().perm_id == dealings.truth().perm_id
            assert dealings.frames(PLACE) == 1
            await dealings.check()

    virtually(main)


def test_O08_the_order_has_filled_while_the_connection_was_broken(tmp_path: Path) -> None:
    """TWS accepts a market order, the connection ends before any word, and the order fills.

    UNKNOWN, then FILLED by its executions, which are told as recovered.
    """

    async def main() -> None:
        async with dealing(tmp_path) as dealings:
            dealings.inject(Fault.DISCONNECT_AFTER, PLACE)
            dealings.inject(Fault.REFUSE_CONNECTIONS, duration_s=5.0)
            assert (await dealings.place(market())).state in (S.UNKNOWN, S.FILLED)
            await dealings.until_state(S.FILLED, timeout_s=60.0)
            (fill,) = dealings.order().executions
            assert fill.recovered
            assert fill.execution_id == dealings.simulator.gateway.executions[-1].execution_id
            assert found(dealings)[-1] == S.FILLED
            assert len(dealings.recorded("execution")) == 1
            assert dealings.frames(PLACE) == 1
            await dealings.check()

    virtually(main)


def test_O09_the_order_was_cancelled_while_the_connection_was_broken(tmp_path: Path) -> None:
    """TWS accepts an order, the connection ends before any word, and somebody cancels the order in TWS.

    UNKNOWN, then CANCELLED by IBKR's completed orders.
    """

    async def main() -> None:
        async with dealing(tmp_path) as dealings:
            dealings.inject(Fault.DISCONNECT_AFTER, PLACE)
            dealings.inject(Fault.REFUSE_CONNECTIONS, duration_s=5.0)
            placing = asyncio.ensure_future(dealings.place(limit()))
            await dealings.until(lambda: dealings.simulator.gateway.open_orders())
            dealings.simulator.gateway._exchange.cancel(dealings.truth(), None)
            await placing
            await dealings.until_state(S.CANCELLED, timeout_s=60.0)
            assert dealings.states() == [S.PENDING, S.SENT, S.UNKNOWN, S.CANCELLED]
            assert found(dealings) == [S.CANCELLED]
            assert dealings.frames(PLACE) == 1
            await dealings.check()

    virtually(main)


def test_O10_an_order_is_read_and_forgotten(tmp_path: Path) -> None:
    """TWS reads an order and does nothing; the connection stays.

    SENT; after 10 s UNKNOWN, and evidence is gathered; PRESUMED_NOT_PLACED after the quarantine. Never sent again.
    """

    async def main() -> None:
        async with dealing(tmp_path) as dealings:
            dealings.inject(Fault.LOSE, PLACE)
            began = asyncio.get_running_loop().time()
            assert (await dealings.place(limit())).state is S.UNKNOWN
            assert 10 <= asyncio.get_running_loop().time() - began < WORD_S
            assert dealings.life.session.tallies.value(ORDERS_UNKNOWN) == 1
            await asyncio.sleep(QUARANTINE_S + 10)
            assert dealings.states() == [S.PENDING, S.SENT, S.UNKNOWN, S.PRESUMED_NOT_PLACED]
            assert dealings.life.session.epoch == 1
            assert dealings.frames(PLACE) == 1
            await dealings.check()

    virtually(main)


def test_O11_an_acknowledgement_is_lost_and_the_connection_stays(tmp_path: Path) -> None:
    """TWS accepts an order, and its messages about it are lost; the connection stays.

    UNKNOWN after 10 s, and WORKING as soon as the evidence is in.
    """

    async def main() -> None:
        async with dealing(tmp_path) as dealings:
            silence(dealings)
            await dealings.place(limit())
            await dealings.until_state(S.WORKING, timeout_s=WORD_S)
            assert dealings.states() == [S.PENDING, S.SENT, S.UNKNOWN, S.WORKING]
            assert found(dealings) == [S.WORKING]
            assert (dealings.frames(PLACE), dealings.life.session.epoch) == (1, 1)
            await dealings.check()

    virtually(main)


def test_O12_an_order_is_accepted_after_ninety_seconds(tmp_path: Path) -> None:
    """IBKR accepts an order 90 s after it was sent, when several complete evidence sets have not named it.

    UNKNOWN until then, since the quarantine is longer; then WORKING. Nothing was presumed, and there is no alarm.
    """

    async def main() -> None:
        async with dealing(tmp_path) as dealings:
            dealings.inject(Fault.LATE, PLACE, delay_s=90.0)
            await dealings.place(limit())
            await asyncio.sleep(70)
            assert len(dealings.recorded("reconcile.absent")) >= 2
            assert dealings.status().state is S.UNKNOWN
            await dealings.until_state(S.WORKING, timeout_s=30.0)
            assert dealings.told(AlarmRaised) == []
            assert dealings.states() == [S.PENDING, S.SENT, S.UNKNOWN, S.WORKING]
            assert dealings.frames(PLACE) == 1
            await dealings.check()

    virtually(main)


def test_O12_an_order_appears_after_it_was_presumed_never_placed(tmp_path: Path) -> None:
    """IBKR accepts an order 200 s after it was sent, when it has been presumed never placed.

    PRESUMED_NOT_PLACED, then WORKING, with an alarm on the stream and in the record: what is presumed is never final.
    """

    async def main() -> None:
        async with dealing(tmp_path) as dealings:
            dealings.inject(Fault.LATE, PLACE, delay_s=200.0)
            await dealings.place(limit())
            await dealings.until_state(S.PRESUMED_NOT_PLACED, timeout_s=180.0)
            await dealings.until_state(S.WORKING, timeout_s=90.0)
            assert [alarm.kind for alarm in dealings.told(AlarmRaised)] == [AlarmKind.RESURRECTED]
            assert len(dealings.recorded("order.resurrected")) == 1
            assert dealings.life.session.tallies.value(ORDERS_RESURRECTED) == 1
            assert dealings.frames(PLACE) == 1
            await dealings.check()

    virtually(main)


def test_O16_the_program_is_killed_before_the_intent_is_durable(tmp_path: Path) -> None:
    """SIGKILL while the intent of an order is being written to the record.

    After the restart nothing is known of the order, and none is at IBKR; the same client_order_id places it once.
    """

    async def main() -> None:
        async with dealing(tmp_path) as dealings:
            dealings.life.die_at("before_commit", 0)
            placing = asyncio.ensure_future(dealings.place(limit()))
            await dealings.until(lambda: dealings.life.is_dead)
            placing.cancel()
            await dealings.restart()
            assert dealings.frames(PLACE) == 0
            assert dealings.recorded("order.intent") == []
            assert (await dealings.place(limit())).state is S.WORKING
            assert dealings.frames(PLACE) == 1
            await dealings.check()

    virtually(main)


def test_O17_the_link_is_lost_between_the_record_and_the_write(tmp_path: Path) -> None:
    """The intent is durable, and the link is lost before the order is written; later the program is killed.

    PlaceOrder fails and the order is NOT_SENT, durably: after the restart it still is, since provably no byte has left.
    The same client_order_id runs again, as the same intent with the same mark, and is sent once.
    """

    async def main() -> None:
        async with dealing(tmp_path) as dealings:
            dealings.life.disk_s = lambda: 0.5  # type: ignore[method-assign]  # a slow disk
            placing = asyncio.ensure_future(dealings.place(limit()))
            await asyncio.sleep(0.3)
            dealings.inject(Fault.LINK_LOST)
            with pytest.raises(BrokerLinkDown):
                await placing
            assert dealings.status().state is S.NOT_SENT
            assert len(dealings.recorded("order.withheld")) == 1
            dealings.inject(Fault.LINK_RESTORED)
            await dealings.restart()
            assert dealings.status().state is S.NOT_SENT
            assert dealings.frames(PLACE) == 0
            assert (await dealings.place(limit())).state is S.WORKING
            assert dealings.frames(PLACE) == 1
            marks = [json.loads(intent.body_json)["order_ref"] for intent in dealings.recorded("order.intent")]
            assert marks == [dealings.truth().terms.order_ref] * 2
            await dealings.check()

    virtually(main)


def test_O17_the_program_is_killed_between_the_record_and_the_write(tmp_path: Path) -> None:
    """SIGKILL right after the intent is durable. Intent and sending are one entry of the record, one wait for the disk
    instead of two, and nothing is awaited between it and the write: so it counts as possibly sent.

    After the restart the order is UNKNOWN, and PRESUMED_NOT_PLACED after the quarantine. It is never sent again.
    """

    async def main() -> None:
        async with dealing(tmp_path) as dealings:
            kill_once_recorded(dealings)
            placing = asyncio.ensure_future(dealings.place(limit()))
            await dealings.until(lambda: dealings.life.is_dead)
            placing.cancel()
            await dealings.restart()
            await dealings.settle()
            assert dealings.status().state is S.UNKNOWN
            assert len(dealings.recorded("recovery.unknown")) == 1
            assert (await dealings.place(limit())).state is S.UNKNOWN
            await dealings.until_state(S.PRESUMED_NOT_PLACED, timeout_s=QUARANTINE_S + 30)
            assert dealings.frames(PLACE) == 0
            await dealings.check()

    virtually(main)


def test_O18_the_program_is_killed_between_the_write_and_the_word(tmp_path: Path) -> None:
    """SIGKILL when TWS has read the order and not answered yet.

    After the restart the order is UNKNOWN until IBKR's evidence shows it as WORKING. It is never sent again.
    """

    async def main() -> None:
        async with dealing(tmp_path) as dealings:
            silence(dealings)
            placing = asyncio.ensure_future(dealings.place(limit()))
            await dealings.until(lambda: dealings.frames(PLACE) == 1)
            dealings.life.kill()
            placing.cancel()
            await asyncio.sleep(1.0)
            await dealings.restart()
            await dealings.until_state(S.WORKING, timeout_s=40.0)
            assert len(dealings.recorded("recovery.unknown")) == 1
            assert dealings.frames(PLACE) == 1
            await dealings.check()

    virtually(main)


def test_O18_the_program_is_killed_and_its_order_is_lost(tmp_path: Path) -> None:
    """SIGKILL right after an order was written, and TWS forgets the order.

    After the restart the order is UNKNOWN, and PRESUMED_NOT_PLACED after the quarantine. It is never sent again, and
    its client_order_id is used.
    """

    async def main() -> None:
        async with dealing(tmp_path) as dealings:
            dealings.inject(Fault.LOSE, PLACE)
            placing = asyncio.ensure_future(dealings.place(limit()))
            await dealings.until(lambda: dealings.frames(PLACE) == 1)
            dealings.life.kill()
            placing.cancel()
            await dealings.restart()
            await dealings.settle()
            assert dealings.status().state is S.UNKNOWN
            assert len(dealings.recorded("recovery.unknown")) == 1
            await dealings.until_state(S.PRESUMED_NOT_PLACED, timeout_s=QUARANTINE_S + 30)
            assert (await dealings.place(limit())).state is S.PRESUMED_NOT_PLACED
            assert dealings.frames(PLACE) == 1
            await dealings.check()

    virtually(main)


def test_O19_tws_rolls_its_order_ids_back(tmp_path: Path) -> None:
    """After a restart of TWS nextValidId is lower than ids that have been used.

    New orders have ids above all that were ever used; each callback belongs to the order that it was for.
    """

    async def main() -> None:
        async with dealing(tmp_path) as dealings:
            first = await dealings.place(limit())
            dealings.inject(Fault.ORDER_ID, value="1", times=None, duration_s=60.0)
            dealings.inject(Fault.DISCONNECT)
            await asyncio.sleep(5)
            await dealings.life.session.wait_until_ready(40.0)
            second = await dealings.place(limit("11"), "the-order-000002")
            assert second.order_id > first.order_id
            assert dealings.life.session.tallies.value(ORDER_ID_FLOOR) == second.order_id
            assert dealings.status().perm_id == dealings.truth().perm_id
            assert dealings.status("the-order-000002").perm_id == dealings.truth("the-order-000002").perm_id
            dealings.trade(10)
            await dealings.until_state(S.FILLED)
            assert dealings.status("the-order-000002").state is S.WORKING
            await dealings.check()

    virtually(main)


def test_O21_tws_says_that_an_order_id_was_used(tmp_path: Path) -> None:
    """Error 103: TWS has seen the order's id before.

    The order is UNKNOWN and not REJECTED, since the first copy of it may have arrived; it is PRESUMED_NOT_PLACED after
    the quarantine. TWS is asked for its next id, and later orders have higher ones.
    """

    async def main() -> None:
        async with dealing(tmp_path) as dealings:
            dealings.inject(Fault.REFUSE, PLACE, code=103, text="Duplicate order id")
            dealings.inject(Fault.ORDER_ID, value="5000", times=None, duration_s=60.0)
            status = await dealings.place(limit())
            assert status.state is S.UNKNOWN
            await asyncio.sleep(5)
            later = await dealings.place(limit("11"), "the-order-000002")
            assert (later.state, later.order_id) == (S.WORKING, 5000)
            assert dealings.life.session.tallies.value(ORDER_ID_FLOOR) == 5000
            assert dealings.status().state is S.UNKNOWN
            await dealings.until_state(S.PRESUMED_NOT_PLACED, timeout_s=QUARANTINE_S + 30)
            await dealings.check()

    virtually(main)


def test_O46_the_record_is_lost_with_an_order_working(tmp_path: Path) -> None:
    """A good-till-cancelled order works, and the gateway begins on a new record with the old key: its own is lost.

    The order is listed as EXTERNAL_OWN, by its mark, with an alarm. Its client_order_id is used: placed again it fails
    with CLIENT_ORDER_ID_CONFLICT, unsent. Whoever has the scope admin can cancel the order by its order id.
    """

    async def main() -> None:
        async with dealing(tmp_path) as dealings:
            placed = await dealings.place(limit())
            dealings.placed.clear()
            (tmp_path / "new").mkdir(mode=0o700)
            shutil.copy(tmp_path / "audit.key", tmp_path / "new" / "audit.key")
            await dealings.restart(record_path=tmp_path / "new" / "audit.db")
            desk = dealings.life.desk
            (found,) = await desk.open_orders(include_external=True)
            assert (found.origin, found.perm_id) == (OrderOrigin.EXTERNAL_OWN, placed.perm_id)
            assert [alarm.kind for alarm in dealings.told(AlarmRaised)] == [AlarmKind.ORPHAN]
            assert len(dealings.recorded("orphan.found")) == 1
            with pytest.raises(ClientOrderIdConflict):
                await desk.place(KEY, limit())
            with pytest.raises(ScopeMissing):
                await desk.cancel(OrderKey(order_id=found.order_id))
            await desk.cancel(OrderKey(order_id=found.order_id), may_touch_others=True)
            assert dealings.simulator.gateway.open_orders() == []
            with pytest.raises(ClientOrderIdConflict):
                await desk.place(KEY, limit())
            assert dealings.frames(PLACE) == 1

    virtually(main)


def test_O47_a_working_order_is_gone_without_a_word(tmp_path: Path) -> None:
    """An order that worked is in no list any more: not open, not completed, never executed.

    UNKNOWN, then CLOSED_UNCONFIRMED after ten minutes of complete evidence; IBKR's statement is the truth then.
    """

    async def main() -> None:
        async with dealing(tmp_path) as dealings:
            await dealings.place(limit())
            dealings.placed.clear()
            blotter = dealings.simulator.gateway._exchange._floor.blotter
            order = dealings.truth()
            blotter._alive = {key: each for key, each in blotter._alive.items() if each is not order}
            await asyncio.sleep(ASKED_AGAIN_S)
            assert dealings.status().state is S.UNKNOWN
            await dealings.until_state(S.CLOSED_UNCONFIRMED, timeout_s=900.0)
            assert dealings.states() == [S.PENDING, S.SENT, S.WORKING, S.UNKNOWN, S.CLOSED_UNCONFIRMED]
            absences = dealings.recorded("reconcile.absent")
            assert (absences[-1].record_time - absences[0].record_time).total_seconds() >= 600
            assert (dealings.frames(PLACE), dealings.frames(CANCEL)) == (1, 0)

    virtually(main)


def test_O06_the_link_is_lost_during_the_quarantine(tmp_path: Path) -> None:
    """An order is lost on its way, and TWS loses its link to IBKR for longer than the quarantine, while it answers on.

    What TWS lists without its link proves nothing: the order stays UNKNOWN, and is PRESUMED_NOT_PLACED only when the
    link has been back for the whole quarantine.
    """

    async def main() -> None:
        async with dealing(tmp_path) as dealings:
            dealings.inject(Fault.LOSE, PLACE)
            await dealings.place(limit())
            dealings.inject(Fault.LINK_LOST, duration_s=200.0)
            await asyncio.sleep(100)
            dealings.life.desk._reconciler.request()
            await asyncio.sleep(101)
            back = asyncio.get_running_loop().time()
            await dealings.until_state(S.PRESUMED_NOT_PLACED, timeout_s=QUARANTINE_S + 30)
            assert asyncio.get_running_loop().time() - back > 115
            assert dealings.frames(PLACE) == 1
            await dealings.check()

    virtually(main)
