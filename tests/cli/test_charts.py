"""Charts: what is drawn of which numbers, and never outside the space that there is."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st
from ibkr_gateway_cli.charts import FELL, ROSE, Candle, candles, line, merged, price_rows, short, sparkline

PRICES = st.floats(min_value=-1e9, max_value=1e9, allow_nan=False)
SIZES = st.integers(min_value=-1, max_value=120)
HEIGHTS = st.integers(min_value=-1, max_value=40)
SERIES = st.lists(st.none() | PRICES, max_size=200)


@st.composite
def some_candles(draw: st.DrawFn) -> Candle:
    """A candle whose high and low hold its open and close."""
    low, first, second, high = sorted(draw(st.lists(PRICES, min_size=4, max_size=4)))
    opened, closed = (first, second) if draw(st.booleans()) else (second, first)
    volume = draw(st.none() | st.floats(min_value=0, max_value=1e12))
    return Candle(opened, high, low, closed, volume, draw(st.sampled_from(("", "Nov 27", "14:35"))))


BARS = st.lists(st.none() | some_candles(), max_size=200)


def flat(price: float, volume: float | None = None, label: str = "") -> Candle:
    """A candle of one price."""
    return Candle(price, price, price, price, volume, label)


@given(SERIES, SIZES)
def test_a_sparkline_is_never_wider_than_asked(values: list[float | None], width: int) -> None:
    assert len(sparkline(values, width)) == min(len(values), max(width, 0))


@given(st.lists(PRICES, min_size=2, max_size=60).filter(lambda values: min(values) < max(values)))
def test_a_sparkline_has_its_extremes_at_the_edges(values: list[float]) -> None:
    drawn = sparkline(values, len(values))
    assert drawn[values.index(min(values))] == "▁"
    assert drawn[values.index(max(values))] == "█"


def test_a_sparkline_shows_the_newest_values_and_leaves_a_gap_blank() -> None:
    assert sparkline([9, 9, 1, None, 2, 3], 4) == "▁ ▅█"
    assert sparkline([5, 5, 5], 10) == "▄▄▄"
    assert sparkline([None, None], 10) == "  "
    assert sparkline([], 10) == ""


@given(BARS, SIZES, HEIGHTS)
def test_candles_are_never_wider_or_taller_than_asked(bars: list[Candle | None], width: int, height: int) -> None:
    drawn = candles(bars, width, height)
    assert len(drawn) <= max(height, 0)
    assert all(len(row) <= width for row in drawn)
    if any(bars) and width > 0 and height > 0:
        assert len(drawn) == height


@given(SERIES, SIZES, HEIGHTS)
def test_a_line_is_never_wider_or_taller_than_asked(values: list[float | None], width: int, height: int) -> None:
    drawn = line(values, width, height, ["Nov 27"] * len(values))
    assert len(drawn) <= max(height, 0)
    assert all(len(row) <= width for row in drawn)


@given(st.lists(some_candles(), min_size=1, max_size=200), st.integers(40, 120), st.integers(2, 30))
def test_candles_have_their_extremes_at_the_edges(bars: list[Candle], width: int, height: int) -> None:
    low, high = min(bar.low for bar in bars), max(bar.high for bar in bars)
    drawn = [row.rpartition("┤")[2] for row in candles(bars, width, height)[: price_rows(bars, height)]]
    if high - low > 1e-3:
        assert drawn[0].strip()
        assert drawn[-1].strip()


@given(st.lists(PRICES, min_size=2, max_size=200), st.integers(40, 120), st.integers(2, 30))
def test_a_line_has_its_extremes_at_the_edges_however_many_values_there_are(
    values: list[float], width: int, height: int
) -> None:
    drawn = line(values, width, height)
    if max(values) - min(values) > 1e-3:
        assert drawn[0].rpartition("┤")[2].strip()
        assert drawn[-1].rpartition("┤")[2].strip()


def test_the_axis_names_the_highest_price_at_the_top_and_the_lowest_at_the_bottom() -> None:
    drawn = candles([Candle(-3, 12.5, -40, 5), Candle(5, 9, 1, 2)], 40, 7)
    assert drawn[0].startswith(" 12.50 ┤")
    assert drawn[-1].startswith("-40.00 ┤")


def test_what_rose_and_what_fell_differ_without_colour() -> None:
    rose, fell = (candles([bar], 20, 5) for bar in (Candle(1, 4, 0, 3), Candle(3, 4, 0, 1)))
    assert set("".join(rose)) & set(ROSE)
    assert not set("".join(rose)) & set(FELL)
    assert set("".join(fell)) & set(FELL)
    assert not set("".join(fell)) & set(ROSE)


def test_one_candle_is_drawn_from_its_low_to_its_high() -> None:
    drawn = candles([Candle(2, 4, 0, 3)], 20, 5)
    assert [row[-1] for row in drawn] == ["│", "┃", "┃", "│", "│"]
    assert [row[-1] for row in candles([Candle(3.2, 4, 0, 2.6)], 20, 4)] == ["▄", "▀", "│", "│"]


@pytest.mark.parametrize("count", [1, 2, 50])
def test_equal_prices_are_in_the_middle_with_one_price_at_the_axis(count: int) -> None:
    drawn = candles([flat(7.25)] * count, 60, 5)
    assert [row for row in drawn if "7.25" in row] == [drawn[2]]
    assert set(drawn[2].rpartition("┤")[2]) <= set(ROSE + " ")
    straight = line([7.25] * count, 60, 5)
    assert [bool(row.strip(" │┤")) for row in straight] == [False, False, True, False, False]


def test_a_gap_leaves_its_column_empty() -> None:
    drawn = candles([flat(1), None, flat(2)], 20, 3)
    plots = [row.split("┤" if "┤" in row else "│", 1)[1].ljust(7) for row in drawn]
    # Three places for each candle: the gap's are 3 to 5.
    assert all(plot[3:6] == "   " for plot in plots)
    assert all(any(plot[at] != " " for plot in plots) for at in (0, 6))


def test_a_gap_breaks_a_line() -> None:
    whole, broken = line([1.0, 1.0, 1.0, 1.0, 1.0], 10, 1), line([1.0, 1.0, None, 1.0, 1.0], 10, 1)
    assert " " not in whole[0]
    assert " " in broken[0].strip()


def test_candles_that_do_not_fit_are_drawn_together_and_lose_no_extreme() -> None:
    bars: list[Candle | None] = [Candle(at, at + 1, at - 1, at + 0.5, 10, str(at)) for at in range(10)]
    assert merged(bars, 4) == [
        Candle(0, 3, -1, 2.5, 30, "0"),
        Candle(3, 6, 2, 5.5, 30, "3"),
        Candle(6, 9, 5, 8.5, 30, "6"),
        Candle(9, 10, 8, 9.5, 10, "9"),
    ]
    assert merged(bars, 10) == bars


def test_labels_stand_below_their_candles_and_never_run_into_each_other() -> None:
    bars = [flat(at, label=f"Nov {at:02}") for at in range(1, 31)]
    labels = candles(bars, 60, 6)[-1]
    assert labels.split() == ["Nov", "01", "Nov", "10", "Nov", "19", "Nov", "28"]


def test_volumes_stand_on_the_ground_and_the_largest_is_named() -> None:
    bars = [flat(at, volume) for at, volume in enumerate((0.0, 1.0, 1_600_000.0, None))]
    upper, lower = candles(bars, 30, 9)[-2:]
    assert upper.strip() == "1.6M        █"
    assert lower.strip() == "▁  █"


@pytest.mark.parametrize(("count", "text"), [(0, "0"), (950, "950"), (1200, "1.2K"), (12_000, "12K"), (3.4e9, "3.4B")])
def test_a_count_is_short(count: float, text: str) -> None:
    assert short(count) == text
