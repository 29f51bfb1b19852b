"""The conversation: versions, the start, ids, and bytes that make no sense."""

from __future__ import annotations

import struct

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from ibkr_gateway_server.simulator.gateway import Gateway
from ibkr_gateway_server.simulator.session import Session
from ibkr_gateway_server.simulator.wire import frame

from tests.server.simulator.conftest import NOW, Talk, examples


def hello(versions: str) -> bytes:
    return b"API\0" + struct.pack(">I", len(versions)) + versions.encode()


@pytest.mark.parametrize(("offered", "agreed"), [("v157..176", 176), ("v157..178", 178), ("v100..226", 200)])
def test_the_highest_version_that_both_know_is_agreed(gateway: Gateway, offered: str, agreed: int) -> None:
    session = Session(gateway)
    session.receive(hello(offered), NOW)
    (reply,) = session.take()
    assert reply[4:].startswith(f"{agreed}\0".encode())


@pytest.mark.parametrize("offered", ["v100..156", "v201..226"])
def test_a_client_without_a_common_version_is_sent_away(gateway: Gateway, offered: str) -> None:
    session = Session(gateway)
    session.receive(hello(offered), NOW)
    assert session.is_closed
    assert session.take() == []


def test_nothing_follows_the_handshake_reply_until_the_client_starts(gateway: Gateway) -> None:
    session = Session(gateway)
    session.receive(hello("v100..200"), NOW)
    assert len(session.take()) == 1
    session.receive(frame(["49", "1"]), NOW)
    assert session.take() == []


def test_the_start_names_accounts_then_the_order_id_then_the_farms(gateway: Gateway) -> None:
    talk = Talk(gateway)
    assert [fields[0] for fields in talk.messages()] == ["15", "9", "4", "4", "4"]


def test_a_handshake_in_single_bytes_is_the_same_as_in_one_piece(gateway: Gateway) -> None:
    whole, pieces = Session(gateway), Session(gateway)
    data = hello("v157..178") + frame(["71", "2", "5", ""])
    whole.receive(data, NOW)
    whole.close()
    for byte in data:
        pieces.receive(bytes([byte]), NOW)
    assert b"".join(pieces.take()) == b"".join(whole.take())


def test_a_client_id_in_use_is_refused_with_326_and_closed(gateway: Gateway) -> None:
    Talk(gateway, client_id=4)
    second = Talk(gateway, client_id=4)
    assert second.heard("4")[0][2] == "326"
    assert second.session.is_closed


def test_order_ids_persist_over_a_clients_sessions(gateway: Gateway) -> None:
    first = Talk(gateway, client_id=9)
    first.ask("8", "1", "1")
    first.session.close()
    assert Talk(gateway, client_id=9).heard("9") == [["9", "1", "2"]]


def test_errors_carry_their_time_from_version_194_on(gateway: Gateway) -> None:
    old, new = Talk(gateway, version=178, client_id=1), Talk(gateway, version=200, client_id=2)
    assert old.heard("4")[0][:2] == ["4", "2"]
    assert new.heard("4")[0][-1] == str(int(NOW * 1000))


def test_an_unknown_message_closes_the_connection(talk: Talk) -> None:
    talk.ask("9999")
    assert talk.session.is_closed


@pytest.mark.parametrize("message_id", ["", "x", "\u00b2", "-1", "9" * 5000])
def test_a_message_without_an_id_closes_the_connection(talk: Talk, message_id: str) -> None:
    talk.ask(message_id, "1")
    assert talk.session.is_closed


@pytest.mark.parametrize(
    ("fields", "cause"),
    [
        (["9", "8"], "Message id 9. Socket I/O error - "),
        (
            ["8", "1", "many"],
            'Message id 8. Unable to parse data. java.lang.NumberFormatException: For input string: "',
        ),
        (["8", "1", "1e30"], "Message id 8. Unable to parse data."),
    ],
)
def test_a_message_that_cannot_be_read_is_answered_and_the_conversation_goes_on(
    talk: Talk, fields: list[str], cause: str
) -> None:
    talk.ask(*fields)
    (answer,) = talk.messages()
    assert answer[1:3] == ["-1", "320"]
    assert answer[3].startswith(f"Error reading request.{cause}")
    talk.ask("49", "1")
    assert talk.messages() == [["49", "1", str(int(NOW))]]


@pytest.mark.parametrize("length", [0, 0x7FFFFFFF, 0xFFFFFFFF])
def test_an_impossible_length_closes_the_connection(talk: Talk, length: int) -> None:
    talk.session.receive(struct.pack(">I", length), NOW)
    assert talk.session.is_closed


@given(st.lists(st.one_of(st.integers(-5, 120).map(str), st.text(max_size=8), st.sampled_from(["nan", "1e999", "-1"]))))
@settings(max_examples=examples(125), deadline=None)
def test_no_message_whatever_it_holds_breaks_the_gateway(fields: list[str]) -> None:
    gateway = Gateway(seed=7, accounts=("DU1234567",), now=NOW)
    talk = Talk(gateway)
    talk.ask(*(field.replace("\0", "") for field in fields))
    talk.wait(0.1)
    talk.messages()


@given(st.binary(max_size=200))
@settings(max_examples=examples(125), deadline=None)
def test_no_bytes_whatever_they_are_break_the_gateway(data: bytes) -> None:
    session = Session(Gateway(seed=7, accounts=("DU1234567",), now=NOW))
    session.receive(data, NOW)
    session.take()
