"""Orders that belong together: one-cancels-all groups, and brackets."""

from __future__ import annotations

from typing import Any

import pytest
from ibkr_gateway_server.simulator.gateway import Gateway

from tests.server.simulator.conftest import NOW, Talk
from tests.server.simulator.test_order_lives import CANCEL, move, statuses
from tests.server.simulator.test_orders import story


@pytest.fixture
def last(gateway: Gateway) -> float:
    """AAPL's price at the start."""
    aapl = gateway.catalogue.by_id(265598)
    assert aapl is not None
    return gateway.market.prices(aapl, NOW).last


def group(talk: Talk, last: float, kind: int, *, big: int = 6_000, other: int = 1000) -> None:
    """A large order that fills in parts when the market falls by one, and another far away."""
    shared = {"order_type": "LMT", "oca_group": "either", "oca_type": kind}
    talk.place(1, limit=f"{last - 1:.2f}", quantity=big, **shared)
    talk.place(2, limit=f"{last - 50:.2f}", quantity=other, **shared)
    talk.wait(0.3)
    talk.messages()


def last_state(messages: list[list[str]], order_id: str) -> tuple[str, float, float]:
    """Status, filled and remaining of the last orderStatus."""
    fields = [fields for fields in messages if fields[0] == "3" and fields[1] == order_id][-1]
    return fields[2], float(fields[3]), float(fields[4])


def test_a_part_of_a_fill_cancels_the_group_that_is_to_be_cancelled(talk: Talk, last: float) -> None:
    group(talk, last, 1)
    move(talk, last - 1.01)
    told = talk.heard("3")
    status, filled, remaining = last_state(told, "1")
    assert status == "Submitted"
    assert filled
    assert remaining
    assert last_state(told, "2") == ("Cancelled", 0, 1000)


@pytest.mark.parametrize("kind", [2, 3])
def test_a_part_of_a_fill_reduces_the_group_in_proportion(talk: Talk, last: float, kind: int) -> None:
    group(talk, last, kind)
    move(talk, last - 1.01)
    told = talk.heard("3", "5")
    _, filled, _ = last_state(told, "1")
    status, none, left = last_state(told, "2")
    assert (status, none) == ("Submitted", 0)
    # In proportion, but for the rounding of every part to whole shares.
    assert left == pytest.approx(1000 * (1 - filled / 6_000), abs=5)
    assert [float(fields[14]) for fields in told if fields[0] == "5" and fields[1] == "2"][-1] == left


@pytest.mark.parametrize("kind", [1, 2, 3])
def test_a_complete_fill_cancels_the_group(talk: Talk, last: float, kind: int) -> None:
    group(talk, last, kind, big=1)
    move(talk, last - 2)
    told = talk.heard("3", "4")
    assert last_state(told, "1") == ("Filled", 1, 0)
    assert last_state(told, "2")[0] == "Cancelled"
    assert told[-1][1:3] == ["2", "202"]


@pytest.mark.parametrize(("kind", "both"), [(1, False), (2, False), (3, True)])
def test_block_keeps_a_group_from_filling_twice_at_once(talk: Talk, last: float, kind: int, both: bool) -> None:
    shared = {"order_type": "LMT", "limit": f"{last - 1:.2f}", "oca_group": "either", "oca_type": kind}
    talk.place(1, **shared)
    talk.place(2, **shared)
    talk.wait(0.3)
    move(talk, last - 2)
    final = {number: status for number, status, _ in statuses(talk)}
    assert final == {"1": "Filled", "2": "Filled" if both else "Cancelled"}


def test_a_cancel_of_one_takes_the_group_with_it(talk: Talk, last: float) -> None:
    group(talk, last, 3)
    talk.ask("4", "2", *CANCEL)
    talk.wait(0.3)
    final = {number: status for number, status, _ in statuses(talk)}
    assert final == {"1": "Cancelled", "2": "Cancelled"}


def test_groups_of_one_name_in_two_accounts_are_two(last: float) -> None:
    talk = Talk(Gateway(7, ("DU1", "DU2"), NOW))
    talk.messages()
    for number, account in ((1, "DU1"), (2, "DU2")):
        terms = {"order_type": "LMT", "oca_group": "g", "oca_type": 1}
        talk.place(number, account=account, limit=f"{last - 1 - 9 * (number - 1):.2f}", **terms)
    talk.wait(0.3)
    move(talk, last - 2)
    final = {number: status for number, status, _ in statuses(talk)}
    assert final == {"1": "Filled", "2": "Submitted"}


def bracket(talk: Talk, last: float, *, quantity: int = 100, **entry: Any) -> None:
    """An entry, a take-profit five above and a stop-loss five below, in one go."""
    exits = {"action": "SELL", "quantity": quantity, "parent": 1}
    talk.place(1, quantity=quantity, transmit=0, **entry)
    talk.place(2, order_type="LMT", limit=f"{last + 5:.2f}", transmit=0, **exits)
    talk.place(3, order_type="STP", aux=f"{last - 5:.2f}", **exits)


def test_a_brackets_children_come_back_as_a_group_with_their_parents_id_for_a_name(talk: Talk, last: float) -> None:
    bracket(talk, last, order_type="LMT", limit="10")
    talk.wait(0.3)
    told = {fields[1]: fields for fields in talk.heard("5")}
    parent = told["1"]
    assert parent[19] == ""
    assert [told[number][19] for number in ("2", "3")] == [parent[25]] * 2


def test_nothing_is_said_of_a_bracket_before_its_last_order_is_transmitted(talk: Talk, last: float) -> None:
    talk.place(1, transmit=0)
    talk.place(2, action="SELL", order_type="LMT", limit=f"{last + 5:.2f}", parent=1, transmit=0)
    talk.wait(1.0)
    assert talk.messages() == []
    talk.ask("5", "1")
    assert [fields[0] for fields in talk.messages()] == ["53"]


def test_a_brackets_filled_exit_cancels_the_other(talk: Talk, last: float) -> None:
    bracket(talk, last)
    talk.wait(1.0)
    move(talk, last + 6)
    final = {number: status for number, status, _ in statuses(talk)}
    assert final == {"1": "Filled", "2": "Filled", "3": "Cancelled"}


def test_a_brackets_partly_filled_exit_reduces_the_other(talk: Talk, last: float) -> None:
    bracket(talk, last, quantity=6_000)
    talk.wait(5.0, step=0.25)
    talk.messages()
    move(talk, last + 5.01)
    told = talk.heard("3")
    _, sold, unsold = last_state(told, "2")
    assert sold
    assert unsold
    assert last_state(told, "3")[2] == pytest.approx(unsold, abs=5)


@pytest.mark.parametrize("tif", ["IOC", "FOK"])
def test_what_ends_without_a_fill_takes_its_children_along(talk: Talk, last: float, tif: str) -> None:
    bracket(talk, last, order_type="LMT", limit="10", tif=tif)
    talk.wait(1.0)
    final = {number: status for number, status, _ in statuses(talk)}
    assert final == {"1": "Inactive" if tif == "FOK" else "Cancelled", "2": "Cancelled", "3": "Cancelled"}


def test_a_bracket_that_the_account_cannot_carry_is_rejected_whole(talk: Talk, last: float) -> None:
    bracket(talk, last, quantity=10_000_000)
    talk.wait(1.0)
    final = {number: status for number, status, _ in statuses(talk)}
    assert final == {"1": "Inactive", "2": "Cancelled", "3": "Cancelled"}


def test_a_cancelled_child_leaves_its_parent_and_the_other_child(talk: Talk, last: float) -> None:
    bracket(talk, last, order_type="LMT", limit="10")
    talk.wait(0.3)
    talk.ask("4", "2", *CANCEL)
    talk.wait(0.3)
    assert {order.order_id for order in talk.gateway.open_orders()} == {1, 3}


def test_an_order_is_attached_to_a_filled_parent_as_any_other(talk: Talk) -> None:
    talk.place(1)
    talk.wait(0.3)
    talk.messages()
    talk.place(2, action="SELL", parent=1)
    talk.wait(0.3)
    assert statuses(talk)[-1] == ("2", "Filled", "")


@pytest.mark.parametrize("parent", [9, 1])
def test_an_order_cannot_be_attached_to_what_is_not_there(talk: Talk, parent: int) -> None:
    talk.place(1, order_type="LMT", limit="10")
    talk.wait(0.3)
    talk.ask("4", "1", *CANCEL)
    talk.wait(0.3)
    talk.messages()
    talk.place(10, parent=parent)
    talk.wait(0.3)
    assert story(talk) == [("api_error", "135")]
