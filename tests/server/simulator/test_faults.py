"""What can be made to go wrong on the wire."""

from __future__ import annotations

import struct
from typing import Any

import pytest
from ibkr_gateway_server.simulator.behaviour import Behaviour
from ibkr_gateway_server.simulator.faults import Fault, Rule, WrongRule
from ibkr_gateway_server.simulator.faults.acts import inject
from ibkr_gateway_server.simulator.faults.rules import AT_ONCE, ON_REQUEST
from ibkr_gateway_server.simulator.gateway import Gateway
from ibkr_gateway_server.simulator.session import Session

from tests.server.simulator.conftest import NOW, Talk
from tests.server.simulator.requests.test_contracts import contract

PLACE_ORDER = 3
AAPL = contract(con_id=265598, exchange="SMART")
QUOTES = ("1", "2", "45", "46")


def bars_of(talk: Talk, req_id: int = 20, size: str = "1 hour", shown: str = "TRADES", end: str = "") -> None:
    talk.ask("20", req_id, *AAPL, "0", end, size, "1 D", 1, shown, 1, 0, "")


def codes(talk: Talk) -> list[str]:
    """Codes of the errors and notices since the last look."""
    return [fields[2] for fields in talk.heard("4")]


def after(fault: Fault, talk: Talk, **more: Any) -> None:
    inject(talk.gateway, Rule(fault, **more))


# A client's messages.


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


def test_a_connection_may_end_with_an_answer_in_flight(talk: Talk) -> None:
    after(Fault.CLOSE_AFTER, talk, message_id=49)
    talk.ask("49", "1")
    assert talk.session.is_closed
    assert talk.heard("49") == [["49", "1", str(int(NOW))]]


def test_an_order_may_be_accepted_late_also_when_its_client_has_gone(gateway: Gateway, talk: Talk) -> None:
    after(Fault.LATE, talk, message_id=PLACE_ORDER, delay_s=90.0)
    talk.place(1, order_type="LMT", limit="10")
    talk.wait(89.0, step=1.0)
    assert gateway.orders == {}
    talk.session.abort()
    gateway.advance(talk.now + 5.0)
    assert [order.status for order in gateway.open_orders()] == ["Submitted"]


@pytest.mark.parametrize(
    ("fields", "req_id", "code"),
    [
        (["1", "11", "77", *AAPL, 0, "", 0, 0, ""], "77", 354),
        (["20", "78", *AAPL, "0", "", "1 hour", "1 D", 1, "TRADES", 1, 0, ""], "78", 162),
        (["4", "79", "", "", "2147483647"], "79", 10147),
        (["61", "1"], "-1", 321),
    ],
)
def test_a_request_may_be_refused_under_its_own_id(talk: Talk, fields: list[str], req_id: str, code: int) -> None:
    after(Fault.REFUSE, talk, message_id=int(fields[0]), code=code)
    talk.ask(*fields)
    (answer,) = talk.messages()
    assert answer[1:3] == [req_id, str(code)]
    assert answer[3] != ""


def test_a_warning_leaves_a_request_its_effect(talk: Talk) -> None:
    after(Fault.WARN, talk, message_id=1, code=10090)
    talk.ask("1", "11", "77", *AAPL, 0, "", 0, 0, "")
    heard = talk.messages()
    assert [fields[2] for fields in heard if fields[0] == "4"] == ["10090"]
    assert any(fields[0] == "1" for fields in heard)


def test_a_read_only_api_refuses_orders_and_nothing_else(gateway: Gateway, talk: Talk) -> None:
    after(Fault.READ_ONLY, talk, times=None)
    talk.place(5)
    talk.ask("49", "1")
    refused, time = talk.messages()
    assert refused[1:3] == ["5", "321"]
    assert time[0] == "49"
    assert gateway.orders == {}


def test_a_client_can_be_told_that_it_is_too_fast(talk: Talk) -> None:
    after(Fault.TOO_FAST, talk)
    talk.ask("49", "1")
    assert codes(talk) == ["100"]
    assert talk.session.is_closed


# The gateway's messages.


def test_replies_may_be_lost_by_their_kind(gateway: Gateway, talk: Talk) -> None:
    gateway.faults.lose_reply(62)
    talk.ask("61", "1")
    assert {fields[0] for fields in talk.messages()} == {"61"}
    talk.ask("61", "1")
    assert talk.messages()[-1] == ["62", "1"]


@pytest.mark.parametrize("missing", ["9", "15"])
def test_a_start_may_leave_out_what_clients_wait_for(gateway: Gateway, missing: str) -> None:
    gateway.faults.lose_reply(int(missing))
    heard = {fields[0] for fields in Talk(gateway).messages()}
    assert heard == {"4", "9", "15"} - {missing}


def test_an_acknowledgement_may_be_late(talk: Talk) -> None:
    after(Fault.DELAY_REPLY, talk, message_id=49, delay_s=3.0)
    talk.ask("49", "1")
    talk.wait(2.9, step=0.1)
    assert talk.messages() == []
    talk.wait(0.2)
    assert talk.heard("49") != []


def test_a_reply_may_come_twice(talk: Talk) -> None:
    after(Fault.DUPLICATE_REPLY, talk, message_id=49)
    talk.ask("49", "1")
    assert len(talk.heard("49")) == 2


def test_replies_may_overtake_each_other(talk: Talk) -> None:
    after(Fault.REORDER_REPLY, talk, message_id=49)
    talk.ask("49", "1")
    assert talk.messages() == []
    talk.ask("61", "1")
    assert [fields[0] for fields in talk.messages()][-1] == "62"
    talk.ask("49", "1")
    assert len(talk.heard("49")) == 1


def test_a_reply_that_nothing_overtakes_comes_in_the_end(talk: Talk) -> None:
    after(Fault.REORDER_REPLY, talk, message_id=49)
    talk.ask("49", "1")
    talk.wait(1.1)
    assert len(talk.heard("49")) == 1


def test_a_field_may_be_unreadable(talk: Talk) -> None:
    after(Fault.CORRUPT_FIELD, talk, message_id=3, field=3, value="x")
    talk.place(1, order_type="LMT", limit="10")
    talk.wait(0.1)
    assert talk.heard("3")[0][3] == "x"


@pytest.mark.parametrize(
    ("value", "text"),
    [
        ("nan", "NaN"),
        ("-1", "-1"),
        ("max_double", "1.7976931348623157E308"),
        ("max_int", "2147483647"),
        ("empty", ""),
        ("?", "?"),
    ],
)
def test_prices_and_sizes_may_be_sentinels(talk: Talk, value: str, text: str) -> None:
    after(Fault.SENTINEL, talk, value=value, times=None)
    talk.ask("1", "11", "77", *AAPL, 0, "", 0, 0, "")
    prices, sizes = [], []
    for fields in talk.messages():
        if fields[0] == "1":
            prices += fields[4:6]
        elif fields[0] == "2":
            sizes.append(fields[4])
    assert prices
    assert sizes
    assert {*prices, *sizes} == {text}


def test_a_message_with_an_unknown_id_may_come_in_between(talk: Talk) -> None:
    after(Fault.PRECEDE_UNKNOWN, talk, message_id=49)
    talk.ask("49", "1")
    assert [fields[0] for fields in talk.messages()] == ["199", "49"]


@pytest.mark.parametrize(("value", "length"), [("0", 0), ("-1", 0xFFFFFFFF), ("0x7fffffff", 0x7FFFFFFF)])
def test_a_length_may_be_impossible(talk: Talk, value: str, length: int) -> None:
    after(Fault.BAD_LENGTH, talk, message_id=49, value=value)
    talk.ask("49", "1")
    (piece,) = talk.session.take()
    assert struct.unpack(">I", piece[:4]) == (length,)


def test_a_connection_may_break_in_the_middle_of_a_frame(talk: Talk) -> None:
    after(Fault.RESET_MID_FRAME, talk, message_id=49)
    talk.ask("49", "1")
    talk.ask("61", "1")
    (piece,) = talk.session.take()
    assert len(piece) < struct.unpack(">I", piece[:4])[0]
    talk.wait(0.1)
    assert talk.session.is_aborted


@pytest.mark.parametrize("version", [178, 200])
def test_bars_may_be_doubled_unordered_or_without_a_date(version: int) -> None:
    talk = Talk(Gateway(7, ("DU1234567",), NOW), version=version)
    begin = 3 if version == 200 else 5
    bars_of(talk)
    (good,) = talk.heard("17")
    dates = good[begin::8]
    for fault, expected in (
        (Fault.DUPLICATE_BARS, [date for date in dates for _ in range(2)]),
        (Fault.UNORDERED_BARS, dates[::-1]),
        (Fault.BAD_DATE, ["20261399 99:99:99 Nowhere/None", *dates[1:]]),
    ):
        after(fault, talk)
        bars_of(talk)
        (bad,) = talk.heard("17")
        assert bad[begin::8] == expected
        assert bad[begin - 1] == str(len(expected))


def test_order_ids_may_roll_back_and_accounts_may_change(gateway: Gateway, talk: Talk) -> None:
    after(Fault.ORDER_ID, talk, value="2147483640")
    after(Fault.ACCOUNTS, talk, value="DU1234567,U7654321,")
    again = Talk(gateway, client_id=2)
    assert again.heard("9", "15") == [["15", "1", "DU1234567,U7654321,"], ["9", "1", "2147483640"]]


def test_the_clock_may_be_off(talk: Talk) -> None:
    after(Fault.CLOCK_SKEW, talk, value="-90", duration_s=10.0)
    talk.ask("49", "1")
    talk.ask("105")
    assert talk.messages() == [["49", "1", str(int(NOW) - 90)], ["109", str(int((NOW - 90) * 1000))]]
    talk.wait(11.0, step=1.0)
    talk.ask("49", "1")
    assert talk.heard("49") == [["49", "1", str(int(talk.now))]]


# Connections.


def test_a_connection_may_be_taken_and_never_greeted(gateway: Gateway) -> None:
    gateway.faults.add(Rule(Fault.NEVER_GREET))
    silent = Talk(gateway)
    silent.wait(100.0, step=10.0)
    assert silent.greeting == silent.messages() == []
    assert not silent.session.is_closed
    assert Talk(gateway, now=silent.now).greeting != []


def test_a_half_open_connection_neither_reads_nor_writes_and_breaks_in_the_end(gateway: Gateway, talk: Talk) -> None:
    after(Fault.HALF_OPEN, talk, duration_s=60.0)
    talk.place(1)
    talk.wait(59.0, step=1.0)
    assert talk.messages() == []
    assert gateway.orders == {}
    assert not talk.session.is_closed
    talk.wait(2.0, step=1.0)
    assert talk.session.is_aborted


def test_bytes_may_go_out_one_by_one(gateway: Gateway) -> None:
    gateway.faults.add(Rule(Fault.SPLIT))
    session = Session(gateway)
    session.receive(b"API\0\x00\x00\x00\x09v100..200", NOW)
    pieces = session.take()
    assert {len(piece) for piece in pieces} == {1}
    assert b"".join(pieces)[4:8] == b"200\0"


def test_a_version_may_be_forced(gateway: Gateway) -> None:
    gateway.faults.add(Rule(Fault.SERVER_VERSION, value="150"))
    assert Talk(gateway).greeting[0][0] == "150"


def test_a_client_id_may_be_in_use_some_times_and_then_free(gateway: Gateway) -> None:
    gateway.faults.add(Rule(Fault.CLIENT_ID_IN_USE, times=2))
    assert [codes(Talk(gateway)) for _ in range(3)] == [["326"], ["326"], ["2104", "2106", "2158"]]


# The link and the farms.


def test_a_lost_link_is_silent_and_executions_come_when_it_is_back(gateway: Gateway, talk: Talk) -> None:
    talk.ask("1", "11", "77", *AAPL, 0, "", 0, 0, "")
    talk.place(1, quantity=10)
    after(Fault.LINK_LOST, talk, duration_s=30.0)
    assert codes(talk)[-1] == "1100"
    talk.place(2)
    talk.wait(29.0, step=0.25)
    talk.ask("49", "1")
    assert [fields[0] for fields in talk.messages()] == ["49"]
    assert [order.status for order in gateway.orders.values()] == ["Filled"]
    talk.wait(2.0, step=0.25)
    heard = talk.messages()
    assert heard[0][2] == "1102"
    assert [fields[0] for fields in heard].count("11") >= 1
    assert any(fields[0] in QUOTES for fields in heard)


def test_a_link_that_has_lost_its_data_has_to_be_asked_again(talk: Talk) -> None:
    talk.ask("1", "11", "77", *AAPL, 0, "", 0, 0, "")
    after(Fault.LINK_LOST, talk, duration_s=5.0, value="data_lost")
    talk.wait(10.0, step=0.25)
    heard = talk.messages()
    assert heard[-1][2] == "1101"
    talk.ask("1", "11", "77", *AAPL, 0, "", 0, 0, "")
    assert any(fields[0] in QUOTES for fields in talk.messages())


def test_a_server_link_is_as_the_link(talk: Talk) -> None:
    after(Fault.SERVER_LINK_BROKEN, talk)
    talk.place(1)
    talk.wait(1.0)
    assert codes(talk) == ["2110"]
    after(Fault.LINK_RESTORED, talk)
    after(Fault.LINK_RESTORED_DATA_LOST, talk)
    assert codes(talk) == ["1102", "1101"]


@pytest.mark.parametrize(
    ("farm", "broken", "back", "asked"),
    [
        ("market", "2103", "2104", ["1", "11", "77", *AAPL, 0, "", 0, 0, ""]),
        ("history", "2105", "2106", ["20", "78", *AAPL, "0", "", "1 hour", "1 D", 1, "TRADES", 1, 0, ""]),
        ("contracts", "2157", "2158", ["9", "8", "79", *AAPL, "0", "", "", ""]),
    ],
)
def test_a_broken_farm_is_silent_and_others_answer(
    gateway: Gateway, talk: Talk, farm: str, broken: str, back: str, asked: list[object]
) -> None:
    after(Fault.FARM_BROKEN, talk, value=farm)
    assert codes(talk) == [broken]
    talk.ask(*asked)
    talk.wait(1.0)
    assert talk.messages() == []
    assert broken in codes(Talk(gateway, client_id=2, now=talk.now))
    talk.ask("61", "1")
    assert talk.heard("62") != []
    after(Fault.FARM_OK, talk, value=farm)
    assert codes(talk) == [back]
    talk.ask(*asked)
    assert talk.messages() != []


def test_a_broken_market_farm_silences_what_was_subscribed_until_it_is_back(talk: Talk) -> None:
    talk.ask("1", "11", "77", *AAPL, 0, "", 0, 0, "")
    talk.ask("97", "78", *AAPL, "BidAsk", "0", "0")
    talk.messages()
    after(Fault.FARM_BROKEN, talk, value="market")
    talk.wait(20.0, step=0.25)
    assert [fields[0] for fields in talk.messages()] == ["4"]
    after(Fault.FARM_CONNECTING, talk)
    talk.wait(5.0, step=0.25)
    assert [fields[2] for fields in talk.messages()] == ["2119"]
    after(Fault.FARM_OK, talk, value="market")
    talk.wait(1.0, step=0.25)
    ticks = talk.heard("99")
    # What passed while it was silent is gone.
    assert ticks
    assert min(int(fields[3]) for fields in ticks) >= int(NOW + 24)


def test_a_farm_that_connects_is_there_when_its_time_is_over(gateway: Gateway, talk: Talk) -> None:
    inject(gateway, Rule(Fault.FARM_CONNECTING, duration_s=2.0, value="whatever"))
    talk.wait(3.0, step=0.25)
    assert codes(talk) == ["2119", "2104"]


def test_farms_may_sleep_and_answer_when_asked(talk: Talk) -> None:
    after(Fault.FARM_INACTIVE, talk, value="market")
    after(Fault.FARM_INACTIVE, talk, value="history")
    assert codes(talk) == ["2108", "2107"]
    bars_of(talk)
    assert talk.heard("17") != []


def test_a_change_of_port_ends_connections(talk: Talk) -> None:
    after(Fault.PORT_CHANGED, talk, value="4003")
    (notice,) = talk.heard("4")
    assert notice[2] == "1300"
    assert notice[3].endswith("4003")
    assert talk.session.is_closed


@pytest.mark.parametrize(
    ("fault", "asked", "code"),
    [
        (Fault.COMPETING_SESSION, ["1", "11", "77", *AAPL, 0, "", 0, 0, ""], "10197"),
        (Fault.DEPTH_RESET, ["10", "5", "77", *AAPL, "5", "1", ""], "317"),
        (Fault.BUST, ["50", "3", "77", *AAPL, "5", "TRADES", "0", ""], "10225"),
        (Fault.LIVE_UPDATES_LOST, ["50", "3", "77", *AAPL, "5", "TRADES", "0", ""], "10182"),
    ],
)
def test_subscriptions_may_be_taken_away_one_by_one(talk: Talk, fault: Fault, asked: list[object], code: str) -> None:
    talk.ask(*asked)
    talk.messages()
    after(fault, talk)
    assert [fields[1:3] for fields in talk.heard("4")] == [["77", code]]


def line_of(talk: Talk, req_id: int) -> list[list[str]]:
    """Ask for quotes; everything that is said at once."""
    talk.ask("1", "11", req_id, *AAPL, 0, "", 0, 0, "")
    return talk.messages()


def types_of(messages: list[list[str]]) -> list[str]:
    return [fields[3] for fields in messages if fields[0] == "58"]


def test_while_another_login_has_the_live_data_only_delayed_is_to_be_had(talk: Talk) -> None:
    line_of(talk, 77)
    after(Fault.COMPETING_SESSION, talk, times=3, duration_s=60.0)
    assert codes(talk) == ["10197"] * 3
    assert [fields[2] for fields in line_of(talk, 78) if fields[0] == "4"] == ["10197"]
    talk.ask("59", "1", "3")
    assert types_of(line_of(talk, 79)) == ["3"]
    talk.ask("59", "1", "1")
    talk.wait(61.0, step=1.0)
    talk.messages()
    assert types_of(line_of(talk, 80)) == ["1"]


@pytest.mark.parametrize(
    ("code", "types", "goes_on"), [(10167, ["3"], True), (10090, [], True), (354, [], False)], ids=str
)
def test_a_line_that_goes_on_may_be_told_an_error(talk: Talk, code: int, types: list[str], goes_on: bool) -> None:
    line_of(talk, 77)
    after(Fault.LINE_ERROR, talk, code=code)
    assert codes(talk) == [str(code)]
    talk.wait(20.0, step=0.25)
    messages = talk.messages()
    assert types_of(messages) == types
    bids = {"66" if types else "1"} if goes_on else set()
    assert {fields[3] for fields in messages if fields[0] == "1"} & {"1", "66"} == bids


def test_an_error_for_lines_has_a_code() -> None:
    with pytest.raises(WrongRule):
        Rule(Fault.LINE_ERROR)


# Pacing.


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


def asked_with_pacing(count: int, every_s: float, **asked: str) -> list[int]:
    """Which of so many requests for bars violate the rules."""
    talk = Talk(Gateway(7, ("DU1234567",), NOW, Behaviour(enforces_pacing=True)))
    talk.messages()
    refused = []
    for number in range(count):
        # A different end makes a different request.
        end = "" if asked.get("end") == "same" else f"20261120 {10 + number // 60:02}:{number % 60:02}:00 US/Eastern"
        more = {key: value for key, value in asked.items() if key != "end"}
        bars_of(talk, 1000 + number, end=end, **{"size": "30 secs", **more})
        if [fields[2] for fields in talk.heard("4")] == ["162"]:
            refused.append(number)
        talk.wait(every_s, step=every_s)
    return refused


def test_sixty_requests_for_small_bars_in_ten_minutes_are_enough() -> None:
    assert asked_with_pacing(62, 3.0) == [60, 61]
    assert asked_with_pacing(32, 3.0, shown="BID_ASK") == [30, 31]
    assert asked_with_pacing(62, 3.0, size="1 hour") == []


def test_the_same_request_may_come_again_after_fifteen_seconds() -> None:
    assert asked_with_pacing(3, 14.0, end="same") == [1]


def test_the_sixth_request_for_a_contract_within_two_seconds_is_too_many() -> None:
    assert asked_with_pacing(6, 0.3) == [5]
    assert asked_with_pacing(12, 0.45) == []


# The plan.


def test_nothing_goes_wrong_after_all(gateway: Gateway, talk: Talk) -> None:
    gateway.faults.on_request(49, Fault.LOSE, times=5)
    gateway.faults.lose_reply(49, times=5)
    gateway.faults.clear()
    talk.ask("49", "1")
    assert talk.messages() == [["49", "1", str(int(NOW))]]


def test_the_seed_decides_which_of_them_a_fault_strikes() -> None:
    def lost(seed: int) -> list[int]:
        talk = Talk(Gateway(seed, ("DU1234567",), NOW))
        after(Fault.LOSE, talk, message_id=49, times=None, probability=0.3)
        talk.messages()
        found = []
        for number in range(200):
            talk.ask("49", "1")
            if not talk.heard("49"):
                found.append(number)
        return found

    assert lost(1) == lost(1) != lost(2)
    assert 30 < len(lost(1)) < 90


def test_a_fault_is_over_after_its_time(talk: Talk) -> None:
    after(Fault.LOSE, talk, message_id=49, times=None, duration_s=10.0)
    talk.ask("49", "1")
    talk.wait(10.0, step=1.0)
    assert talk.messages() == []
    talk.ask("49", "1")
    assert talk.heard("49") != []


@pytest.mark.parametrize(
    ("wrong", "key"),
    [
        ({"fault": Fault.LOSE, "message_id": -1}, "message"),
        ({"fault": Fault.LOSE, "times": 0}, "times"),
        ({"fault": Fault.LOSE, "probability": 1.5}, "probability"),
        ({"fault": Fault.LOSE, "probability": float("nan")}, "probability"),
        ({"fault": Fault.LOSE, "duration_s": 0.0}, "duration"),
        ({"fault": Fault.LATE}, "delay"),
        ({"fault": Fault.LATE, "delay_s": float("inf")}, "delay"),
        ({"fault": Fault.REFUSE}, "code"),
        ({"fault": Fault.CORRUPT_FIELD}, "field"),
        ({"fault": Fault.SENTINEL, "value": "zero"}, "value"),
        ({"fault": Fault.FARM_BROKEN, "value": "usfarm"}, "value"),
        ({"fault": Fault.BAD_LENGTH, "value": "long"}, "value"),
        ({"fault": Fault.SERVER_VERSION}, "value"),
        ({"fault": Fault.CLOCK_SKEW, "value": "nan"}, "value"),
        ({"fault": Fault.ACCOUNTS, "value": "DU\0"}, "value"),
    ],
)
def test_a_fault_that_makes_no_sense_is_refused_by_what_is_wrong(wrong: dict[str, Any], key: str) -> None:
    with pytest.raises(WrongRule) as refused:
        Rule(**wrong)
    assert refused.value.key == key


def test_every_fault_says_what_it_does_and_belongs_to_one_part_of_a_conversation() -> None:
    assert len({fault.value for fault in Fault}) == len(Fault)
    assert Fault.DISCONNECT in AT_ONCE
    assert not AT_ONCE & ON_REQUEST
