"""Historical bars, and the spellings IBKR knows for their widths and spans."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import date, datetime
from enum import StrEnum

from ibkr_gateway_server.domain.instruments import Instrument


class BarSize(StrEnum):
    """Widths under IBKR's own spelling. Source: TWS API, historical bar sizes."""

    SEC_1 = "1 secs"
    SECS_5 = "5 secs"
    SECS_10 = "10 secs"
    SECS_15 = "15 secs"
    SECS_30 = "30 secs"
    MIN_1 = "1 min"
    MINS_2 = "2 mins"
    MINS_3 = "3 mins"
    MINS_5 = "5 mins"
    MINS_10 = "10 mins"
    MINS_15 = "15 mins"
    MINS_20 = "20 mins"
    MINS_30 = "30 mins"
    HOUR_1 = "1 hour"
    HOURS_2 = "2 hours"
    HOURS_3 = "3 hours"
    HOURS_4 = "4 hours"
    HOURS_8 = "8 hours"
    DAY_1 = "1 day"
    WEEK_1 = "1 week"
    MONTH_1 = "1 month"

    @property
    def is_daily(self) -> bool:
        """True when its bars are dated by day rather than by time."""
        return self in (BarSize.DAY_1, BarSize.WEEK_1, BarSize.MONTH_1)


class DurationUnit(StrEnum):
    """Units of a span under IBKR's codes."""

    SECOND = "S"
    DAY = "D"
    WEEK = "W"
    MONTH = "M"
    YEAR = "Y"


class WhatToShow(StrEnum):
    """Which prices bars are made of, under IBKR's codes."""

    TRADES = "TRADES"
    MIDPOINT = "MIDPOINT"
    BID = "BID"
    ASK = "ASK"
    BID_ASK = "BID_ASK"
    HISTORICAL_VOLATILITY = "HISTORICAL_VOLATILITY"
    OPTION_IMPLIED_VOLATILITY = "OPTION_IMPLIED_VOLATILITY"
    ADJUSTED_LAST = "ADJUSTED_LAST"


@dataclass(frozen=True, slots=True)
class BarsRequest:
    """One historical request. `what_to_show` None: the usual prices of the instrument's type."""

    instrument: Instrument
    bar_size: BarSize
    duration_value: int
    duration_unit: DurationUnit
    what_to_show: WhatToShow | None = None
    regular_hours_only: bool = False
    end_time: datetime | None = None

    @property
    def duration(self) -> str:
        """IBKR's spelling: "1 W"."""
        return f"{self.duration_value} {self.duration_unit}"


@dataclass(frozen=True, slots=True)
class Bar:
    """Prices over one span, per unit in the instrument's currency. `start` is a date for daily and wider bars, else
    UTC.

    Volume, wap and trade count are None where the prices are not trades.
    """

    start: datetime | date
    open: float
    high: float
    low: float
    close: float
    volume: float | None = None
    wap: float | None = None
    trade_count: int | None = None
    is_complete: bool = True


@dataclass(frozen=True, slots=True)
class Bars:
    """The answer to one request: sorted by time, each time once. `time_zone` is the exchange's IANA name."""

    instrument: Instrument
    bars: tuple[Bar, ...]
    time_zone: str = ""
    is_cached: bool = False


_UNIT_S = {
    DurationUnit.SECOND: 1,
    DurationUnit.DAY: 86_400,
    DurationUnit.WEEK: 7 * 86_400,
    DurationUnit.MONTH: 30 * 86_400,
    DurationUnit.YEAR: 365 * 86_400,
}


@dataclass(frozen=True, slots=True)
class HistorySpan:
    """How far back history goes. IBKR counts seconds and days of trading, weeks and longer by the calendar."""

    value: int
    unit: DurationUnit

    def __str__(self) -> str:
        return f"{self.value} {self.unit}"

    @property
    def about_s(self) -> int:
        """Its length in seconds, to tell the longer of two."""
        return self.value * _UNIT_S[self.unit]


@dataclass(frozen=True, slots=True)
class LiveBarsRequest:
    """Bars that go on. `history` None: none to begin with; `is_real_time`: IBKR's own bars of five seconds."""

    instrument: Instrument
    bar_size: BarSize
    what_to_show: WhatToShow | None = None
    regular_hours_only: bool = False
    history: HistorySpan | None = None
    is_real_time: bool = False


@dataclass(frozen=True, slots=True)
class LongHistoryRequest:
    """Bars that begin from `start` until before `end`, of any length; `end` None: now. Times in UTC."""

    instrument: Instrument
    bar_size: BarSize
    start: datetime
    end: datetime | None = None
    what_to_show: WhatToShow | None = None
    regular_hours_only: bool = False


@dataclass(frozen=True, slots=True)
class HistorySlice:
    """Part of a long history, oldest first: what it brings, and how far the work is.

    Without bars it tells progress alone, or that nothing was traded. `eta_s`: seconds until the end, None while nothing
    is known of it. `resume_token` goes on after this slice, also after a restart.
    """

    bars: tuple[Bar, ...]
    completed_count: int
    total_count: int
    eta_s: float | None
    resume_token: str
