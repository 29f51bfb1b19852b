"""Orders that wait, follow, belong together, change or end early."""

from __future__ import annotations

import pytest
from ibkr_gateway_server.simulator.behaviour import Behaviour
from ibkr_gateway_server.simulator.gateway import Gateway

from tests.server.simulator.conftest import NOW, Talk
from tests.server.simulator.test_orders import story

CANCEL = ("", "", "2147483647")


@pytest.fixture
def last(gateway: Gateway) -> float:
    """AAPL's price at the start."""
    aapl = gateway.catalogue.by_id(265598)
    assert aapl is not None
    return gateway.market.prices(aapl, NOW).last


def move(talk: Talk, price: float) -> None:
    """Move AAPL's price."""
    aapl = talk.gateway.catalogue.by_id(265598)
    assert aapl is not None
    talk.gateway.market.set_price(aapl, price, talk.now)
    talk.gateway.look_again()
    talk.wait(0.3)


def statuses(talk: Talk) -> list[tuple[str, str, str]]:
    """Of what was heard: order id, status, and why it is held."""
    return [(fields[1], fields[2], fields[10]) for fields in talk.heard("3")]


def test_a_stop_is_told_twice_as_held_then_elected_then_filled(talk: Talk, last: float) -> None:
    talk.place(1, order_type="STP", aux=f"{last + 5:.2f}")
    talk.wait(0.3)
    assert statuses(talk) == [("1", "PreSubmitted", "trigger")] * 2
    move(talk, last + 6)
    # Once more when the commission is known.
    assert [status for _, status, _ in statuses(talk)] == ["Submitted", "Filled", "Filled"]


@pytest.mark.parametrize(
    ("terms", "triggers", "fills"),
    [
        ({"order_type": "STP LMT", "aux": 5.0, "limit": 7.0}, 6.0, True),
        ({"order_type": "STP LMT", "aux": 5.0, "limit": 5.5}, 6.0, False),
        ({"order_type": "MIT", "aux": -5.0}, -6.0, True),
        ({"order_type": "LIT", "aux": -5.0, "limit": -5.0}, -6.0, True),
        ({"order_type": "TRAIL", "aux": 5.0, "distance": True}, 6.0, True),
        ({"order_type": "TRAIL", "trail_percent": "1"}, 6.0, True),
        ({"order_type": "TRAIL LIMIT", "aux": 5.0, "limit_offset": "3", "distance": True}, 6.0, True),
    ],
)
def test_every_held_type_waits_for_its_price(
    talk: Talk, last: float, terms: dict[str, object], triggers: float, fills: bool
) -> None:
    is_distance = terms.pop("distance", False)
    given = {
        name: f"{last + value:.2f}" if isinstance(value, float) and not (name == "aux" and is_distance) else value
        for name, value in terms.items()
    }
    talk.place(1, **given)
    talk.wait(0.5)
    # Captured: what waits for a touch does not say so.
    why_held = "" if terms["order_type"] in ("MIT", "LIT") else "trigger"
    assert {(status, why) for _, status, why in statuses(talk)} == {("PreSubmitted", why_held)}
    move(talk, last + triggers)
    assert ("Filled" in [status for _, status, _ in statuses(talk)]) is fills


def test_a_trailing_stop_follows_the_market_and_never_turns_back(talk: Talk, last: float) -> None:
    talk.place(1, action="SELL", order_type="TRAIL", aux="2.00")
    talk.wait(0.3)
    move(talk, last + 10)
    move(talk, last + 8.5)
    assert {status for _, status, _ in statuses(talk)} == {"PreSubmitted"}
    move(talk, last + 7.5)
    assert statuses(talk)[-1][1] == "Filled"


@pytest.mark.parametrize(
    ("tif", "told"),
    [
        (
            "IOC",
            [
                *(("open_order",), ("order_status", "Submitted"), ("open_order",), ("order_status", "PendingCancel")),
                *(("order_status", "Cancelled"), ("api_error", "202")),
            ],
        ),
        ("FOK", [("open_order",), ("order_status", "Inactive")]),
    ],
)
def test_an_immediate_order_that_finds_nothing_ends_as_live_ones_do(
    talk: Talk, tif: str, told: list[tuple[str, ...]]
) -> None:
    talk.place(1, order_type="LMT", limit="10", tif=tif)
    talk.wait(0.5)
    assert story(talk) == told


def test_an_immediate_order_keeps_what_it_got(talk: Talk) -> None:
    talk.place(1, quantity=5000, tif="IOC")
    talk.wait(2.0, step=0.25)
    messages = talk.heard("3", "11")
    filled = sum(float(fields[19]) for fields in messages if fields[0] == "11")
    assert 0 < filled < 5000
    assert messages[-1][2] == "Cancelled"
    assert float(messages[-1][3]) == filled


def test_an_order_for_the_close_waits_for_the_close(talk: Talk) -> None:
    talk.place(1, order_type="MOC")
    # Ten in the morning; the close is at four in the afternoon.
    talk.wait(5.9 * 3600, step=600)
    assert {status for _, status, _ in statuses(talk)} == {"PreSubmitted"}
    talk.wait(0.2 * 3600, step=60)
    assert statuses(talk)[-1][1] == "Filled"


def test_an_order_for_the_opening_waits_for_the_opening(talk: Talk) -> None:
    talk.place(1, tif="OPG")
    talk.wait(23 * 3600, step=600)
    assert {status for _, status, _ in statuses(talk)} == {"PreSubmitted"}
    talk.wait(3600, step=60)
    assert statuses(talk)[-1][1] == "Filled"


def test_an_order_with_an_end_ends_then_unless_it_is_given_another(talk: Talk) -> None:
    terms = {"order_type": "LMT", "limit": "10", "tif": "GTD"}
    talk.place(1, good_till="20261123 10:01:00 US/Eastern", **terms)
    talk.place(2, good_till="20261123 10:01:00 US/Eastern", **terms)
    talk.wait(1.0)
    talk.place(2, good_till="20261123 11:00:00 US/Eastern", **terms)
    talk.wait(120.0, step=1.0)
    final = {number: status for number, status, _ in statuses(talk)}
    assert final == {"1": "Cancelled", "2": "Submitted"}


def test_an_order_with_a_beginning_is_not_worked_before(talk: Talk) -> None:
    talk.place(1, good_after="20261123 10:01:00 US/Eastern")
    talk.wait(55.0, step=1.0)
    assert {status for _, status, _ in statuses(talk)} == {"PreSubmitted"}
    talk.wait(10.0, step=1.0)
    assert statuses(talk)[-1][1] == "Filled"


def test_what_a_market_to_limit_order_leaves_rests_at_its_first_price(talk: Talk) -> None:
    talk.place(1, order_type="MTL", quantity=10_000)
    talk.wait(3.0, step=0.25)
    prices = [float(fields[20]) for fields in talk.heard("11")]
    assert max(prices) == prices[0]


def test_children_wait_for_their_parent_and_end_with_it(talk: Talk, last: float) -> None:
    talk.place(1, order_type="LMT", limit="10", transmit=0)
    talk.place(2, action="SELL", order_type="LMT", limit=f"{last + 5:.2f}", parent=1, transmit=0)
    talk.place(3, action="SELL", order_type="STP", aux=f"{last - 5:.2f}", parent=1)
    talk.wait(0.3)
    held = {number: why for number, _, why in statuses(talk)}
    assert held == {"1": "", "2": "child", "3": "child,trigger"}
    talk.ask("4", "1", *CANCEL)
    talk.wait(0.3)
    final = {number: status for number, status, _ in statuses(talk)}
    assert final == {"1": "Cancelled", "2": "Cancelled", "3": "Cancelled"}


def test_filled_parents_release_their_children(talk: Talk, last: float) -> None:
    talk.place(1, transmit=0)
    talk.place(2, action="SELL", order_type="LMT", limit=f"{last + 5:.2f}", parent=1, transmit=0)
    talk.place(3, action="SELL", order_type="STP", aux=f"{last - 5:.2f}", parent=1)
    talk.wait(0.5)
    final = {number: (status, why) for number, status, why in statuses(talk)}
    assert final == {"1": ("Filled", ""), "2": ("Submitted", ""), "3": ("PreSubmitted", "trigger")}


def test_a_filled_member_of_a_group_cancels_the_others(talk: Talk, last: float) -> None:
    talk.place(1, order_type="LMT", limit=f"{last - 5:.2f}", oca_group="either")
    talk.place(2, order_type="STP", aux=f"{last + 5:.2f}", oca_group="either")
    talk.wait(0.3)
    move(talk, last + 6)
    final = {number: status for number, status, _ in statuses(talk)}
    assert final == {"1": "Cancelled", "2": "Filled"}


def test_a_limit_may_become_a_market_order(talk: Talk) -> None:
    talk.place(1, order_type="LMT", limit="10")
    talk.wait(0.3)
    talk.place(1, order_type="MKT")
    talk.wait(0.3)
    assert statuses(talk)[-1][1] == "Filled"


@pytest.mark.parametrize(
    ("ends", "change", "code"),
    [
        ("fills", {}, "104"),
        ("is cancelled", {}, "103"),
        ("rests", {"action": "SELL", "order_type": "LMT", "limit": "10"}, "105"),
        ("rests", {"symbol": "MSFT", "order_type": "LMT", "limit": "10"}, "105"),
        ("rests", {"order_type": "LMT", "limit": "10.001"}, "110"),
    ],
)
def test_a_change_that_cannot_be_is_refused(talk: Talk, ends: str, change: dict[str, str], code: str) -> None:
    talk.place(1, **({} if ends == "fills" else {"order_type": "LMT", "limit": "10"}))
    talk.wait(0.3)
    if ends == "is cancelled":
        talk.ask("4", "1", *CANCEL)
        talk.wait(0.3)
    talk.messages()
    talk.place(1, **change)
    talk.wait(0.3)
    assert story(talk) == [("api_error", code)]


@pytest.mark.parametrize("canceller", [0, 2])
def test_another_client_cancels_by_id_and_is_told_with_its_own_id(gateway: Gateway, talk: Talk, canceller: int) -> None:
    talk.place(1, order_type="LMT", limit="10")
    talk.wait(0.3)
    talk.messages()
    other = Talk(gateway, client_id=canceller, now=talk.now)
    other.messages()
    other.ask("4", "1", *CANCEL)
    other.wait(0.3)
    told = other.heard("3", "4")
    assert [fields[2] for fields in told] == ["PendingCancel", "Cancelled", "202"]
    assert told[1][9] == str(canceller)
    assert talk.heard("3")[-1][2] == "Cancelled"


def test_a_gateway_may_keep_clients_to_their_own_orders() -> None:
    gateway = Gateway(7, ("DU1234567",), NOW, Behaviour(cancels_across_clients=False))
    talk, other = Talk(gateway, client_id=1), Talk(gateway, client_id=2)
    talk.place(1, order_type="LMT", limit="10")
    talk.wait(0.3)
    other.messages()
    other.ask("4", "1", *CANCEL)
    assert other.heard("4")[0][2] == "10147"


def test_orders_are_told_to_the_client_that_placed_them_alone(gateway: Gateway, talk: Talk) -> None:
    other = Talk(gateway, client_id=0)
    other.messages()
    talk.place(1)
    talk.wait(0.3)
    other.wait(0.1)
    assert other.messages() == []


def test_a_global_cancel_ends_every_clients_orders_once(gateway: Gateway, talk: Talk) -> None:
    other = Talk(gateway, client_id=2)
    talk.place(1, order_type="LMT", limit="10")
    other.place(1, order_type="LMT", limit="10")
    talk.wait(0.3)
    talk.messages()
    talk.ask("58", "", "2147483647")
    talk.ask("58", "", "2147483647")
    talk.wait(0.3)
    assert gateway.open_orders() == []
    assert [status for _, status, _ in statuses(talk)].count("Cancelled") == 2


def test_a_second_cancel_is_too_late(talk: Talk) -> None:
    talk.place(1, order_type="LMT", limit="10")
    talk.wait(0.3)
    talk.messages()
    talk.ask("4", "1", *CANCEL)
    talk.ask("4", "1", *CANCEL)
    talk.wait(0.3)
    assert story(talk) == [
        ("order_status", "PendingCancel"),
        ("api_error", "10148"),
        ("order_status", "Cancelled"),
        ("api_error", "202"),
    ]


def test_what_is_not_simulated_in_an_order_is_refused_by_its_name(talk: Talk) -> None:
    talk.place(1, algo="Adaptive")
    (refusal,) = talk.heard("4")
    assert refusal[2:4] == ["201", "Order rejected - reason:Not simulated: algorithms."]


def test_a_quotes_size_is_taken_once(talk: Talk) -> None:
    talk.place(1, quantity=10_000)
    for _ in range(100):
        talk.wait(0.002, step=0.001)
    executions = talk.heard("11")
    # A fifth of a second is within two quotes of five rows each.
    assert 1 <= len(executions) <= 10


def test_ids_are_never_those_of_an_earlier_life() -> None:
    def life(now: float) -> set[str]:
        talk = Talk(Gateway(7, ("DU1234567",), now), now=now)
        talk.place(1)
        talk.wait(0.3)
        (execution,) = talk.heard("11")
        return {execution[14], execution[21]}

    assert not life(NOW) & life(NOW + 1)
    assert life(NOW) == life(NOW)


def lets_through(talk: Talk, last: float, *, quantity: int = 1) -> None:
    """A resting order, a cancel of it, and a market that comes through it before the exchange has heard."""
    talk.place(1, order_type="LMT", limit=f"{last - 1:.2f}", quantity=quantity)
    talk.wait(0.3)
    talk.messages()
    talk.ask("4", "1", *CANCEL)
    aapl = talk.gateway.catalogue.by_id(265598)
    assert aapl is not None
    talk.gateway.market.set_price(aapl, last - 1.01 if quantity > 1 else last - 2, talk.now)
    talk.gateway.look_again()
    talk.wait(0.3)


def test_a_fill_may_beat_a_cancel_to_the_exchange(talk: Talk, last: float) -> None:
    lets_through(talk, last)
    told = talk.heard("3", "4", "5", "11", "59")
    assert [fields[0] for fields in told] == ["3", "11", "5", "3", "5", "3", "59", "4"]
    assert [fields[2] for fields in told if fields[0] == "3"] == ["PendingCancel", "Filled", "Filled"]
    assert told[-1][1:3] == ["1", "161"]
    assert told[-1][3].endswith(f"Order permId ={talk.gateway.orders[1, 1].perm_id}")


def test_a_cancel_keeps_what_was_filled_before_the_exchange_heard_of_it(talk: Talk, last: float) -> None:
    lets_through(talk, last, quantity=6000)
    told = talk.heard("3", "4", "11")
    filled = sum(float(fields[19]) for fields in told if fields[0] == "11")
    assert 0 < filled < 6000
    *earlier, cancelled, notice = told
    assert {fields[2] for fields in earlier if fields[0] == "3"} == {"PendingCancel"}
    assert (cancelled[2], float(cancelled[3]), float(cancelled[4])) == ("Cancelled", filled, 6000 - filled)
    assert notice[2] == "202"


def test_a_market_that_comes_through_after_the_exchange_has_heard_finds_nothing(talk: Talk, last: float) -> None:
    talk.place(1, order_type="LMT", limit=f"{last - 1:.2f}")
    talk.wait(0.3)
    talk.ask("4", "1", *CANCEL)
    talk.wait(0.03)
    move(talk, last - 2)
    assert talk.gateway.executions == []


def test_a_cancel_that_arrives_before_the_acknowledgement_waits_for_it(talk: Talk) -> None:
    talk.place(1, order_type="LMT", limit="10")
    talk.ask("4", "1", *CANCEL)
    talk.wait(0.3)
    assert story(talk) == [
        *[("open_order",), ("order_status", "PreSubmitted"), ("order_status", "PendingCancel")],
        *[("order_status", "Cancelled"), ("api_error", "202")],
    ]


def test_a_staged_order_is_cancelled_too(talk: Talk) -> None:
    talk.place(1, order_type="LMT", limit="10", transmit=0)
    talk.ask("4", "1", *CANCEL)
    talk.wait(0.3)
    assert story(talk) == [("open_order",), ("order_status", "Cancelled"), ("api_error", "202")]


def test_a_global_cancel_of_what_is_being_cancelled_is_in_vain(talk: Talk) -> None:
    """As captured: 161 for an order that a cancel was on its way to."""
    talk.place(1, order_type="LMT", limit="10")
    talk.wait(0.3)
    talk.messages()
    talk.ask("4", "1", *CANCEL)
    talk.ask("58", "", "2147483647")
    talk.wait(0.3)
    assert [step for step in story(talk) if step[0] == "api_error"] == [("api_error", "161"), ("api_error", "202")]


def test_what_is_being_cancelled_cannot_be_changed(talk: Talk) -> None:
    talk.place(1, order_type="LMT", limit="10")
    talk.wait(0.3)
    talk.messages()
    talk.ask("4", "1", *CANCEL)
    talk.place(1, order_type="LMT", limit="11")
    talk.wait(0.3)
    assert ("api_error", "134") in story(talk)
    assert talk.gateway.orders[1, 1].status == "Cancelled"


def test_a_change_to_more_than_the_account_can_carry_leaves_the_order_as_it_was(talk: Talk) -> None:
    talk.place(1, order_type="LMT", limit="10")
    talk.wait(0.3)
    talk.messages()
    talk.place(1, order_type="LMT", limit="10", quantity=100_000_000)
    talk.wait(0.3)
    assert story(talk) == [("api_error", "201")]
    (order,) = talk.gateway.open_orders()
    assert order.terms.quantity == 1


def test_a_change_to_what_has_filled_already_completes_the_order(talk: Talk, last: float) -> None:
    talk.place(1, order_type="LMT", limit=f"{last - 1:.2f}", quantity=6000)
    talk.wait(0.3)
    move(talk, last - 1.01)
    filled = talk.gateway.orders[1, 1].filled
    assert 0 < filled < 6000
    talk.messages()
    talk.place(1, order_type="LMT", limit=f"{last - 9:.2f}", quantity=1)
    talk.wait(0.3)
    final = talk.heard("3")[-1]
    assert (final[2], float(final[3]), float(final[4])) == ("Filled", filled, 0.0)


def test_a_change_of_quantity_leaves_a_trailing_stop_where_it_has_got_to(talk: Talk, last: float) -> None:
    talk.place(1, action="SELL", order_type="TRAIL", aux="2.00")
    talk.wait(0.3)
    move(talk, last + 10)
    move(talk, last + 9)
    before = talk.gateway.orders[1, 1].stop_level
    talk.place(1, action="SELL", order_type="TRAIL", aux="2.00", quantity=2)
    talk.wait(0.3)
    assert talk.gateway.orders[1, 1].stop_level == before


def test_shares_that_are_hard_to_borrow_are_located_first(last: float) -> None:
    gateway = Gateway(7, ("DU1234567",), NOW, Behaviour(hard_to_borrow=frozenset({"TSLA"}), locate_s=2.0))
    talk = Talk(gateway)
    talk.messages()
    talk.place(1, symbol="TSLA", action="SELL", quantity=1000)
    talk.wait(1.0)
    told = talk.heard("3", "4")
    assert [fields[2] for fields in told] == ["PreSubmitted", "404"]
    assert told[0][10] == "locate"
    talk.wait(1.5)
    assert statuses(talk)[-1] == ("1", "Filled", "")


def test_a_stop_that_sells_short_is_located_while_it_waits(talk: Talk) -> None:
    gateway = Gateway(7, ("DU1234567",), NOW, Behaviour(hard_to_borrow=frozenset({"TSLA"}), locate_s=2.0))
    talk = Talk(gateway)
    talk.messages()
    talk.place(1, symbol="TSLA", action="SELL", order_type="STP", aux="10", quantity=1000)
    talk.wait(1.0)
    assert statuses(talk)[-1] == ("1", "PreSubmitted", "trigger,locate")
    talk.wait(1.5)
    assert statuses(talk)[-1] == ("1", "PreSubmitted", "trigger")


def test_a_trailing_exit_trails_from_its_entrys_fill(talk: Talk, last: float) -> None:
    talk.place(1, order_type="LMT", limit=f"{last - 5:.2f}", transmit=0)
    talk.place(2, action="SELL", order_type="TRAIL", aux="2.00", parent=1)
    talk.wait(0.3)
    move(talk, last - 6)
    stop = talk.gateway.orders[1, 2].stop_level
    assert stop == pytest.approx(last - 8, abs=0.2)


def test_what_the_account_may_not_trade_is_refused(last: float) -> None:
    talk = Talk(Gateway(7, ("DU1234567",), NOW, Behaviour(not_allowed=frozenset({"TSLA"}))))
    talk.messages()
    talk.place(1, symbol="TSLA")
    assert story(talk) == [("api_error", "203")]


@pytest.mark.parametrize("presets", [False, True])
def test_some_gateways_say_that_they_set_the_time_in_force(presets: bool) -> None:
    talk = Talk(Gateway(7, ("DU1234567",), NOW, Behaviour(presets_tif=presets)))
    talk.messages()
    talk.place(1, order_type="LMT", limit="10", tif="")
    talk.wait(0.3)
    told = talk.heard("4", "5")
    assert [fields[2] for fields in told if fields[0] == "4"] == (["10349"] if presets else [])
    assert {fields[18] for fields in told if fields[0] == "5"} == {"DAY"}
    assert [order.status for order in talk.gateway.open_orders()] == ["Submitted"]


def test_an_order_that_is_listed_and_cancelled_before_its_acknowledgement_stays_pending(talk: Talk) -> None:
    talk.place(1, order_type="LMT", limit="10", tif="IOC")
    talk.ask("5", "1")
    talk.ask("4", "1", *CANCEL)
    talk.wait(0.3)
    assert [status for _, status, _ in statuses(talk)] == [
        "PreSubmitted",
        "PendingCancel",
        "PendingCancel",
        "Cancelled",
    ]


def test_a_changed_order_that_ends_before_the_change_is_told_is_told_with_it(talk: Talk) -> None:
    talk.place(1, order_type="LMT", limit="10", transmit=0)
    talk.place(2, action="SELL", order_type="LMT", limit="900", parent=1)
    talk.wait(0.3)
    talk.ask("4", "1", *CANCEL)
    talk.wait(0.018)
    talk.messages()
    talk.place(2, action="SELL", order_type="LMT", limit="900", parent=1, quantity=7)
    talk.wait(0.004)
    told = [fields for fields in talk.heard("3", "5") if fields[1] == "2"]
    assert [fields[0] for fields in told] == ["5", "3"]
    assert (told[0][14], told[1][2:5]) == ("7", ["Cancelled", "0", "7"])
