"""Requests about orders and executions: lists, filters, refusals of requests."""

from __future__ import annotations

import pytest
from ibkr_gateway_server.simulator.behaviour import Behaviour
from ibkr_gateway_server.simulator.gateway import Gateway

from tests.server.simulator.conftest import NOW, Talk


def test_open_orders_are_each_followed_by_their_status_and_then_the_end(talk: Talk) -> None:
    talk.place(1, order_type="LMT", limit="10")
    talk.place(2, order_type="LMT", limit="11")
    talk.wait(0.2)
    talk.messages()
    talk.ask("5", "1")
    assert [fields[:2] for fields in talk.messages()] == [["5", "1"], ["3", "1"], ["5", "2"], ["3", "2"], ["53", "1"]]


def test_other_clients_orders_are_among_all_open_orders_alone(gateway: Gateway, talk: Talk) -> None:
    talk.place(1, order_type="LMT", limit="10")
    talk.wait(0.2)
    other = Talk(gateway, client_id=2, now=talk.now)
    other.messages()
    other.ask("5", "1")
    assert other.messages() == [["53", "1"]]
    other.ask("16", "1")
    order, status, end = other.messages()
    assert (order[1], status[9], end[0]) == ("1", "1", "53")


def test_completed_orders_have_how_they_ended(talk: Talk) -> None:
    talk.place(1)
    talk.place(2, order_type="LMT", limit="10")
    talk.wait(0.2)
    talk.ask("4", "2", "", "", "2147483647")
    talk.wait(0.2)
    talk.messages()
    talk.ask("99", "1")
    filled, cancelled, end = talk.messages()
    assert "Filled Size: 1" in filled
    assert "Cancelled by Trader" in cancelled
    assert end == ["102"]


@pytest.mark.parametrize(
    ("given", "count"),
    [
        ([0, "", "", "", "", "", ""], 2),
        ([1, "DU1234567", "", "AAPL", "STK", "", "BUY"], 1),
        ([0, "", "", "", "", "", "SELL"], 1),
        ([0, "", "", "MSFT", "", "", ""], 0),
        ([9, "", "", "", "", "", ""], 0),
        ([0, "", "20261123-15:00:01", "", "", "", ""], 0),
        ([0, "", "20261123-14:00:00", "", "", "", ""], 2),
    ],
)
def test_executions_are_those_that_the_filter_lets_through(talk: Talk, given: list[object], count: int) -> None:
    talk.place(1)
    talk.place(2, action="SELL")
    talk.wait(0.2)
    talk.messages()
    talk.ask("7", "3", "1000000001", *given, "2147483647", "0")
    *told, end = talk.messages()
    assert [fields[0] for fields in told] == ["11", "59"] * count
    assert end == ["55", "1", "1000000001"]


def test_executions_since_no_time_at_all_are_refused(talk: Talk) -> None:
    talk.ask("7", "3", "1000000001", 0, "", "yesterday", "", "", "", "", "2147483647", "0")
    assert talk.messages()[0][1:3] == ["1000000001", "321"]


def test_executions_of_yesterday_are_not_told(talk: Talk) -> None:
    talk.place(1)
    talk.wait(0.2)
    talk.wait(15 * 3600.0, step=3600.0)
    talk.messages()
    talk.ask("7", "3", "1000000001", 0, "", "", "", "", "", "", "2147483647", "0")
    assert [fields[0] for fields in talk.messages()] == ["55"]


def test_an_order_without_an_exchange_is_refused(talk: Talk) -> None:
    talk.place(1, con_id=265598, exchange="")
    assert talk.messages()[0][1:4] == [
        "1",
        "321",
        "Error validating request.-'bF' : cause - Missing order exchange.",
    ]


def test_some_gateways_answer_a_what_if_twice() -> None:
    talk = Talk(Gateway(7, ("DU1234567",), NOW, Behaviour(previews_twice=True)))
    talk.messages()
    talk.place(1, what_if=1)
    first, second = talk.heard("5")
    unset = "1.7976931348623157E308"
    assert first.count(unset) - second.count(unset) == 9


@pytest.mark.parametrize(
    "version", [157, 158, 160, 162, 163, 166, 169, 170, 176, 177, 183, 184, 187, 189, 190, 192, 199, 200]
)
def test_an_order_is_read_and_told_at_every_version(gateway: Gateway, version: int) -> None:
    talk = Talk(gateway, version)
    talk.messages()
    talk.place(1, order_type="LMT", limit="10", ref="mine")
    talk.wait(0.2)
    assert {fields[2] for fields in talk.heard("3")} == {"PreSubmitted", "Submitted"}
    (order,) = gateway.open_orders()
    assert order.terms.order_ref == "mine"
    assert order.terms.limit_price == 10.0


def test_a_client_that_comes_back_is_told_of_its_open_orders_before_anything_else(gateway: Gateway, talk: Talk) -> None:
    talk.place(1, order_type="LMT", limit="10", tif="GTC")
    talk.place(2, order_type="LMT", limit="11", tif="GTC")
    talk.wait(0.2)
    talk.session.close()
    again = Talk(gateway, now=talk.now)
    assert [fields[0] for fields in again.messages()][:7] == ["5", "3", "5", "3", "53", "15", "9"]
    other = Talk(gateway, client_id=2, now=talk.now)
    assert [fields[0] for fields in other.messages()][:2] == ["15", "9"]


def test_completed_orders_of_yesterday_are_not_told(talk: Talk) -> None:
    talk.place(1)
    talk.wait(15 * 3600.0, step=3600.0)
    talk.messages()
    talk.ask("99", "1")
    assert talk.messages() == [["102"]]
