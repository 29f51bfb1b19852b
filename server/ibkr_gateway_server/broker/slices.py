"""How a long history is cut: slices that IBKR answers in one request each, and the token that names a place in it."""

from __future__ import annotations

import base64
import hashlib
import json
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from datetime import UTC, date, datetime, time, timedelta
from typing import TypeVar
from zoneinfo import ZoneInfo

from ibkr_gateway_server.domain.bars import Bar, BarSize, DurationUnit, LongHistoryRequest
from ibkr_gateway_server.domain.errors import FieldsInvalid, FieldViolation

# More slices than that take days: at 58 requests in ten minutes, 10,000 take 29 hours.
MAX_SLICES = 10_000
D = TypeVar("D", datetime, date)
_VERSION = 1


@dataclass(frozen=True, slots=True)
class Cut:
    """How bars of one width are asked for: so much at a time, by requests that reach back further than that.

    An answer that reaches back beyond the slice's start shows that nothing of the slice is missing. Source: TWS API,
    historical bars, the durations that go with each bar size.
    """

    span: timedelta
    duration_value: int
    duration_unit: DurationUnit


_MINUTE, _HOUR, _DAY = timedelta(minutes=1), timedelta(hours=1), timedelta(days=1)
_CUTS = {
    BarSize.SEC_1: Cut(25 * _MINUTE, 1800, DurationUnit.SECOND),
    BarSize.SECS_5: Cut(55 * _MINUTE, 3600, DurationUnit.SECOND),
    BarSize.SECS_10: Cut(225 * _MINUTE, 14400, DurationUnit.SECOND),
    BarSize.SECS_15: Cut(225 * _MINUTE, 14400, DurationUnit.SECOND),
    BarSize.SECS_30: Cut(7 * _HOUR, 28800, DurationUnit.SECOND),
    # Days are counted as trading days, of which one more is asked for than the slice can touch.
    BarSize.MIN_1: Cut(_DAY, 3, DurationUnit.DAY),
    BarSize.MINS_2: Cut(_DAY, 3, DurationUnit.DAY),
    **dict.fromkeys(
        (BarSize.MINS_3, BarSize.MINS_5, BarSize.MINS_10, BarSize.MINS_15, BarSize.MINS_20),
        Cut(4 * _DAY, 1, DurationUnit.WEEK),
    ),
    **dict.fromkeys(
        (BarSize.MINS_30, BarSize.HOUR_1, BarSize.HOURS_2, BarSize.HOURS_3, BarSize.HOURS_4, BarSize.HOURS_8),
        Cut(25 * _DAY, 1, DurationUnit.MONTH),
    ),
    **dict.fromkeys((BarSize.DAY_1, BarSize.WEEK_1, BarSize.MONTH_1), Cut(320 * _DAY, 1, DurationUnit.YEAR)),
}


@dataclass(frozen=True, slots=True)
class Slice:
    """Bars that begin from `start` until before `end`: moments in UTC, or dates for daily and wider bars."""

    start: datetime | date
    end: datetime | date
    ask_until: datetime
    """Where the request ends: behind the last bar, so that it comes whole."""

    def has(self, bar: Bar) -> bool:
        """Whether a bar is of this slice."""
        return self.start <= bar.start < self.end

    def is_reached(self, bars: Sequence[Bar]) -> bool:
        """Whether bars that lead up to its end reach back beyond its start."""
        return bool(bars) and bars[0].start < self.start


def cut_of(size: BarSize) -> Cut:
    """How bars of this width are asked for."""
    return _CUTS[size]


def slices_of(size: BarSize, start: datetime, end: datetime, zone: ZoneInfo) -> tuple[Slice, ...]:
    """The slices from start until before end, oldest first: without a gap and without an overlap.

    Days begin at the exchange. Raises FieldsInvalid when there would be too many.
    """
    span = cut_of(size).span
    if (end - start) / span > MAX_SLICES:
        most = span * MAX_SLICES
        raise _invalid("start_time", f"with bars of {size} at most {most.days} days can be asked for at a time")
    if size.is_daily:
        first, last = start.astimezone(zone).date(), (end - timedelta(microseconds=1)).astimezone(zone).date()
        behind = timedelta(days=31)
        return tuple(
            Slice(begin, until, datetime.combine(until + behind, time(), zone).astimezone(UTC))
            for begin, until in _cuts(first, last + _DAY, span)
        )
    width = _width(size)
    return tuple(Slice(begin, until, until + width) for begin, until in _cuts(start, end, span))


def _cuts(start: D, end: D, span: timedelta) -> Iterator[tuple[D, D]]:
    """Parts of at most `span` from start to end; moments or dates, as they are given."""
    while start < end:
        after = min(start + span, end)
        yield start, after
        start = after


def _width(size: BarSize) -> timedelta:
    count, _, unit = str(size).partition(" ")
    return int(count) * {"s": timedelta(seconds=1), "m": _MINUTE, "h": _HOUR}[unit[0]]


def token(request: LongHistoryRequest, con_id: int, end: datetime, completed_count: int) -> str:
    """A place in a long history, for a later stream of the same request."""
    place = [_VERSION, _of(request, con_id), end.isoformat(), completed_count]
    return base64.urlsafe_b64encode(json.dumps([*place, _checksum(place)]).encode()).decode().rstrip("=")


def place_of(resume_token: str, request: LongHistoryRequest, con_id: int) -> tuple[datetime, int]:
    """The end that the history was begun with, and the slices that are done. Raises FieldsInvalid."""
    try:
        text = base64.urlsafe_b64decode(resume_token + "=" * (-len(resume_token) % 4))
        *place, checksum = json.loads(text)
        version, of, end, completed_count = place
        moment = datetime.fromisoformat(end)
        is_whole = checksum == _checksum(place) and version == _VERSION and moment.tzinfo is not None
        if not is_whole or type(completed_count) is not int or completed_count < 0:
            raise ValueError
    except (ValueError, TypeError):
        raise _invalid("resume_token", "is none of this gateway's; leave it out to begin anew") from None
    if of != _of(request, con_id):
        raise _invalid("resume_token", "belongs to another request; repeat the fields of the stream that gave it")
    return moment, completed_count


def _of(request: LongHistoryRequest, con_id: int) -> str:
    """What the request asks for, as a digest."""
    end = request.end.isoformat() if request.end is not None else "now"
    asked = (con_id, request.bar_size, request.what_to_show, request.regular_hours_only, request.start.isoformat(), end)
    return hashlib.sha256(repr(asked).encode()).hexdigest()[:16]


def _checksum(place: Sequence[object]) -> str:
    """Tells a token that was cut or changed; it protects nothing else."""
    return hashlib.sha256(json.dumps(place).encode()).hexdigest()[:12]


def _invalid(field: str, why: str) -> FieldsInvalid:
    return FieldsInvalid((FieldViolation(field, why),))
