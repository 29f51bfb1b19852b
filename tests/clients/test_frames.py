"""Bars as data frames, of each library that is installed; polars is in every development environment."""

from __future__ import annotations

from datetime import UTC, date, datetime
from importlib.util import find_spec
from typing import Any, cast

import pytest
from google.protobuf.timestamp_pb2 import Timestamp
from ibkr_gateway import bar_size, duration, stock, to_dataframe
from ibkr_gateway.frames import Library
from ibkr_gateway.v1 import market_data_service_pb2 as pb

from tests.conftest import Gateway

INSTALLED = [cast("Library", name) for name in ("pandas", "polars") if find_spec(name)]
COLUMNS = ["open", "high", "low", "close", "volume", "wap", "trade_count", "is_complete"]
AT = datetime(2026, 11, 27, 14, 30, tzinfo=UTC)


def timed(**fields: Any) -> pb.Bar:
    return pb.Bar(start_time=Timestamp(seconds=int(AT.timestamp())), open=1.5, high=2, low=1, close=1.75, **fields)


def rows(frame: Any) -> list[dict[str, Any]]:
    return frame.to_dicts() if hasattr(frame, "to_dicts") else frame.to_dict("records")


def test_polars_is_tried_in_every_run() -> None:
    assert "polars" in INSTALLED


@pytest.mark.parametrize("library", INSTALLED)
def test_bars_within_a_day_are_rows_by_their_moment(library: Library) -> None:
    frame = to_dataframe([timed(volume=10, wap=1.6, trade_count=3, is_complete=True)], library)
    assert list(frame.columns) == ["time", *COLUMNS]
    assert rows(frame) == [
        {"time": AT, "open": 1.5, "high": 2, "low": 1, "close": 1.75, "volume": 10, "wap": 1.6}
        | {"trade_count": 3, "is_complete": True}
    ]


@pytest.mark.parametrize("library", INSTALLED)
def test_daily_bars_are_rows_by_their_day(library: Library) -> None:
    (row,) = rows(to_dataframe([pb.Bar(date="2026-11-27", open=1, high=1, low=1, close=1)], library))
    assert (row["date"] if type(row["date"]) is date else row["date"].date()) == date(2026, 11, 27)


@pytest.mark.parametrize("library", INSTALLED)
def test_what_ibkr_did_not_say_is_missing_and_not_zero(library: Library) -> None:
    frame: Any = to_dataframe([timed(), timed(volume=0, trade_count=0)], library)
    for name in ("volume", "trade_count"):
        missing = frame[name].is_null() if library == "polars" else frame[name].isna()
        assert list(missing) == [True, False]


@pytest.mark.parametrize("library", INSTALLED)
def test_no_bars_are_a_frame_with_the_same_columns_and_types(library: Library) -> None:
    full, empty = (to_dataframe(bars, library) for bars in ([timed(volume=1, wap=1, trade_count=1)], []))
    assert list(empty.columns) == list(full.columns)
    assert list(empty.dtypes) == list(full.dtypes)


def test_days_and_moments_are_not_mixed() -> None:
    with pytest.raises(ValueError, match="whole days"):
        to_dataframe([timed(), pb.Bar(date="2026-11-27")], "polars")


def test_another_library_is_refused_with_those_there_are() -> None:
    with pytest.raises(ValueError, match="pandas, polars"):
        to_dataframe([], cast("Library", "numpy"))


async def test_history_becomes_a_frame(gateway: Gateway) -> None:
    request = pb.GetHistoricalBarsRequest(
        instrument=stock("AAPL"), bar_size=bar_size("1 hour"), duration=duration("1 W"), regular_hours_only=True
    )
    bars = (await gateway.client.market_data.GetHistoricalBars(request)).bars
    frame = to_dataframe(bars, "polars")
    assert frame.height == len(bars) > 10
    assert frame["time"].is_sorted()
    assert (frame["high"] >= frame["low"]).all()
