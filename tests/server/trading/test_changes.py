"""Changes that are not confirmed: what is told of them, and what may not be concluded meanwhile."""

from __future__ import annotations

import asyncio
import json
from dataclasses import replace
from decimal import Decimal
from pathlib import Path

import pytest
from ibkr_gateway_server.domain.errors import ReconciliationRequired
from ibkr_gateway_server.domain.evidence import OrderErrorSeen
from ibkr_gateway_server.domain.orders import LegRole, ModificationState, OrderKey, OrderState
from ibkr_gateway_server.simulator import Fault
from ibkr_gateway_server.trading.entries import CancelSent, Entry, Modification

from tests.failures.conftest import virtually
from tests.failures.dealings import ASKED_AGAIN_S, PLACE, QUARANTINE_S, bracket, dealing, limit
from tests.reliability.life import Gone
from tests.server.trading.conftest import NOW, entry, execution, ledger_with, open_order, status_seen

KEY, CHANGE = "the-order-000001", "the-change-000001"
BEFORE, AFTER = limit("10"), limit("11", 12)


def changing(quantity: int) -> Entry:
    """An order for ten that works, and whose change to another quantity has been sent."""
    mine = entry(OrderState.WORKING, perm_id=900)
    assert mine.intent is not None
    assert mine.terms is not None
    targets = {LegRole.ENTRY: replace(mine.terms, quantity=Decimal(quantity))}
    mine.intent.modifications[CHANGE] = Modification(
        CHANGE, mine.status.client_order_id, "hash", mine.intent.spec, ModificationState.SENT, targets
    )
    return mine


def test_fills_of_the_old_quantity_do_not_end_an_order_that_may_have_been_raised() -> None:
    mine = changing(20)
    ledger = ledger_with(mine)
    ledger.apply(execution(quantity=10), 1, NOW)
    assert (mine.status.state, mine.status.filled_quantity) == (OrderState.PARTIAL, 10)
    ledger.apply(open_order("Submitted", quantity=Decimal(20)), 1, NOW)
    assert (mine.status.state, mine.status.quantity, mine.change) == (OrderState.PARTIAL, 20, None)


def test_ibkrs_word_ends_an_order_whose_raised_quantity_it_has_never_taken() -> None:
    mine = changing(20)
    ledger = ledger_with(mine)
    for evidence in (execution(quantity=10), status_seen("Filled", 10)):
        ledger.apply(evidence, 1, NOW)
    assert (mine.status.state, mine.status.quantity, mine.change) == (OrderState.FILLED, 10, None)


def test_an_order_that_ibkr_calls_filled_was_for_what_has_filled() -> None:
    mine = entry(OrderState.WORKING, perm_id=900)
    ledger = ledger_with(mine)
    for evidence in (execution(quantity=4), status_seen("Filled", 4)):
        ledger.apply(evidence, 1, NOW)
    assert (mine.status.state, mine.status.quantity, mine.status.filled_quantity) == (OrderState.FILLED, 4, 4)


@pytest.mark.parametrize("quantity", [4, 20])
def test_an_order_that_fills_to_the_quantity_of_its_change_has_been_changed(quantity: int) -> None:
    mine = changing(quantity)
    ledger = ledger_with(mine)
    for evidence in (execution(quantity=quantity), status_seen("Filled", quantity)):
        ledger.apply(evidence, 1, NOW)
    assert (mine.status.state, mine.status.quantity, mine.status.filled_quantity) == (
        OrderState.FILLED,
        quantity,
        quantity,
    )
    assert mine.intent is not None
    assert mine.intent.modifications[CHANGE].state is ModificationState.CONFIRMED


@pytest.mark.parametrize("state", [OrderState.CANCEL_PENDING, OrderState.UNKNOWN])
@pytest.mark.parametrize(("code", "is_pending"), [(321, True), (134, False)])
def test_a_refusal_after_a_cancel_ends_a_change_only_when_it_is_of_changes(
    state: OrderState, code: int, is_pending: bool
) -> None:
    mine = changing(20)
    ledger = ledger_with(mine)
    mine.status, mine.cancel = replace(mine.status, state=state), CancelSent(0.0)
    ledger.apply(OrderErrorSeen(1, 7, code, "what IBKR said"), 1, NOW)
    assert (mine.change is not None) is is_pending


def test_an_answer_that_does_not_wait_names_the_change_that_is_not_confirmed(tmp_path: Path) -> None:
    async def main() -> None:
        async with dealing(tmp_path) as dealings:
            await dealings.place(BEFORE)
            dealings.inject(Fault.LOSE, PLACE)
            status = await dealings.life.desk.modify(KEY, CHANGE, AFTER, wait_s=0.0)
            assert (status.limit_price, status.pending_modify_id) == (10, CHANGE)

    virtually(main)


def test_a_change_that_was_recorded_when_the_program_died_is_pending_after_the_restart(tmp_path: Path) -> None:
    async def main() -> None:
        async with dealing(tmp_path) as dealings:
            await dealings.place(BEFORE)
            await dealings.settle()
            dealings.life.die_at("after_commit", 0)
            with pytest.raises(Gone):
                await dealings.life.call(lambda desk: desk.modify(KEY, CHANGE, AFTER), deadline_s=5.0)
            await dealings.restart()
            await dealings.settle()
            assert dealings.frames(PLACE) == 1
            assert dealings.status().pending_modify_id == CHANGE
            await asyncio.sleep(QUARANTINE_S + ASKED_AGAIN_S)
            assert (dealings.status().limit_price, dealings.status().pending_modify_id) == (10, "")

    virtually(main)


def test_a_change_that_is_refused_of_one_leg_is_over_when_it_is_known_of_all(tmp_path: Path) -> None:
    async def main() -> None:
        async with dealing(tmp_path) as dealings:
            await dealings.place(bracket(10))
            desk = dealings.life.desk
            dealings.inject(Fault.REFUSE, PLACE, code=201)
            dealings.inject(Fault.LATE, PLACE, delay_s=60.0)
            entry = await desk.modify(KEY, CHANGE, bracket(12), wait_s=1.0)
            assert (entry.quantity, entry.pending_modify_id) == (10, "")
            profit = OrderKey(KEY, leg_role=LegRole.TAKE_PROFIT)
            assert desk.status(profit).pending_modify_id == CHANGE
            # What is on its way might come after a newer one, and would be made over it.
            with pytest.raises(ReconciliationRequired):
                await desk.modify(KEY, "the-change-000002", bracket(14))
            await asyncio.sleep(60.0)
            assert (desk.status(profit).quantity, desk.status(profit).pending_modify_id) == (12, "")
            await dealings.settle()
            ends = [json.loads(row.body_json)["state"] for row in dealings.recorded("order.modify.end")]
            assert ends == [ModificationState.REFUSED]
            await desk.modify(KEY, "the-change-000002", bracket(14), wait_s=1.0)
            assert {status.quantity for status in desk.order(OrderKey(KEY)).legs} == {14}

    virtually(main)
