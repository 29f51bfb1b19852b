"""What can be made to go wrong with messages: requests that are lost, late or refused, replies that are spoiled."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st
from ibkr_gateway_server.simulator.behaviour import Behaviour
from ibkr_gateway_server.simulator.faults import HANDSHAKE, REFUSALS, Faults, OnReply, OnRequest
from ibkr_gateway_server.simulator.gateway import Gateway

from tests.server.simulator.conftest import NOW, Talk
from tests.server.simulator.requests.test_contracts import contract

PLACE_ORDER, ORDER_STATUS, CURRENT_TIME = 3, 3, 49
AAPL = {"con_id": 265598, "exchange": "SMART"}
TIME = ["49", "1", str(int(NOW))]


def times_told(talk: Talk, count: int) -> int:
    """How many of so many questions for the time are answered."""
    for _ in range(count):
        talk.ask("49", "1")
    return len(talk.heard("49"))


def test_a_lost_request_has_no_effect_and_no_reply_once(gateway: Gateway, talk: Talk) -> None:
    gateway.faults.on_request(PLACE_ORDER, OnRequest.LOSE)
    talk.place(1)
    talk.wait(0.3)
    assert talk.messages() == []
    assert gateway.orders == {}
    talk.place(1)
    talk.wait(0.3)
    assert talk.messages() != []


def test_a_connection_may_break_before_a_request_takes_effect(gateway: Gateway, talk: Talk) -> None:
    gateway.faults.on_request(PLACE_ORDER, OnRequest.DISCONNECT_BEFORE)
    talk.place(1)
    assert talk.session.is_aborted
    assert gateway.orders == {}


def test_a_connection_may_break_after_a_request_has_taken_effect(gateway: Gateway, talk: Talk) -> None:
    gateway.faults.on_request(PLACE_ORDER, OnRequest.DISCONNECT_AFTER)
    talk.place(1, order_type="LMT", limit="10")
    talk.wait(0.3)
    assert talk.messages() == []
    assert [order.status for order in gateway.open_orders()] == ["Submitted"]
    again = Talk(gateway, now=talk.now)
    assert [fields[2] for fields in again.heard("3")] == ["Submitted"]


def test_an_order_may_be_accepted_long_after_it_was_sent(gateway: Gateway, talk: Talk) -> None:
    gateway.faults.on_request(PLACE_ORDER, OnRequest.DELAY, delay_s=90)
    talk.place(1, order_type="LMT", limit="10")
    talk.wait(89, step=0.5)
    talk.ask("16", "1")
    assert talk.messages() == [["53", "1"]]
    talk.wait(2, step=0.5)
    assert talk.heard("3")[-1][2] == "Submitted"


def test_a_late_request_of_a_connection_that_has_ended_takes_no_effect(gateway: Gateway, talk: Talk) -> None:
    gateway.faults.on_request(PLACE_ORDER, OnRequest.DELAY, delay_s=1)
    talk.place(1)
    talk.session.close()
    gateway.advance(talk.now + 2)
    assert gateway.orders == {}


@pytest.mark.parametrize(
    ("name", "message_id", "request_"),
    [
        ("read_only_api", 3, None),
        ("duplicate_order_id", 3, None),
        ("historical_pacing", 20, ["20", 7, *contract(**AAPL), 0, "", "1 day", "1 D", 1, "TRADES", 1, 0, ""]),
        ("not_subscribed", 1, ["1", "11", 7, *contract(**AAPL), 0, "", 0, 0, ""]),
        ("no_security_definition", 9, ["9", "8", 1007, *contract(**AAPL), 0, "", "", ""]),
    ],
)
def test_a_request_may_be_refused_with_a_live_code_and_text(
    gateway: Gateway, talk: Talk, name: str, message_id: int, request_: list[object] | None
) -> None:
    code, text = REFUSALS[name]
    gateway.faults.on_request(message_id, OnRequest.REFUSE, code=code, text=text)
    if request_ is None:
        talk.place(7)
    else:
        talk.ask(*request_)
    (answer,) = talk.messages()
    assert answer[2:4] == [str(code), text]
    assert int(answer[1]) in (7, 1007)
    assert gateway.orders == {}


def test_a_client_id_may_be_in_use_for_some_attempts(gateway: Gateway) -> None:
    code, text = REFUSALS["client_id_in_use"]
    gateway.faults.on_request(71, OnRequest.REFUSE, times=2, code=code, text=text)
    ends = []
    for _ in range(3):
        talk = Talk(gateway)
        ends.append((talk.messages()[0][0], talk.session.is_closed))
    assert ends == [("4", True), ("4", True), ("15", False)]


def test_a_connection_may_be_taken_and_never_answered_or_broken_at_once(gateway: Gateway) -> None:
    gateway.faults.on_request(HANDSHAKE, OnRequest.LOSE)
    assert Talk(gateway).greeting == []
    gateway.faults.on_request(HANDSHAKE, OnRequest.DISCONNECT_BEFORE)
    assert Talk(gateway).session.is_aborted


def test_an_old_gateway_may_be_met(gateway: Gateway) -> None:
    gateway.faults.on_reply(HANDSHAKE, OnReply.REPLACE, field=0, text="150")
    assert Talk(gateway).greeting[0][0] == "150"


def test_a_frozen_connection_is_neither_read_nor_written_and_goes_on_later(gateway: Gateway, talk: Talk) -> None:
    gateway.faults.on_request(CURRENT_TIME, OnRequest.FREEZE, delay_s=30)
    talk.ask("49", "1")
    talk.ask("17", "1")
    talk.wait(29, step=1)
    assert talk.messages() == []
    talk.wait(2, step=1)
    assert [fields[0] for fields in talk.messages()] == ["15"]


def test_replies_may_be_lost_by_their_kind(gateway: Gateway, talk: Talk) -> None:
    gateway.faults.on_reply(62, OnReply.LOSE)
    talk.ask("61", "1")
    assert {fields[0] for fields in talk.messages()} == {"61"}
    talk.ask("61", "1")
    assert talk.messages()[-1] == ["62", "1"]


def test_an_acknowledgement_may_be_lost_while_the_order_works(gateway: Gateway, talk: Talk) -> None:
    gateway.faults.on_reply(5, OnReply.LOSE, times=None)
    gateway.faults.on_reply(ORDER_STATUS, OnReply.LOSE, times=None)
    talk.place(1, order_type="LMT", limit="10")
    talk.wait(1)
    assert talk.messages() == []
    assert [order.status for order in gateway.open_orders()] == ["Submitted"]


def test_a_reply_may_come_twice_late_or_behind_the_next(gateway: Gateway, talk: Talk) -> None:
    gateway.faults.on_reply(CURRENT_TIME, OnReply.DUPLICATE)
    talk.ask("49", "1")
    assert talk.messages() == [TIME, TIME]
    gateway.faults.on_reply(CURRENT_TIME, OnReply.DELAY, delay_s=2)
    talk.ask("49", "1")
    talk.wait(1.9)
    assert talk.messages() == []
    talk.wait(0.2)
    assert talk.messages() == [TIME]
    gateway.faults.on_reply(CURRENT_TIME, OnReply.REORDER)
    talk.ask("49", "1")
    talk.ask("17", "1")
    assert [fields[0] for fields in talk.messages()] == ["15", "49"]


def test_a_reply_that_nothing_overtakes_comes_in_the_end(gateway: Gateway, talk: Talk) -> None:
    gateway.faults.on_reply(CURRENT_TIME, OnReply.REORDER)
    talk.ask("49", "1")
    assert talk.messages() == []
    talk.wait(0.6)
    assert [fields[0] for fields in talk.messages()] == ["49"]


@pytest.mark.parametrize("sentinel", ["", "-1", "NaN", "1.7976931348623157E308", "2147483647", "?"])
def test_a_price_may_be_a_sentinel(gateway: Gateway, talk: Talk, sentinel: str) -> None:
    gateway.faults.on_reply(1, OnReply.REPLACE, field=4, text=sentinel)
    talk.ask("1", "11", 9, *contract(**AAPL), 0, "", 1, 0, "")
    assert talk.heard("1")[0][4] == sentinel


def test_a_message_of_an_unknown_kind_may_come_between(gateway: Gateway, talk: Talk) -> None:
    gateway.faults.on_reply(CURRENT_TIME, OnReply.INSERT, text="199|1|odd")
    talk.ask("49", "1")
    assert talk.messages() == [["199", "1", "odd"], TIME]


@pytest.mark.parametrize("length", [0, -1, 0x7FFFFFFF])
def test_a_length_prefix_may_be_impossible(gateway: Gateway, talk: Talk, length: int) -> None:
    gateway.faults.on_reply(CURRENT_TIME, OnReply.BAD_LENGTH, code=length)
    talk.ask("49", "1")
    assert b"".join(talk.session.take())[:4] == length.to_bytes(4, "big", signed=True)


def test_a_connection_may_break_within_a_frame(gateway: Gateway, talk: Talk) -> None:
    gateway.faults.on_reply(CURRENT_TIME, OnReply.CUT)
    talk.ask("49", "1")
    data = b"".join(talk.session.take())
    assert 0 < len(data) < 4 + int.from_bytes(data[:4], "big")
    assert talk.session.is_aborted


def test_a_connection_may_end_in_good_order_behind_a_message(gateway: Gateway, talk: Talk) -> None:
    gateway.faults.on_reply(CURRENT_TIME, OnReply.CLOSE)
    talk.ask("17", "1")
    talk.ask("49", "1")
    talk.ask("17", "1")
    assert [fields[0] for fields in talk.messages()] == ["15", "49"]
    assert talk.session.is_closed
    assert not talk.session.is_aborted


@pytest.mark.parametrize("version", [176, 200])
def test_bars_may_come_twice_or_the_latest_first(gateway: Gateway, version: int) -> None:
    talk = Talk(gateway, version)
    talk.messages()

    def dates() -> list[str]:
        talk.ask("20", 7, *contract(**AAPL), 0, "", "1 day", "1 W", 1, "TRADES", 1, 0, "")
        (told,) = talk.heard("17")
        first = 3 if version >= 196 else 5
        assert int(told[first - 1]) == len(told[first:]) // 8
        return told[first::8]

    right = dates()
    gateway.faults.on_reply(17, OnReply.REPEAT_ROWS)
    assert dates() == [date for date in right for _ in range(2)]
    gateway.faults.on_reply(17, OnReply.REVERSE_ROWS)
    assert dates() == right[::-1]
    assert dates() == right


def test_everything_may_come_in_pieces_of_a_byte() -> None:
    talk = Talk(Gateway(7, ("DU1234567",), NOW, Behaviour(chunk_bytes=1)))
    pieces = talk.session.take()
    assert {len(piece) for piece in pieces} == {1}
    assert len(pieces) > 100


def test_the_clock_may_be_wrong() -> None:
    talk = Talk(Gateway(7, ("DU1234567",), NOW, Behaviour(clock_skew_s=90)))
    talk.ask("49", "1")
    assert talk.messages()[-1] == ["49", "1", str(int(NOW + 90))]


def test_order_ids_may_roll_back(gateway: Gateway) -> None:
    gateway.faults.on_reply(9, OnReply.REPLACE, field=2, text="38099")
    assert Talk(gateway).heard("9") == [["9", "1", "38099"]]
    assert Talk(gateway, client_id=2).heard("9") == [["9", "1", "1"]]


def test_a_fault_may_be_of_one_client_and_until_a_time(gateway: Gateway, talk: Talk) -> None:
    other = Talk(gateway, client_id=2)
    other.messages()
    gateway.faults.on_reply(CURRENT_TIME, OnReply.LOSE, times=None, client_id=2, until=NOW + 10)
    assert (times_told(talk, 3), times_told(other, 3)) == (3, 0)
    other.wait(11, step=1)
    assert times_told(other, 3) == 3


def test_chance_is_the_seeds(talk: Talk) -> None:
    def lost(seed: int) -> list[bool]:
        faults = Faults(seed)
        faults.on_request(None, OnRequest.LOSE, times=None, probability=0.3)
        return [faults.request(49, 1, NOW) is not None for _ in range(200)]

    assert lost(1) == lost(1)
    assert lost(1) != lost(2)
    assert 30 < sum(lost(1)) < 90


def test_what_has_happened_is_counted(gateway: Gateway, talk: Talk) -> None:
    gateway.faults.on_reply(CURRENT_TIME, OnReply.LOSE, times=2)
    assert times_told(talk, 3) == 1
    assert gateway.faults.counts == {("reply", "lose"): 2}
    assert gateway.faults.rules == ()


def test_nothing_goes_wrong_after_all(gateway: Gateway, talk: Talk) -> None:
    gateway.faults.on_request(49, OnRequest.LOSE, times=5)
    gateway.faults.on_reply(49, OnReply.LOSE, times=5)
    gateway.faults.clear()
    talk.ask("49", "1")
    assert talk.messages() == [TIME]


@pytest.mark.parametrize(
    ("wrong", "cause"),
    [({"times": 0}, "times is 0"), ({"probability": 0}, "probability is 0"), ({"delay_s": -1}, "delay_s is -1")],
)
def test_a_fault_that_makes_no_sense_is_refused(wrong: dict[str, float], cause: str) -> None:
    with pytest.raises(ValueError, match=cause):
        Faults().on_reply(1, OnReply.LOSE, **wrong)  # type: ignore[arg-type]  # wrong on purpose


@given(st.sampled_from(list(OnReply)), st.integers(0, 20), st.text(max_size=10), st.integers(-(2**31), 2**31 - 1))
def test_no_spoiled_reply_stops_the_gateway(effect: OnReply, field: int, text: str, code: int) -> None:
    gateway = Gateway(7, ("DU1234567",), NOW)
    talk = Talk(gateway)
    gateway.faults.on_reply(None, effect, times=None, field=field, text=text, code=code, delay_s=0.1)
    talk.ask("61", "1")
    talk.place(1)
    talk.wait(1, step=0.1)
    talk.session.take()
    assert gateway.orders or talk.session.is_closed


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
