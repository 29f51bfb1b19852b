"""What happens to a gateway as a whole, and what its clients see of it."""

from __future__ import annotations

import pytest
from ibkr_gateway_server.simulator import incidents
from ibkr_gateway_server.simulator.gateway import Gateway
from ibkr_gateway_server.simulator.link import Farm

from tests.server.simulator.conftest import Talk
from tests.server.simulator.requests.test_contracts import contract

AAPL = {"con_id": 265598, "exchange": "SMART"}


def codes(talk: Talk) -> list[str]:
    """The notices of which the client has been told."""
    return [fields[2] for fields in talk.heard("4")]


def follow_quotes(talk: Talk) -> None:
    talk.ask("1", "11", 9, *contract(**AAPL), 0, "", 0, 0, "")
    talk.wait(2, step=0.25)
    assert talk.heard("1")


def ticks_in(talk: Talk, seconds: float) -> int:
    talk.wait(seconds, step=0.25)
    return len(talk.heard("1"))


def test_while_the_link_is_lost_no_ticks_come_and_afterwards_they_go_on(gateway: Gateway, talk: Talk) -> None:
    follow_quotes(talk)
    incidents.lose_link(gateway)
    assert codes(talk) == ["1100"]
    assert ticks_in(talk, 5) == 0
    incidents.restore_link(gateway, data_lost=False)
    assert codes(talk) == ["1102"]
    assert ticks_in(talk, 5) > 0


def test_when_data_were_lost_subscriptions_are_gone(gateway: Gateway, talk: Talk) -> None:
    follow_quotes(talk)
    talk.ask("92", 8, "DU1234567", "")
    incidents.lose_link(gateway)
    incidents.restore_link(gateway, data_lost=True)
    assert codes(talk) == ["1100", "1101"]
    talk.wait(5, step=0.25)
    told = {fields[0] for fields in talk.messages()}
    # What is told of accounts goes on.
    assert told == {"94"}
    follow_quotes(talk)


def test_an_order_sent_while_the_link_is_lost_is_lost_without_a_word(gateway: Gateway, talk: Talk) -> None:
    incidents.lose_link(gateway, to_server=True)
    assert codes(talk) == ["2110"]
    talk.place(1)
    talk.wait(5)
    assert talk.messages() == []
    incidents.restore_link(gateway, data_lost=False)
    talk.wait(5)
    assert gateway.orders == {}


@pytest.mark.parametrize("tells", [False, True])
def test_a_fill_while_the_link_is_lost_is_told_once_then_or_at_once(gateway: Gateway, talk: Talk, tells: bool) -> None:
    talk.place(1, order_type="LMT", limit="10")
    talk.wait(1)
    talk.messages()
    incidents.lose_link(gateway, tells_orders=tells)
    aapl = gateway.catalogue.by_id(265598)
    assert aapl is not None
    gateway.market.set_price(aapl, 9.0, talk.now)
    gateway.look_again()
    talk.wait(2)
    during = [fields[0] for fields in talk.heard("11", "59")]
    incidents.restore_link(gateway, data_lost=False)
    talk.wait(1)
    after = [fields[0] for fields in talk.heard("11", "59")]
    assert (during, after) == ((["11", "59"], []) if tells else ([], ["11", "59"]))


def test_what_the_gateway_itself_knows_is_answered_while_the_link_is_lost(gateway: Gateway, talk: Talk) -> None:
    incidents.lose_link(gateway)
    talk.messages()
    talk.ask("49", "1")
    talk.ask("5", "1")
    talk.ask("9", "8", 1009, *contract(**AAPL), 0, "", "", "")
    assert [fields[0] for fields in talk.messages()] == ["49", "53"]


@pytest.mark.parametrize(
    ("farm", "request_", "lost", "found"),
    [
        (Farm.HISTORICAL, ["20", 7, *contract(**AAPL), 0, "", "1 day", "1 D", 1, "TRADES", 1, 0, ""], "2105", "2106"),
        (Farm.DEFINITIONS, ["9", "8", 1009, *contract(**AAPL), 0, "", "", ""], "2157", "2158"),
    ],
)
def test_a_lost_farm_does_not_answer(
    gateway: Gateway, talk: Talk, farm: Farm, request_: list[object], lost: str, found: str
) -> None:
    incidents.lose_farm(gateway, farm)
    talk.ask(*request_)
    assert [(fields[2], fields[3]) for fields in talk.messages()] == [(lost, farm.lost()[1])]
    incidents.restore_farm(gateway, farm)
    talk.ask(*request_)
    told = talk.messages()
    assert told[0][2:4] == [found, farm.found()[1]]
    assert len(told) > 1


def test_a_lost_market_data_farm_is_silent(gateway: Gateway, talk: Talk) -> None:
    follow_quotes(talk)
    incidents.lose_farm(gateway, Farm.MARKET_DATA)
    assert codes(talk) == ["2103"]
    assert ticks_in(talk, 5) == 0
    incidents.restore_farm(gateway, Farm.MARKET_DATA)
    assert codes(talk) == ["2104"]
    assert ticks_in(talk, 5) > 0


def test_a_resting_farm_is_told_of(gateway: Gateway, talk: Talk) -> None:
    incidents.rest_farm(gateway, Farm.HISTORICAL)
    text = "HMDS data farm connection is inactive but should be available upon demand.ushmds"
    assert [fields[2:4] for fields in talk.messages()] == [["2107", text]]


def test_a_competing_session_takes_live_lines(gateway: Gateway, talk: Talk) -> None:
    follow_quotes(talk)
    incidents.compete(gateway)
    assert [fields[1:3] for fields in talk.heard("4")] == [["9", "10197"]]
    assert ticks_in(talk, 3) == 0


def test_connections_break_end_or_freeze(gateway: Gateway) -> None:
    def client(number: int) -> Talk:
        made = Talk(gateway, client_id=number)
        made.messages()
        return made

    broken = client(1)
    incidents.break_connections(gateway)
    assert (broken.session.is_closed, broken.session.is_aborted) == (True, True)
    ended = client(2)
    incidents.close_connections(gateway)
    assert (ended.session.is_closed, ended.session.is_aborted) == (True, False)
    frozen = client(3)
    incidents.freeze_connections(gateway, 10)
    frozen.ask("49", "1")
    assert frozen.messages() == []
    frozen.wait(11, step=1)
    assert [fields[0] for fields in frozen.messages()] == ["49"]
    moved = client(4)
    incidents.change_port(gateway)
    assert codes(moved) == ["1300"]
    assert moved.session.is_closed


def test_a_notice_goes_to_everyone(gateway: Gateway) -> None:
    clients = [Talk(gateway, client_id=number) for number in (1, 2)]
    for talk in clients:
        talk.messages()
    incidents.notify(gateway, 2119, "Market data farm is connecting:usfarm")
    assert [codes(talk) for talk in clients] == [["2119"], ["2119"]]
