"""Frames and fields."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st
from ibkr_gateway_server.simulator.wire import Fields, FrameReader, ProtocolError, frame, split

PLAIN = st.text(st.characters(blacklist_characters="\0", blacklist_categories=("Cs",)), max_size=20)


@given(st.lists(st.lists(PLAIN, min_size=1), max_size=5), st.integers(1, 7))
def test_frames_come_out_as_they_went_in_however_the_bytes_are_split(messages: list[list[str]], size: int) -> None:
    data = b"".join(frame(fields) for fields in messages)
    reader, found = FrameReader(), []
    for start in range(0, len(data), size):
        reader.feed(data[start : start + size])
        found += [split(payload) for payload in reader.payloads()]
    assert found == messages


@pytest.mark.parametrize("text", ["", "1.7976931348623157E308", "1.7976931348623157e+308", "2147483647", "nan"])
def test_every_spelling_of_none_is_none(text: str) -> None:
    assert Fields([text]).number(-1.0) == -1.0


@pytest.mark.parametrize("text", ["500", "500.0"])
def test_a_number_may_have_a_decimal_point(text: str) -> None:
    assert Fields([text]).integer() == 500


@pytest.mark.parametrize("text", ["Infinite", "Infinity"])
def test_both_spellings_of_infinity_are_read(text: str) -> None:
    assert Fields([text]).number() == float("inf")


def test_a_request_that_ends_too_early_is_an_error() -> None:
    with pytest.raises(ProtocolError):
        Fields([]).text()


def test_a_count_of_more_than_is_there_is_an_error() -> None:
    with pytest.raises(ProtocolError):
        Fields(["5", "a"]).count()
