"""What somebody does by hand in TWS, as clients see it."""

from __future__ import annotations

import pytest
from ibkr_gateway_server.simulator.acceptance import OrderRefused
from ibkr_gateway_server.simulator.gateway import Gateway
from ibkr_gateway_server.simulator.instruments import ContractQuery
from ibkr_gateway_server.simulator.orders import Terms

from tests.server.simulator.conftest import NOW, Talk
from tests.server.simulator.test_order_lives import CANCEL, statuses
from tests.server.simulator.test_orders import story

AAPL = ContractQuery(symbol="AAPL", sec_type="STK", exchange="SMART", currency="USD")


def resting() -> Terms:
    """A limit order that rests."""
    return Terms(action="BUY", quantity=1, order_type="LMT", limit_price=10.0)


def client_0(gateway: Gateway, *, binds: bool = False) -> Talk:
    """Client 0, which may bind."""
    talk = Talk(gateway, client_id=0, now=gateway.now)
    if binds:
        talk.ask("15", "1", "1")
    talk.messages()
    return talk


def test_an_unbound_order_has_no_id_and_is_seen_by_who_asks_for_all(gateway: Gateway, talk: Talk) -> None:
    placed = gateway.place_manually(AAPL, resting())
    talk.wait(0.3)
    assert talk.messages() == []
    talk.ask("5", "1")
    assert [fields[0] for fields in talk.messages()] == ["53"]
    talk.ask("16", "1")
    order, status, _ = talk.messages()
    assert (order[1], order[24], order[25]) == ("0", "0", str(placed.perm_id))
    assert (status[1], status[9]) == ("0", "0")
    talk.ask("4", "0", *CANCEL)
    assert story(talk) == [("api_error", "10147")]


def test_client_0_binds_future_orders_when_it_has_asked_to(gateway: Gateway) -> None:
    talk = client_0(gateway, binds=True)
    placed = gateway.place_manually(AAPL, resting())
    talk.wait(0.3)
    bound, order, status, *_ = talk.messages()
    assert bound == ["100", str(placed.perm_id), "0", str(placed.order_id)]
    assert placed.order_id < 0
    assert order[:2] == ["5", bound[3]]
    assert status[:3] == ["3", bound[3], "PreSubmitted"]


def test_client_0_binds_what_is_there_when_it_asks_for_its_open_orders(gateway: Gateway) -> None:
    talk = client_0(gateway)
    first = gateway.place_manually(AAPL, resting())
    second = gateway.place_manually(AAPL, resting())
    talk.wait(0.3)
    assert talk.messages() == []
    talk.ask("5", "1")
    told = talk.messages()
    assert [fields[0] for fields in told] == ["100", "100", "5", "3", "5", "3", "53"]
    assert first.order_id != second.order_id
    talk.ask("5", "1")
    assert [fields[0] for fields in talk.messages()] == ["5", "3", "5", "3", "53"]


def test_a_bound_order_is_changed_and_cancelled_as_its_clients_own(gateway: Gateway) -> None:
    talk = client_0(gateway, binds=True)
    placed = gateway.place_manually(AAPL, resting())
    talk.wait(0.3)
    talk.messages()
    talk.place(placed.order_id, order_type="LMT", limit="11")
    talk.wait(0.1)
    assert {fields[16] for fields in talk.heard("5")} == {"11.0"}
    talk.ask("4", placed.order_id, *CANCEL)
    talk.wait(0.1)
    assert [status for _, status, _ in statuses(talk)] == ["PendingCancel", "Cancelled"]


def test_only_client_0_binds(talk: Talk) -> None:
    talk.ask("15", "1", "1")
    (refusal,) = talk.messages()
    assert refusal[1:3] == ["-1", "321"]
    assert refusal[3].endswith("Only the default client (i.e 0) can auto bind orders.")


def test_a_change_by_hand_is_told_to_the_orders_client(gateway: Gateway, talk: Talk) -> None:
    talk.place(1, order_type="LMT", limit="10")
    talk.wait(0.3)
    talk.messages()
    (order,) = gateway.open_orders()
    gateway.modify_manually(order.perm_id, limit_price=12.0, quantity=3)
    talk.wait(0.1)
    opened, status = talk.messages()
    assert (opened[14], opened[16]) == ("3", "12.0")
    assert status[2:5] == ["Submitted", "0", "3"]


def test_a_cancel_by_hand_is_told_to_the_orders_client(gateway: Gateway, talk: Talk) -> None:
    talk.place(1, order_type="LMT", limit="10")
    talk.wait(0.3)
    talk.messages()
    (order,) = gateway.open_orders()
    gateway.cancel_manually(order.perm_id)
    talk.wait(0.1)
    assert story(talk) == [("order_status", "PendingCancel"), ("order_status", "Cancelled"), ("api_error", "202")]
    with pytest.raises(OrderRefused, match="not in a cancellable state"):
        gateway.cancel_manually(order.perm_id)


def test_what_cannot_be_done_by_hand_says_so(gateway: Gateway) -> None:
    placed = gateway.place_manually(AAPL, resting())
    with pytest.raises(LookupError, match="no order 7"):
        gateway.modify_manually(7, limit_price=1.0)
    with pytest.raises(ValueError, match="only these can be changed"):
        gateway.modify_manually(placed.perm_id, action="SELL")
    with pytest.raises(OrderRefused, match="minimum price variation"):
        gateway.modify_manually(placed.perm_id, limit_price=1.001)
    with pytest.raises(OrderRefused, match="Invalid order type"):
        gateway.place_manually(AAPL, Terms(action="BUY", quantity=1, order_type="FEELINGS"))


def test_a_global_cancel_ends_orders_placed_by_hand_too(gateway: Gateway, talk: Talk) -> None:
    gateway.place_manually(AAPL, resting())
    talk.wait(0.3)
    talk.ask("58", "", "2147483647")
    talk.wait(0.3)
    assert gateway.open_orders() == []
    (ended,) = gateway.completed_orders()
    assert ended.completed_status == "Cancelled by Trader"


def test_an_order_placed_by_hand_fills_and_is_among_the_executions(gateway: Gateway, talk: Talk) -> None:
    gateway.place_manually(AAPL, Terms(action="BUY", quantity=1, order_type="MKT"))
    talk.wait(0.3)
    talk.messages()
    talk.ask("7", "3", "1", 0, "", "", "", "", "", "", "2147483647", "0")
    execution, _, _ = talk.messages()
    assert (execution[2], execution[22]) == ("0", "0")


def test_orders_placed_by_hand_are_the_same_in_every_run() -> None:
    def run() -> list[list[str]]:
        gateway = Gateway(7, ("DU1",), NOW)
        talk = client_0(gateway, binds=True)
        gateway.place_manually(AAPL, Terms(action="BUY", quantity=2000, order_type="MKT"))
        talk.wait(2.0)
        return talk.messages()

    assert run() == run()
