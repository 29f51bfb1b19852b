"""Days on which exchanges are closed or close early, for any year.

Source: the published rules of NYSE and CME Group: fixed days move to the nearest weekday, save that a New Year's Day on
a Saturday is not made up for.
"""

from __future__ import annotations

from datetime import date, timedelta
from functools import lru_cache

JUNETEENTH_SINCE = 2022


@lru_cache(maxsize=64)
def holidays(year: int) -> frozenset[date]:
    """Days without a session at the United States' stock exchanges."""
    new_year = date(year, 1, 1)
    days = {
        _nearest_weekday(new_year) if new_year.weekday() != 5 else new_year,
        _weekday_of(year, 1, 0, 3),
        _weekday_of(year, 2, 0, 3),
        good_friday(year),
        _last_monday(year, 5),
        _nearest_weekday(date(year, 7, 4)),
        _weekday_of(year, 9, 0, 1),
        _thanksgiving(year),
        _nearest_weekday(date(year, 12, 25)),
    }
    if year >= JUNETEENTH_SINCE:
        days.add(_nearest_weekday(date(year, 6, 19)))
    return frozenset(days)


@lru_cache(maxsize=64)
def early_closes(year: int) -> frozenset[date]:
    """Days on which the United States' stock exchanges close at one in the afternoon."""
    days = {_thanksgiving(year) + timedelta(days=1), date(year, 7, 3), date(year, 12, 24)}
    return frozenset(day for day in days if day.weekday() < 5 and day not in holidays(year))


@lru_cache(maxsize=64)
def world_holidays(year: int) -> frozenset[date]:
    """Days on which futures and currencies do not trade either."""
    return frozenset({date(year, 1, 1), good_friday(year), date(year, 12, 25)})


def good_friday(year: int) -> date:
    """Two days before Easter, by the anonymous Gregorian computus."""
    golden, century, rest = year % 19, year // 100, year % 100
    shift = (century - century // 4 - (8 * century + 13) // 25 + 19 * golden + 15) % 30
    moon = shift - (golden + 11 * shift) // 319
    weekday = (2 * (century % 4) + 2 * (rest // 4) - rest % 4 - moon + 32) % 7
    month = (moon + weekday + 90) // 25
    return date(year, month, (moon + weekday + month + 19) % 32) - timedelta(days=2)


def _nearest_weekday(day: date) -> date:
    return day + timedelta(days={5: -1, 6: 1}.get(day.weekday(), 0))


def _weekday_of(year: int, month: int, weekday: int, count: int) -> date:
    """The third Monday, and the like."""
    first = date(year, month, 1)
    return first + timedelta(days=(weekday - first.weekday()) % 7 + 7 * (count - 1))


def _last_monday(year: int, month: int) -> date:
    last = date(year, month + 1, 1) - timedelta(days=1)
    return last - timedelta(days=last.weekday())


def _thanksgiving(year: int) -> date:
    return _weekday_of(year, 11, 3, 4)
