"""What can be made to go wrong on the wire."""

from __future__ import annotations

from ibkr_gateway_server.simulator.behaviour import Behaviour
from ibkr_gateway_server.simulator.faults import Fault
from ibkr_gateway_server.simulator.gateway import Gateway

from tests.server.simulator.conftest import NOW, Talk

PLACE_ORDER = 3


def test_a_lost_request_has_no_effect_and_no_reply_once(gateway: Gateway, talk: Talk) -> None:
    gateway.faults.on_request(PLACE_ORDER, Fault.LOSE)
    talk.place(1)
    talk.wait(0.3)
    assert talk.messages() == []
    assert gateway.orders == {}
    talk.place(1)
    talk.wait(0.3)
    assert talk.messages() != []


def test_a_connection_may_break_before_a_request_takes_effect(gateway: Gateway, talk: Talk) -> None:
    gateway.faults.on_request(PLACE_ORDER, Fault.DISCONNECT_BEFORE)
    talk.place(1)
    assert talk.session.is_aborted
    assert gateway.orders == {}


def test_a_connection_may_break_after_a_request_has_taken_effect(gateway: Gateway, talk: Talk) -> None:
    gateway.faults.on_request(PLACE_ORDER, Fault.DISCONNECT_AFTER)
    talk.place(1, order_type="LMT", limit="10")
    talk.wait(0.3)
    assert talk.messages() == []
    assert [order.status for order in gateway.open_orders()] == ["Submitted"]
    again = Talk(gateway, now=talk.now)
    assert [fields[2] for fields in again.heard("3")] == ["Submitted"]


def test_replies_may_be_lost_by_their_kind(gateway: Gateway, talk: Talk) -> None:
    gateway.faults.lose_reply(62)
    talk.ask("61", "1")
    assert {fields[0] for fields in talk.messages()} == {"61"}
    talk.ask("61", "1")
    assert talk.messages()[-1] == ["62", "1"]


def test_nothing_goes_wrong_after_all(gateway: Gateway, talk: Talk) -> None:
    gateway.faults.on_request(49, Fault.LOSE, times=5)
    gateway.faults.lose_reply(49, times=5)
    gateway.faults.clear()
    talk.ask("49", "1")
    assert talk.messages() == [["49", "1", str(int(NOW))]]


def test_a_client_that_is_too_fast_is_told_so_and_let_go() -> None:
    talk = Talk(Gateway(7, ("DU1234567",), NOW, Behaviour(enforces_pacing=True)))
    talk.messages()
    for _ in range(49):
        talk.ask("49", "1")
    assert not talk.session.is_closed
    talk.ask("49", "1")
    assert talk.messages()[-1][1:3] == ["-1", "100"]
    assert talk.session.is_closed


def test_fifty_messages_in_each_second_are_not_too_fast() -> None:
    talk = Talk(Gateway(7, ("DU1234567",), NOW, Behaviour(enforces_pacing=True)))
    for _ in range(200):
        talk.wait(0.021)
        talk.ask("49", "1")
    assert not talk.session.is_closed
