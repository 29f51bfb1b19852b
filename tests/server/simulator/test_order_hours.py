"""How long orders live, and what becomes of them when the market is closed."""

from __future__ import annotations

from datetime import datetime
from zoneinfo import ZoneInfo

import pytest
from ibkr_gateway_server.simulator.behaviour import Behaviour
from ibkr_gateway_server.simulator.gateway import Gateway

from tests.server.simulator.conftest import NOW, Talk
from tests.server.simulator.test_order_lives import statuses
from tests.server.simulator.test_orders import story

NEW_YORK = ZoneInfo("US/Eastern")


def at(clock: str, day: int = 23) -> float:
    """A time of a day of November 2026, in New York. The 23rd is a Monday."""
    return datetime.strptime(f"2026-11-{day} {clock}", "%Y-%m-%d %H:%M").replace(tzinfo=NEW_YORK).timestamp()


def with_hours(now: float) -> Talk:
    """A client of a gateway whose market has the exchanges' hours."""
    talk = Talk(Gateway(7, ("DU1234567",), now, Behaviour(always_open=False)), now=now)
    talk.messages()
    return talk


def until(talk: Talk, moment: float) -> None:
    """Let time pass to a moment."""
    talk.wait(moment - talk.now, step=600)


@pytest.mark.parametrize(("tif", "ended"), [("DAY", ["1"]), ("GTC", [])])
def test_a_day_order_ends_with_the_day_and_says_so(talk: Talk, tif: str, ended: list[str]) -> None:
    talk.place(1, order_type="LMT", limit="10", tif=tif)
    talk.wait(1.0)
    talk.messages()
    until(talk, at("23:59"))
    assert story(talk) == []
    until(talk, at("00:01", 24))
    told = story(talk)
    assert told == ([("order_status", "Cancelled"), ("api_error", "202")] if ended else [])


def test_a_day_order_that_is_changed_to_stay_stays(talk: Talk) -> None:
    talk.place(1, order_type="LMT", limit="10")
    talk.wait(1.0)
    talk.place(1, order_type="LMT", limit="10", tif="GTC")
    until(talk, at("12:00", 24))
    assert statuses(talk)[-1][1] == "Submitted"


def test_an_order_before_the_opening_is_held_with_a_warning_and_works_from_then_on() -> None:
    talk = with_hours(at("08:00"))
    talk.place(1, order_type="LMT", limit="10")
    talk.wait(1.0)
    told = talk.heard("3", "4", "5")
    assert [fields[0] for fields in told] == ["5", "3", "4", "5", "3"]
    assert told[2][1:4] == [
        "1",
        "399",
        "Order Message:\nBUY 1 AAPL NASDAQ.NMS\n"
        "Warning: Your order will not be placed at the exchange until 2026-11-23 09:30:00 US/Eastern.",
    ]
    assert {fields[2] for fields in told if fields[0] == "3"} == {"PreSubmitted"}
    until(talk, at("09:29"))
    assert story(talk) == []
    until(talk, at("09:31"))
    assert story(talk) == [("open_order",), ("order_status", "Submitted")]


def test_a_market_order_at_night_fills_at_the_opening() -> None:
    talk = with_hours(at("20:30"))
    talk.place(1)
    until(talk, at("09:29", 24))
    assert {status for _, status, _ in statuses(talk)} == {"PreSubmitted"}
    until(talk, at("09:40", 24))
    (execution,) = talk.heard("11")
    assert execution[15] == "20261124 09:30:00 US/Eastern"


def test_an_order_for_all_hours_works_before_the_opening_without_a_warning() -> None:
    talk = with_hours(at("08:00"))
    talk.place(1, order_type="LMT", limit="1000", outside_rth=1)
    talk.wait(1.0)
    assert "399" not in {fields[2] for fields in talk.heard("4")}
    assert len(talk.gateway.executions) == 1


def test_a_market_order_for_all_hours_is_told_that_this_is_ignored(talk: Talk) -> None:
    talk.place(1, outside_rth=1)
    talk.wait(1.0)
    assert ("api_error", "2109") in story(talk)
    assert talk.gateway.orders[1, 1].status == "Filled"


def test_a_resting_order_does_not_fill_while_the_market_is_closed() -> None:
    talk = with_hours(at("15:59"))
    talk.place(1, order_type="LMT", limit="10", tif="GTC")
    until(talk, at("16:10"))
    aapl = talk.gateway.catalogue.by_id(265598)
    assert aapl is not None
    talk.gateway.market.set_price(aapl, 9.0, talk.now)
    talk.gateway.look_again()
    until(talk, at("09:29", 24))
    assert talk.gateway.executions == []
    until(talk, at("09:31", 24))
    assert len(talk.gateway.executions) == 1


@pytest.mark.parametrize(("outside", "ends"), [(0, "16:00"), (1, "20:00")])
def test_a_day_order_ends_with_its_session(outside: int, ends: str) -> None:
    talk = with_hours(at("15:00"))
    talk.place(1, order_type="LMT", limit="10", outside_rth=outside)
    until(talk, at(ends) - 60)
    talk.messages()
    until(talk, at(ends) + 60)
    assert [step for step in story(talk) if step[0] != "open_order"] == [
        ("order_status", "Cancelled"),
        ("api_error", "202"),
    ]


def test_orders_of_the_closing_auction_fill_in_full_or_end() -> None:
    talk = with_hours(at("15:00"))
    talk.place(1, order_type="MOC", quantity=5000)
    talk.place(2, order_type="LOC", limit="10", quantity=5000)
    until(talk, at("16:01"))
    final = {number: status for number, status, _ in statuses(talk)}
    assert final == {"1": "Filled", "2": "Cancelled"}
    assert len(talk.gateway.executions) == 1


def test_a_stop_that_waits_for_the_opening_is_triggered_after_it() -> None:
    talk = with_hours(at("08:00"))
    talk.place(1, order_type="STP", aux="10", quantity=1)
    until(talk, at("09:29"))
    assert {(status, why) for _, status, why in statuses(talk)} == {("PreSubmitted", "trigger")}
    until(talk, at("09:31"))
    assert statuses(talk)[-1][1] == "Filled"


def test_how_often_the_gateway_is_woken_changes_nothing() -> None:
    def run(step: float) -> list[list[str]]:
        talk = Talk(Gateway(7, ("DU1234567",), NOW))
        aapl = talk.gateway.catalogue.by_id(265598)
        assert aapl is not None
        last = talk.gateway.market.prices(aapl, NOW).last
        talk.place(1, order_type="TRAIL", action="SELL", aux="0.05")
        talk.place(2, order_type="LMT", limit=f"{last - 0.10:.2f}", quantity=1500)
        talk.place(3, order_type="REL", quantity=300)
        talk.wait(60.0, step=step)
        return [[*fields[:15], *fields[16:]] for fields in talk.heard("3", "5", "11", "59")]

    often, seldom = run(0.01), run(20.0)
    assert len(often) > 10
    assert often == seldom
