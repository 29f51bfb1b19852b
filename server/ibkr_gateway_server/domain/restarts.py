"""When TWS or IB Gateway restarts as planned: every day at the same time of a place's clock."""

from __future__ import annotations

import re
from dataclasses import dataclass
from datetime import UTC, datetime, time, timedelta
from zoneinfo import ZoneInfo, ZoneInfoNotFoundError

# An order that is written in the second of the restart is gone, so the last minute before is part of it.
AHEAD = timedelta(seconds=60)

_FORM = re.compile(r"(\d\d):(\d\d)\s*-\s*(\d\d):(\d\d)\s+(\S+)")


@dataclass(frozen=True, slots=True)
class Window:
    """One planned restart, in UTC, with the minute before it."""

    start: datetime
    end: datetime


@dataclass(frozen=True, slots=True)
class _Daily:
    begin: time
    end: time
    zone: ZoneInfo

    def around(self, moment: datetime) -> Window | None:
        """The window of this kind that a moment lies in; it may have begun the day before, or begin tomorrow."""
        today = moment.astimezone(self.zone).date()
        for day in (today - timedelta(days=1), today, today + timedelta(days=1)):
            start = datetime.combine(day, self.begin, self.zone)
            last = day if self.end > self.begin else day + timedelta(days=1)
            end = datetime.combine(last, self.end, self.zone)
            window = Window(start.astimezone(UTC) - AHEAD, end.astimezone(UTC))
            if window.start <= moment < window.end:
                return window
        return None


@dataclass(frozen=True, slots=True)
class RestartWindows:
    """Every planned restart; none by default."""

    daily: tuple[_Daily, ...] = ()

    @classmethod
    def parse(cls, text: str) -> RestartWindows:
        """From "23:45-00:15 America/New_York"; several are separated by semicolons. Raises ValueError."""
        return cls(tuple(_parse(part.strip()) for part in text.split(";") if part.strip()))

    def around(self, moment: datetime) -> Window | None:
        """The window that a moment lies in; None: no restart is planned then."""
        return next((window for each in self.daily if (window := each.around(moment)) is not None), None)


def _parse(text: str) -> _Daily:
    form = _FORM.fullmatch(text)
    if form is None:
        raise ValueError(f"{text!r} is not like 23:45-00:15 America/New_York")
    try:
        begin, end = time(int(form[1]), int(form[2])), time(int(form[3]), int(form[4]))
        zone = ZoneInfo(form[5])
    except (ValueError, ZoneInfoNotFoundError, OSError):
        raise ValueError(f"{text!r} has a time or a time zone that does not exist") from None
    if begin == end:
        raise ValueError(f"{text!r} begins when it ends")
    return _Daily(begin, end, zone)
