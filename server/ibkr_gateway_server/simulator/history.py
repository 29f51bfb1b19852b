"""Historical requests: IBKR's spellings of widths and spans, and the times at which bars begin."""

from __future__ import annotations

from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from zoneinfo import ZoneInfo

from ibkr_gateway_server.simulator.instruments import Listing

# Source: TWS API, valid bar sizes; both spellings of the one-second bar are taken.
BAR_SIZES = {
    **{f"{count} sec": count for count in (1,)},
    **{f"{count} secs": count for count in (1, 5, 10, 15, 30)},
    "1 min": 60,
    **{f"{count} mins": count * 60 for count in (2, 3, 5, 10, 15, 20, 30)},
    "1 hour": 3600,
    **{f"{count} hours": count * 3600 for count in (2, 3, 4, 8)},
    "1 day": 86400,
    **dict.fromkeys(("1 week", "1W", "1 weeks"), 7 * 86400),
    **dict.fromkeys(("1 month", "1M", "1 months"), 30 * 86400),
}
SHOWN = frozenset(
    {
        "TRADES",
        "MIDPOINT",
        "BID",
        "ASK",
        "BID_ASK",
        "ADJUSTED_LAST",
        "HISTORICAL_VOLATILITY",
        "OPTION_IMPLIED_VOLATILITY",
        "SCHEDULE",
    }
)
TRADED = frozenset({"TRADES", "ADJUSTED_LAST"})
MAX_BARS = 20_000

_UNIT_DAYS = {"D": 1.0, "W": 7.0, "M": 30.44, "Y": 365.25}


class BadRequest(ValueError):
    """A historical request that IBKR refuses, with its sentence."""


def span_of(duration: str) -> tuple[int, str]:
    """ "2 W" as a count and a unit. Raises BadRequest with IBKR's text."""
    count, _, unit = duration.strip().partition(" ")
    if not count.isdigit() or int(count) < 1 or unit not in ("S", *_UNIT_DAYS):
        raise BadRequest(
            "Historical data query end date/time string or duration is not valid: invalid duration format."
        )
    return int(count), unit


def end_of(text: str, now: float) -> float:
    """A request's end as epoch seconds; empty is now. Raises BadRequest with IBKR's text."""
    if not text:
        return now
    head, _, zone = text.replace("-", " ", 1).partition(" ")
    clock, _, zone = zone.strip().partition(" ")
    try:
        moment = datetime.strptime(f"{head} {clock or '23:59:59'}", "%Y%m%d %H:%M:%S")
        return min(moment.replace(tzinfo=ZoneInfo(zone) if zone else UTC).timestamp(), now)
    except (ValueError, KeyError):
        text = "Invalid date/time format. The correct format is yyyymmdd hh:mm:ss xx/xxxx or yyyymmdd-hh:mm:ss (UTC)."
        raise BadRequest(text) from None


def bar_starts(listing: Listing, size: str, duration: str, end: float, *, regular: bool) -> list[int]:
    """When each bar of a request begins, oldest first. Raises BadRequest."""
    width, (count, unit) = BAR_SIZES[size], span_of(duration)
    if width >= 86400:
        return _days(listing, width, count * (_UNIT_DAYS[unit] if unit != "S" else 1 / 86400), end)
    starts: list[int] = []
    wanted = count if unit == "S" else count * _UNIT_DAYS[unit] * 86400
    days_wanted = count if unit == "D" else None
    for day_count, session in enumerate(_sessions_back(listing, end, regular=regular), start=1):
        opening, closing = session
        first = end - wanted if days_wanted is None else opening
        inside = [begin for begin in range(int(opening), int(min(closing, end)), width) if begin >= first]
        starts = inside + starts
        if (days_wanted is not None and day_count >= days_wanted) or opening <= first or len(starts) > MAX_BARS:
            break
    return starts[-MAX_BARS:]


def _days(listing: Listing, width: int, days: float, end: float) -> list[int]:
    """Starts of daily and wider bars: midnights of trading days in the exchange's zone."""
    zone = ZoneInfo(listing.time_zone)
    day = datetime.fromtimestamp(end, zone).replace(hour=0, minute=0, second=0, microsecond=0)
    earliest = day - timedelta(days=max(days, 1.0))
    starts = []
    while day > earliest:
        if day.weekday() < 5 and (width == 86400 or (width == 7 * 86400 and day.weekday() == 0) or day.day == 1):
            starts.append(int(day.timestamp()))
        day -= timedelta(days=1)
    return starts[::-1]


def _sessions_back(listing: Listing, end: float, *, regular: bool) -> Iterator[tuple[float, float]]:
    """Sessions that began before `end`, the latest first."""
    zone = ZoneInfo(listing.time_zone)
    opening, closing = listing.hours[1 if regular else 0].split("-")
    day = datetime.fromtimestamp(end, zone).replace(hour=0, minute=0, second=0, microsecond=0) + timedelta(days=1)
    for _ in range(800):
        begin = day + timedelta(days=-1 if closing <= opening else 0, hours=int(opening[:2]), minutes=int(opening[2:]))
        finish = day + timedelta(hours=int(closing[:2]), minutes=int(closing[2:]))
        if day.weekday() < 5 and begin.timestamp() < end:
            yield begin.timestamp(), finish.timestamp()
        day -= timedelta(days=1)
