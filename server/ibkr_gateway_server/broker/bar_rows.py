"""Bars as TWS sends them: read into ours, with the end of the span that each is of."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from datetime import UTC, date, datetime, timedelta
from typing import Any, Protocol

from ibkr_gateway_server.broker import ib
from ibkr_gateway_server.broker.numbers import number
from ibkr_gateway_server.domain.bars import Bar, BarSize, WhatToShow
from ibkr_gateway_server.domain.errors import BadBar
from ibkr_gateway_server.domain.instruments import Instrument, SecurityType

_WIDTHS = {
    "secs": timedelta(seconds=1),
    "min": timedelta(minutes=1),
    "mins": timedelta(minutes=1),
    "hour": timedelta(hours=1),
    "hours": timedelta(hours=1),
    "day": timedelta(days=1),
    "week": timedelta(weeks=1),
    "month": timedelta(days=31),
}

# What has no trades to show: their prices are quotes alone.
_QUOTED_ONLY = frozenset({SecurityType.CASH, SecurityType.CFD, SecurityType.CMDTY, SecurityType.CRYPTO})

_TRADED = (WhatToShow.TRADES, WhatToShow.ADJUSTED_LAST)


class Wanted(Protocol):
    """What bars are asked for."""

    @property
    def instrument(self) -> Instrument: ...
    @property
    def bar_size(self) -> BarSize: ...
    @property
    def what_to_show(self) -> WhatToShow | None: ...


def read_bars(rows: Sequence[ib.BarData], request: Wanted, now: datetime) -> tuple[Bar, ...]:
    """Rows, sorted by time, each time once; the last one of a time counts. Raises BadBar naming what cannot be read."""
    bars: dict[Any, Bar] = {}
    for index, row in enumerate(rows):
        bar = read_bar(index, row, request)
        bars[bar.start] = bar
    ordered = [bars[start] for start in sorted(bars)]
    if ordered:
        # Only the newest can still grow: where a later one has begun, one has ended.
        has_ended = is_over(ordered[-1].start, request.bar_size, now)
        ordered[-1] = replace(ordered[-1], is_complete=has_ended)
    return tuple(ordered)


def read_bar(index: int, row: ib.BarData, request: Wanted) -> Bar:
    """One row. Raises BadBar naming it by its index when its time or a price cannot be read."""
    start = _start(row.date, is_daily=request.bar_size.is_daily)
    first, high, low, last = (number(value) for value in (row.open, row.high, row.low, row.close))
    if start is None or first is None or high is None or low is None or last is None:
        raise BadBar(index, request.instrument.label())
    traded = request.what_to_show in _TRADED
    return Bar(
        start,
        open=first,
        high=high,
        low=low,
        close=last,
        # TWS says -1 where it has none.
        volume=number(row.volume) if traded and row.volume >= 0 else None,
        wap=number(row.average) if traded and row.volume >= 0 else None,
        trade_count=row.barCount if traded and row.barCount >= 0 else None,
    )


def is_over(start: date | datetime, size: BarSize, now: datetime) -> bool:
    """Whether the span of the bar that began then has ended."""
    count, _, unit = str(size).partition(" ")
    end = start + int(count) * _WIDTHS[unit]
    if isinstance(end, datetime):
        return end <= now
    # A day's bar may change until its day is over everywhere.
    return end <= (now - timedelta(hours=12)).date()


def what_to_show(asked: WhatToShow | None, instrument: Instrument) -> WhatToShow:
    """What was asked for; else trades, or midpoints for what has none."""
    if asked is not None:
        return asked
    return WhatToShow.MIDPOINT if instrument.security_type in _QUOTED_ONLY else WhatToShow.TRADES


def _start(text: object, *, is_daily: bool) -> datetime | date | None:
    """A bar's start: a date of eight digits for daily and wider bars, else seconds since the epoch; None: neither."""
    digits = str(text)
    try:
        if is_daily:
            return datetime.strptime(digits, "%Y%m%d").date()
    except ValueError:
        return None
    return moment_of(digits) if len(digits) > 8 else None


def moment_of(seconds: str) -> datetime | None:
    """Seconds since the epoch as UTC; None where they are none."""
    try:
        return datetime.fromtimestamp(int(seconds), UTC)
    except (ValueError, OverflowError, OSError):
        return None
