"""From evidence to states: every order of callbacks a live gateway is known for, and what must never be concluded."""

from __future__ import annotations

import itertools
from decimal import Decimal

import pytest
from ibkr_gateway_server.domain.events import CommissionReported, Filled, NoticeReceived, StatusChanged
from ibkr_gateway_server.domain.evidence import Evidence, OrderErrorSeen
from ibkr_gateway_server.domain.orders import OrderOrigin, OrderState, TimeInForce
from ibkr_gateway_server.trading.entries import Change, Entry
from ibkr_gateway_server.trading.ledger import Ledger

from tests.server.trading.conftest import (
    KEY,
    NOW,
    commission,
    entry,
    execution,
    ledger_with,
    mark_of,
    open_order,
    status_seen,
)


def hear(ledger: Ledger, *evidence: Evidence) -> list[Change]:
    return [change for each in evidence for change in ledger.apply(each, 1, NOW)]


def states(changes: list[Change]) -> list[OrderState]:
    return [change.happening.status.state for change in changes if isinstance(change.happening, StatusChanged)]


def error(code: int) -> OrderErrorSeen:
    return OrderErrorSeen(1, 7, code, "what IBKR said")


FILL = (open_order("PreSubmitted"), status_seen("PreSubmitted"), execution(), status_seen("Filled", 10), commission())


@pytest.mark.parametrize("order", list(itertools.permutations(range(len(FILL)))))
def test_in_whatever_order_a_fill_is_told_the_order_ends_filled_with_price_and_commission(
    order: tuple[int, ...],
) -> None:
    mine = entry()
    ledger = ledger_with(mine)
    changes = hear(ledger, *(FILL[index] for index in order))
    assert mine.status.state is OrderState.FILLED
    assert mine.status.filled_quantity == 10
    assert mine.status.average_fill_price == Decimal("10.5")
    assert mine.status.commission == 1
    assert mine.status.perm_id == 900
    assert sum(isinstance(change.happening, Filled) for change in changes) == 1
    assert sum(isinstance(change.happening, CommissionReported) for change in changes) == 1
    assert OrderState.WORKING not in states(changes)[states(changes).index(OrderState.FILLED) :]


def test_filled_is_told_once() -> None:
    ledger = ledger_with(entry())
    changes = hear(ledger, execution(), open_order("Filled"), status_seen("Filled", 10), status_seen("Filled", 10))
    assert states(changes) == [OrderState.FILLED]


def test_parts_add_up_duplicates_count_once_and_a_correction_replaces() -> None:
    mine = entry()
    ledger = ledger_with(mine)
    hear(ledger, execution("01", 3), execution("02", 4), execution("02", 4))
    assert (mine.status.state, mine.status.filled_quantity) == (OrderState.PARTIAL, 7)
    hear(ledger, execution("03", 3, "10.5"), execution("03", 3, "11.5", execution_id="e.03.02"))
    assert mine.status.state is OrderState.FILLED
    assert mine.status.average_fill_price == Decimal("10.8")
    assert [fill.execution_id for fill in mine.executions] == ["e.01.01", "e.02.01", "e.03.02"]


@pytest.mark.parametrize("code", [202, 399, 404, 2109, 10349, 10167, 99999])
def test_a_notice_on_a_working_order_changes_no_state(code: int) -> None:
    mine = entry(OrderState.WORKING)
    changes = hear(ledger_with(mine), error(code))
    assert mine.status.state is OrderState.WORKING
    assert any(isinstance(change.happening, NoticeReceived) for change in changes)


@pytest.mark.parametrize("code", [110, 200, 201, 203, 321, 460])
def test_a_rejection_before_any_acknowledgement_rejects_with_ibkrs_words(code: int) -> None:
    mine = entry(OrderState.SENT)
    hear(ledger_with(mine), error(code))
    assert mine.status.state is OrderState.REJECTED
    assert mine.status.rejection is not None
    assert mine.status.rejection.code == code


def test_a_rejection_of_a_change_leaves_the_order_working() -> None:
    mine = entry(OrderState.WORKING)
    hear(ledger_with(mine), error(110))
    assert mine.status.state is OrderState.WORKING


def test_inactive_and_a_rejection_in_either_order_are_a_rejection() -> None:
    for evidence in itertools.permutations((open_order("Inactive"), error(201))):
        mine = entry()
        hear(ledger_with(mine), *evidence)
        assert mine.status.state is OrderState.REJECTED


def test_inactive_alone_concludes_nothing_but_for_orders_that_fill_now_or_never() -> None:
    held, now_or_never = entry(OrderState.WORKING), entry(OrderState.WORKING, time_in_force=TimeInForce.FOK)
    hear(ledger_with(held), status_seen("Inactive"))
    hear(ledger_with(now_or_never), status_seen("Inactive"))
    assert held.status.state is OrderState.WORKING
    assert now_or_never.status.state is OrderState.CANCELLED


def test_a_duplicate_order_id_leaves_the_fate_unknown_not_rejected() -> None:
    mine = entry()
    hear(ledger_with(mine), error(103))
    assert mine.status.state is OrderState.UNKNOWN


@pytest.mark.parametrize("code", [161, 10147, 10148])
def test_a_refused_cancel_is_never_taken_for_cancelled(code: int) -> None:
    mine = entry(OrderState.CANCEL_PENDING)
    hear(ledger_with(mine), error(code))
    assert mine.status.state is OrderState.UNKNOWN
    hear(ledger_with(mine), status_seen("Filled", 10))
    assert mine.status.state is OrderState.FILLED


def test_a_report_that_was_under_way_does_not_take_a_cancel_back() -> None:
    mine = entry(OrderState.CANCEL_PENDING)
    hear(ledger_with(mine), status_seen("Submitted"))
    assert mine.status.state is OrderState.CANCEL_PENDING


def test_a_fill_wins_over_a_cancel_that_was_under_way() -> None:
    mine = entry(OrderState.CANCEL_PENDING)
    hear(ledger_with(mine), execution())
    assert mine.status.state is OrderState.FILLED


def test_a_late_fill_of_a_cancelled_order_counts_and_it_stays_cancelled() -> None:
    mine = entry(OrderState.WORKING)
    hear(ledger_with(mine), status_seen("Cancelled"), execution(quantity=4))
    assert (mine.status.state, mine.status.filled_quantity) == (OrderState.CANCELLED, 4)


def test_an_unknown_order_is_found_by_its_reference_and_bound_to_its_perm_id() -> None:
    mine = entry(OrderState.UNKNOWN)
    hear(ledger_with(mine), open_order("Submitted", order_id=0, client_id=0))
    assert (mine.status.state, mine.status.perm_id) == (OrderState.WORKING, 900)


def test_an_unknown_order_is_closed_by_a_completed_order() -> None:
    mine = entry(OrderState.UNKNOWN)
    completed = open_order(
        "Cancelled", order_id=0, client_id=0, is_completed=True, completed_status="Cancelled by Trader"
    )
    hear(ledger_with(mine), completed)
    assert mine.status.state is OrderState.CANCELLED


def test_a_reused_order_id_with_another_perm_id_is_not_ours() -> None:
    mine = entry(OrderState.WORKING, perm_id=900)
    ledger = ledger_with(mine)
    hear(ledger, status_seen("Cancelled", perm_id=901), execution(perm_id=901, order_ref=""))
    assert mine.status.state is OrderState.WORKING
    assert mine.status.filled_quantity == 0


def test_an_order_placed_elsewhere_is_shown_and_never_adopted() -> None:
    ledger = ledger_with(entry())
    hear(ledger, open_order("Submitted", order_id=-1, client_id=0, perm_id=77, order_ref=""))
    (foreign,) = [each for each in ledger if not each.status.client_order_id]
    assert foreign.status.origin is OrderOrigin.EXTERNAL
    assert ledger.find(client_order_id=KEY).status.state is OrderState.SENT  # type: ignore[union-attr]


def test_an_order_with_our_mark_but_an_unknown_key_is_named_as_such() -> None:
    ledger = Ledger(mark_of)
    hear(ledger, open_order("Submitted", order_ref="g1.forgotten", perm_id=78))
    assert [each.status.origin for each in ledger] == [OrderOrigin.EXTERNAL_OWN]


def test_a_rejected_order_that_works_is_a_contradiction_and_unknown() -> None:
    mine = entry(OrderState.REJECTED, perm_id=900)
    hear(ledger_with(mine), status_seen("Submitted"))
    assert mine.status.state is OrderState.UNKNOWN


def test_a_finished_order_stays_finished_whatever_old_reports_come() -> None:
    for state in (OrderState.FILLED, OrderState.CANCELLED):
        mine: Entry = entry(state)
        hear(ledger_with(mine), open_order("Submitted"), status_seen("PreSubmitted"))
        assert mine.status.state is state


def test_a_commission_that_comes_before_its_execution_is_kept_for_it() -> None:
    mine = entry()
    changes = hear(ledger_with(mine), commission(), execution())
    assert mine.status.commission == 1
    assert [type(change.happening) for change in changes] == [Filled, StatusChanged, CommissionReported]


def test_the_open_orders_are_those_whose_end_may_still_be_taken_back_too() -> None:
    ended, open_again = entry(OrderState.FILLED, perm_id=1), entry(OrderState.REJECTED, order_id=8, client_order_id="b")
    open_again.order_ref = "g1.other"
    ledger = ledger_with(ended, open_again)
    assert ledger.open_entries() == []
    hear(ledger, open_order("Submitted", order_id=8, order_ref="g1.other", perm_id=901))
    assert ledger.open_entries() == [open_again]
    hear(ledger, status_seen("Cancelled", order_id=8, perm_id=901))
    assert ledger.open_entries() == []


def test_what_was_not_sent_and_is_placed_again_is_the_newest_and_open_once() -> None:
    kept_back, other, again = entry(OrderState.NOT_SENT), entry(order_id=8, client_order_id="b"), entry(order_id=9)
    ledger = ledger_with(kept_back, other, again)
    assert [intent.entry for intent in ledger.newest_intents()] == [again, other]
    assert ledger.open_entries() == [other, again]
