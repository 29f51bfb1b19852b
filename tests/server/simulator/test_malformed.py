"""Wrong greetings, bytes that are no frames, requests with wrong fields, and any of it while things go wrong: the
gateway answers or closes, and always goes on for others."""

from __future__ import annotations

import struct

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from ibkr_gateway_server.simulator.faults import Fault, Rule, WrongRule
from ibkr_gateway_server.simulator.faults.acts import inject
from ibkr_gateway_server.simulator.gateway import Gateway
from ibkr_gateway_server.simulator.session import Session
from ibkr_gateway_server.simulator.wire import frame

from tests.server.simulator.conftest import NOW, Talk, examples, place_order_fields
from tests.server.simulator.requests.test_contracts import contract

AAPL = contract(con_id=265598, exchange="SMART")
OPTION = contract(symbol="AAPL", sec_type="OPT", exchange="SMART", expiry="20261218", strike=250, right="C")

# One sensible request of every kind that reads more than a version.
REQUESTS: list[list[object]] = [
    ["1", "11", "1000000001", *AAPL, 0, "233", 0, 0, ""],
    ["2", "2", "1000000001"],
    ["3", "1", *place_order_fields(200)],
    ["3", "1", *place_order_fields(200, order_type="STP LMT", aux="300", limit="301", tif="GTD", good_till="20270101")],
    ["3", "1", *place_order_fields(200, order_type="TRAIL LIMIT", aux="2", limit_offset="1", what_if=1)],
    ["3", "1", *place_order_fields(200, order_type="MTL", algo="Adaptive", tif="OPG")],
    ["4", "1", "", "", "2147483647"],
    ["6", "2", "1", "DU1234567"],
    ["7", "3", "1", 0, "", "20261123-14:00:00", "", "", "", "", "2147483647", "0"],
    ["8", "1", "1"],
    ["9", "8", "1", *AAPL, "0", "", "", ""],
    ["16", "1"],
    ["20", "1", *AAPL, "0", "20261120 12:00:00 US/Eastern", "1 hour", "2 D", 1, "TRADES", 1, 1, ""],
    ["20", "1", *AAPL, "0", "", "1M", "1 Y", 1, "MIDPOINT", 2, 1, ""],
    ["20", "1", *AAPL, "0", "", "1 day", "5 D", 1, "SCHEDULE", 1, 0, ""],
    ["25", "1", "1"],
    ["50", "3", "1", *AAPL, "5", "TRADES", "0", ""],
    ["51", "1", "1"],
    ["58", "", "2147483647"],
    ["59", "1", "3"],
    ["61", "1"],
    ["62", "1", "1", "All", "NetLiquidation,$LEDGER:ALL"],
    ["74", "1", "1", "", ""],
    ["76", "1", "1", "", "", "0"],
    ["78", "1", "AAPL", "", "STK", "265598"],
    ["81", "1", "A"],
    ["87", "1", *AAPL, "0", 1, "TRADES", 1],
    ["91", "26"],
    ["92", "1", "DU1234567", ""],
    ["94", "1", "DU1234567", "", "265598"],
    ["10", "5", "1", *AAPL, 5, 1, ""],
    ["11", "1", "1", 1],
    ["12", "1", 1],
    ["18", "1", 1],
    ["19", "1", 3, "<xml/>", 1],
    ["21", "2", "1", *AAPL[:8], *AAPL[9:], 1, 1, "DU1234567", 0, "", "", 0],
    ["22", "1", -1, "STK", "STK.US", "TOP_PERC_GAIN", "5", "", "100", *[""] * 14, "priceAbove=5;volumeBelow=1e12", ""],
    ["23", "1", "1"],
    ["52", "2", "1", *AAPL[:3], *AAPL[7:11], "ReportSnapshot", 0, ""],
    ["54", "3", "1", *OPTION, "5.5", "250", 0, ""],
    ["55", "3", "1", *OPTION, "0.3", "250", ""],
    ["67", "1", "1"],
    ["68", "1", "1", 1],
    ["69", "1", "1", "265598@SMART"],
    ["83", "1", "9c0001"],
    ["84", "1", "BRFG", "BRFG$40d7e-f3a2c", ""],
    ["86", "1", "265598", "BRFG+DJNL", "2026-11-20 00:00:00.0", "20261123 12:00:00", 10, ""],
    ["88", "1", *AAPL, "0", 1, "3 days"],
    ["96", "1", *AAPL, "0", "20261123 09:45:00 US/Eastern", "", 20, "BID_ASK", 1, 1, ""],
    ["96", "1", *AAPL, "0", "", "20261122-15:00:00", 20, "TRADES", 1, 0, ""],
    ["97", "1", *AAPL, "Last", "0", "0"],
    ["97", "1", *AAPL, "BidAsk", "20", "1"],
    ["98", "1"],
    ["100", "1"],
    ["102", "1", "265598", "", 0, 0, 0, "", "", 10],
    ["1", "11", "1000000001", *AAPL, 0, "mdoff,292:BRFG", 0, 0, ""],
    ["1", "11", "1000000001", *AAPL, 0, "100,101,104,105,106,165,221,236,411,456,595", 0, 0, ""],
    ["1", "11", "1000000001", *OPTION, 0, "", 1, 0, ""],
]

ODD = st.one_of(
    st.sampled_from(
        ["", "nan", "inf", "-inf", "Infinity", "1e308", "-1e300", "1e30", "-1", "0", "2147483648", "²", "１"]
    ),
    st.sampled_from(
        ["99999999999 D", "20261399", "00010101 00:00:00 UTC", "99991231 23:59:59 US/Eastern", "20261123 x"]
    ),
    st.integers(-(10**20), 10**20).map(str),
    st.floats(allow_nan=True).map(repr),
    st.text(st.characters(blacklist_characters="\0", blacklist_categories=("Cs",)), max_size=12),
)


@given(st.sampled_from(REQUESTS), st.integers(1, 200), ODD)
@settings(max_examples=examples(250), deadline=None)
def test_one_odd_field_never_breaks_the_gateway(request: list[object], position: int, odd: str) -> None:
    talk = Talk(Gateway(7, ("DU1234567",), NOW))
    fields = list(request)
    fields[1 + position % (len(fields) - 1)] = odd
    talk.ask(*fields)
    talk.wait(0.6, step=0.3)
    talk.messages()
    other = Talk(talk.gateway, client_id=2, now=talk.now)
    other.messages()
    other.ask("49", "1")
    assert other.heard("49") != []


@given(st.sampled_from(REQUESTS), st.integers(0, 200))
@settings(max_examples=examples(100), deadline=None)
def test_a_request_that_ends_early_never_breaks_the_gateway(request: list[object], length: int) -> None:
    talk = Talk(Gateway(7, ("DU1234567",), NOW))
    talk.ask(*request[: 1 + length % len(request)])
    talk.wait(0.3, step=0.3)
    talk.messages()
    talk.ask("49", "1")
    assert talk.heard("49") != []


def goes_on_for_others(talk: Talk) -> bool:
    """Whether another client of the same gateway is answered."""
    other = Talk(talk.gateway, client_id=99, now=talk.now)
    other.messages()
    other.ask("49", "1")
    return other.heard("49") != []


# Greetings.

TLS_HELLO = bytes.fromhex("16030100c8010000c40303") + bytes(range(200))


def greeted(data: bytes) -> Session:
    session = Session(Gateway(7, ("DU1234567",), NOW))
    session.receive(data, NOW)
    return session


def framed(text: str) -> bytes:
    return b"API\0" + struct.pack(">I", len(text.encode())) + text.encode()


@pytest.mark.parametrize(
    "data",
    [
        b"GET / HTTP/1.1\r\nHost: localhost:4002\r\n\r\n",
        b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n",
        TLS_HELLO,
        b"SSH-2.0-OpenSSH_9.6\r\n",
        b"api\0\x00\x00\x00\x09v100..200",
        b"APIX\x00\x00\x00\x09v100..200",
        b"\0" * 64,
        framed("v"),
        framed("100..200"),
        framed("v100.200"),
        framed("v100..200..300"),
        framed("v-1..200"),
        framed("v200..100"),
        framed("v\u0661\u0662\u0663..200"),
        framed("v100..99999"),
        framed("v100..200\0"),
        b"API\0\x00\x00\x00\x00",
        b"API\0\xff\xff\xff\xff",
        b"API\0\x7f\xff\xff\xff",
    ],
)
def test_who_does_not_speak_the_protocol_is_let_go_without_a_word(data: bytes) -> None:
    session = greeted(data)
    assert session.is_closed
    assert session.take() == []


@pytest.mark.parametrize("data", [b"", b"A", b"API", b"API\0", b"API\0\x00", framed("v100..200")[:-1]])
def test_a_greeting_that_is_not_whole_is_waited_for(data: bytes) -> None:
    session = greeted(data)
    assert not session.is_closed
    assert session.take() == []
    session.receive(framed("v100..200")[len(data) :], NOW)
    assert session.take()[0][4:8] == b"200\0"


@pytest.mark.parametrize("options", ["", " ", " +PACEAPI", " some=thing;other=1;"])
def test_options_after_the_versions_are_taken(options: str) -> None:
    assert greeted(framed(f"v100..176{options}")).take()[0][4:8] == b"176\0"


@pytest.mark.parametrize("capabilities", [["71", "2", "1"], ["71", "2", "1", ""], ["71", "2", "1", "+X;Y", "more"]])
def test_a_start_has_capabilities_or_not(capabilities: list[str]) -> None:
    session = greeted(framed("v100..200"))
    session.take()
    session.receive(frame(capabilities), NOW)
    assert b"".join(session.take())[4:7] == b"15\0"


def test_what_is_asked_before_the_start_is_not_answered_and_the_start_still_works(gateway: Gateway) -> None:
    session = Session(gateway)
    session.receive(framed("v100..200"), NOW)
    session.take()
    for fields in (["49", "1"], ["61", "1"], ["3", "1", *map(str, place_order_fields(200))], ["9999"]):
        session.receive(frame(fields), NOW)
    assert session.take() == []
    assert gateway.orders == {}
    session.receive(frame(["71", "2", "1", ""]), NOW)
    assert b"".join(session.take())[4:7] == b"15\0"


def test_a_second_start_changes_nothing(talk: Talk) -> None:
    talk.ask("71", "2", "5", "")
    assert talk.messages() == []
    assert talk.session.client_id == 1
    talk.ask("49", "1")
    assert talk.heard("49") != []


@pytest.mark.parametrize("client_id", ["x", "", "1e99", "nan"])
def test_a_start_with_an_odd_client_id_breaks_nothing(gateway: Gateway, client_id: str) -> None:
    odd = Talk(gateway)
    odd.session.close()
    session = Session(gateway)
    session.receive(framed("v100..200") + frame(["71", "2", client_id, ""]), NOW)
    session.take()
    assert goes_on_for_others(odd)


# Bytes.


@given(st.lists(st.binary(max_size=60), max_size=6), st.booleans())
@settings(max_examples=examples(75), deadline=None)
def test_random_bytes_in_a_conversation_never_break_the_gateway(pieces: list[bytes], are_framed: bool) -> None:
    talk = Talk(Gateway(7, ("DU1234567",), NOW))
    for piece in pieces:
        talk.session.receive(struct.pack(">I", len(piece)) + piece if are_framed else piece, talk.now)
    talk.wait(0.3, step=0.3)
    talk.messages()
    assert goes_on_for_others(talk)


@given(st.lists(st.sampled_from(REQUESTS), min_size=1, max_size=4), st.data())
@settings(max_examples=examples(75), deadline=None)
def test_good_requests_with_spoiled_bytes_never_break_the_gateway(
    requests: list[list[object]], data: st.DataObject
) -> None:
    sent = bytearray(b"".join(frame(str(field) for field in request) for request in requests))
    for _ in range(data.draw(st.integers(1, 4))):
        at = data.draw(st.integers(0, len(sent) - 1))
        how = data.draw(st.sampled_from(["flip", "cut", "double", "insert"]))
        if how == "flip":
            sent[at] ^= 1 << data.draw(st.integers(0, 7))
        elif how == "cut" and len(sent) > 8:
            del sent[at : at + data.draw(st.integers(1, 8))]
        elif how == "double":
            sent[at:at] = sent[at : at + 16]
        else:
            sent[at:at] = data.draw(st.binary(min_size=1, max_size=4))
        if not sent:
            break
    talk = Talk(Gateway(7, ("DU1234567",), NOW))
    begin = 0
    while begin < len(sent):
        end = begin + data.draw(st.integers(1, 200))
        talk.session.receive(bytes(sent[begin:end]), talk.now)
        begin = end
    talk.wait(0.3, step=0.3)
    talk.messages()
    assert goes_on_for_others(talk)


# While things go wrong.

RULES = st.builds(
    dict,
    fault=st.sampled_from(Fault),
    message_id=st.one_of(st.none(), st.integers(1, 110)),
    times=st.one_of(st.none(), st.integers(1, 3)),
    probability=st.sampled_from([0.5, 1.0]),
    duration_s=st.one_of(st.none(), st.floats(0.01, 5.0)),
    delay_s=st.sampled_from([0.0, 0.05, 1.0]),
    code=st.sampled_from([0, 162, 321, 99999]),
    field=st.one_of(st.none(), st.integers(0, 200)),
    value=st.sampled_from(
        ["", "0", "-1", "7", "nan", "market", "history", "contracts", "data_lost", "empty", "max_int"]
    ),
)


@given(st.lists(RULES, min_size=1, max_size=4), st.lists(st.sampled_from(REQUESTS), max_size=6))
@settings(max_examples=examples(100), deadline=None)
def test_no_fault_whatever_is_asked_meanwhile_breaks_the_gateway(
    given_rules: list[dict[str, object]], requests: list[list[object]]
) -> None:
    gateway = Gateway(7, ("DU1234567",), NOW)
    talk = Talk(gateway)
    for number, request in enumerate(requests or [["49", "1"]]):
        if number < len(given_rules):
            try:
                rule = Rule(**given_rules[number])  # type: ignore[arg-type]  # any of them
            except WrongRule:
                continue
            inject(gateway, rule)
        talk.ask(*request)
        talk.session.take()
        talk.wait(0.5, step=0.25)
    # Some faults last until they are cleared, and the link is lost until it is back.
    gateway.faults.clear()
    inject(gateway, Rule(Fault.LINK_RESTORED))
    talk.wait(6.0, step=3.0)
    talk.session.take()
    talk.session.abort()
    assert goes_on_for_others(talk)
