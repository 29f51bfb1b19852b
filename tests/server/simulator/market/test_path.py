"""The path of a price process: the same at every scale, from the day down to the quarter of a second."""

from __future__ import annotations

import itertools
import math
import statistics

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from ibkr_gateway_server.simulator.market.path import QUOTES_PER_S, YEAR_S, Path, Range

from tests.server.simulator.conftest import NOW

SLOT = int(NOW) * QUOTES_PER_S
DAY = 86400 * QUOTES_PER_S
PATH = Path(7, 265598)


def of(values: list[float]) -> Range:
    return Range(values[0], max(values), min(values), values[-1])


@settings(max_examples=60, deadline=None)
@given(st.integers(0, DAY), st.integers(1, 6000))
def test_a_span_is_what_its_quarters_of_a_second_are(offset: int, length: int) -> None:
    begin = SLOT + offset
    assert PATH.span(begin, begin + length) == of([PATH.value(slot) for slot in range(begin, begin + length)])


@settings(max_examples=40, deadline=None)
@given(st.integers(0, 3 * DAY), st.lists(st.integers(1, DAY // 3), min_size=2, max_size=8))
def test_a_span_is_what_its_parts_are(offset: int, lengths: list[int]) -> None:
    edges = [SLOT + offset]
    for length in lengths:
        edges.append(edges[-1] + length)
    parts = [PATH.span(begin, end) for begin, end in itertools.pairwise(edges)]
    whole = PATH.span(edges[0], edges[-1])
    assert whole.high == max(part.high for part in parts)
    assert whole.low == min(part.low for part in parts)
    assert (whole.open, whole.close) == (parts[0].open, parts[-1].close)


def test_a_whole_day_is_what_its_quarters_of_a_second_are() -> None:
    day = SLOT // DAY * DAY
    assert PATH.span(day, day + DAY) == of([PATH.value(slot) for slot in range(day, day + DAY)])


def test_seconds_begin_where_the_ones_before_ended() -> None:
    for slot in range(SLOT, SLOT + 4000, QUOTES_PER_S):
        assert PATH.value(slot) == PATH.value(slot - 1)


@pytest.mark.parametrize("seconds", [1, 60, 900, 86400])
def test_it_wanders_at_its_volatility_over_every_time(seconds: int) -> None:
    step = seconds * QUOTES_PER_S
    values = [PATH.value(SLOT - index * step) for index in range(500)]
    moves = [after - before for before, after in itertools.pairwise(values)]
    expected = math.sqrt(seconds / YEAR_S)
    # Bounds of the model, not of chance: everything here is decided by the seed.
    assert 0.5 * expected < statistics.pstdev(moves) < 1.5 * expected


def test_it_stays_near_its_level_in_any_year() -> None:
    assert all(abs(PATH.value(day * DAY)) < 3 for day in range(0, 30_000, 17))


def test_the_order_of_asking_makes_no_difference() -> None:
    slots = [SLOT + offset * 977 for offset in range(300)]
    forwards, backwards = Path(3, 1), Path(3, 1)
    assert [forwards.value(slot) for slot in slots] == [backwards.value(slot) for slot in reversed(slots)][::-1]
