"""Bars as a data frame of pandas or polars: the extras `ibkr-gateway-client[pandas]` and `[polars]`.

One row a bar, in the order given. Columns: `time` (UTC, of bars within a day) or `date` (of daily and wider ones),
`open`, `high`, `low`, `close`, `volume`, `wap`, `trade_count`, `is_complete`. What IBKR does not say is missing, not 0.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from datetime import UTC, date
from importlib import import_module
from typing import TYPE_CHECKING, Any, Literal, overload

from ibkr_gateway.v1.market_data_service_pb2 import Bar

if TYPE_CHECKING:
    import pandas  # pyright: ignore[reportMissingImports]
    import polars

Library = Literal["pandas", "polars"]

_OPTIONAL: tuple[Literal["volume", "wap", "trade_count"], ...] = ("volume", "wap", "trade_count")


@overload
def to_dataframe(bars: Iterable[Bar], library: Literal["pandas"] = "pandas") -> pandas.DataFrame: ...
@overload
def to_dataframe(bars: Iterable[Bar], library: Literal["polars"]) -> polars.DataFrame: ...
def to_dataframe(bars: Iterable[Bar], library: Library = "pandas") -> Any:
    """A frame of the bars. Raises ImportError when the library is not installed, ValueError for another library and for
    bars of which some are dated and some are timed."""
    if library not in _MAKERS:
        raise ValueError(f"library {library!r} is not one of {', '.join(_MAKERS)}")
    return _MAKERS[library](*_columns(list(bars)))


def _columns(bars: Sequence[Bar]) -> tuple[str, dict[str, list[Any]]]:
    """The name of the column that says when, and all columns."""
    dated = [bool(bar.date) for bar in bars]
    if any(dated) and not all(dated):
        raise ValueError("some of the bars are of whole days and some are not")
    if any(dated):
        when, times = "date", [date.fromisoformat(bar.date) for bar in bars]
    else:
        when, times = "time", [bar.start_time.ToDatetime(UTC) for bar in bars]
    columns: dict[str, list[Any]] = {when: times}
    for name in ("open", "high", "low", "close"):
        columns[name] = [getattr(bar, name) for bar in bars]
    for name in _OPTIONAL:
        columns[name] = [getattr(bar, name) if bar.HasField(name) else None for bar in bars]
    columns["is_complete"] = [bar.is_complete for bar in bars]
    return when, columns


def _pandas(when: str, columns: dict[str, list[Any]]) -> Any:
    pandas: Any = import_module("pandas")
    frame = pandas.DataFrame(columns)
    # Said for every column, so that a frame without rows, or without a volume, has the same types as others. Daily bars
    # have days at midnight without a zone, which is what pandas' own tools expect.
    kinds = {
        when: "datetime64[us, UTC]" if when == "time" else "datetime64[us]",
        **dict.fromkeys(("open", "high", "low", "close", "volume", "wap"), "float64"),
        "trade_count": "Int64",
        "is_complete": "bool",
    }
    frame[when] = pandas.to_datetime(frame[when], utc=when == "time")
    return frame.astype(kinds)


def _polars(when: str, columns: dict[str, list[Any]]) -> Any:
    polars: Any = import_module("polars")
    kinds = {
        when: polars.Datetime("us", "UTC") if when == "time" else polars.Date,
        **dict.fromkeys(("open", "high", "low", "close", "volume", "wap"), polars.Float64),
        "trade_count": polars.Int64,
        "is_complete": polars.Boolean,
    }
    return polars.DataFrame(columns, schema=kinds)


_MAKERS: dict[str, Callable[[str, dict[str, list[Any]]], Any]] = {"pandas": _pandas, "polars": _polars}
