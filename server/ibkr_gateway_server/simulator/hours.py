"""When contracts trade: regular sessions, days, and how contract details spell them.

Prices here never rest: the simulated market is open around the clock, weekends included, so that whoever tries it finds
it moving. Regular hours are real; they bound what is asked for "regular trading hours only", openings and closes.
"""

from __future__ import annotations

from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from functools import lru_cache
from zoneinfo import ZoneInfo

from ibkr_gateway_server.simulator.listings import Listing

# How far back sessions are looked for; a request that asks for more gets what there is.
MAX_DAYS = 25 * 366

Span = tuple[float, float]


def midnight_of(listing: Listing, now: float) -> datetime:
    """The beginning of the day at the contract's exchange."""
    moment = datetime.fromtimestamp(now, ZoneInfo(listing.time_zone))
    return moment.replace(hour=0, minute=0, second=0, microsecond=0)


def day_span(listing: Listing, now: float) -> Span:
    """The day at the contract's exchange, from midnight to midnight."""
    return _whole_day(midnight_of(listing, now))


def regular_session(listing: Listing, midnight: datetime) -> Span | None:
    """Regular hours of one day; None at weekends."""
    if midnight.weekday() >= 5:
        return None
    opening, closing = _clocks(listing.hours[1])
    # A session that ends earlier on the clock than it begins has begun the evening before.
    begin = midnight + opening - timedelta(days=1 if closing <= opening else 0)
    return begin.timestamp(), (midnight + closing).timestamp()


def sessions_back(listing: Listing, end: float, *, regular: bool) -> Iterator[Span]:
    """Sessions that began before `end`, the latest first: regular hours, or whole days."""
    day = midnight_of(listing, end) + timedelta(days=1)
    for _ in range(MAX_DAYS):
        session = regular_session(listing, day) if regular else _whole_day(day)
        if session is not None and session[0] < end:
            yield session
        day -= timedelta(days=1)


def last_close(listing: Listing, before: float) -> float:
    """The latest end of regular hours at or before a moment."""
    return next(finish for _, finish in sessions_back(listing, before, regular=True) if finish <= before)


def next_opening(listing: Listing, now: float) -> float:
    """The next beginning of regular hours."""
    return next(begin for begin, _ in _sessions_ahead(listing, now) if begin > now)


def next_close(listing: Listing, now: float) -> float:
    """The next end of regular hours."""
    return next(finish for _, finish in _sessions_ahead(listing, now) if finish > now)


def hours_text(listing: Listing, now: float, *, regular: bool, days: int = 6) -> str:
    """Opening hours of the coming days as contract details spell them."""
    opening, closing = listing.hours[1 if regular else 0].split("-")
    today = datetime.fromtimestamp(now, UTC).date()
    spans = []
    for ahead in range(days):
        day = today + timedelta(days=ahead)
        begin = day - timedelta(days=1) if closing <= opening else day
        if day.weekday() >= 5:
            spans.append(f"{day:%Y%m%d}:CLOSED")
        else:
            spans.append(f"{begin:%Y%m%d}:{opening}-{day:%Y%m%d}:{closing}")
    return ";".join(spans)


def _whole_day(midnight: datetime) -> Span:
    return midnight.timestamp(), (midnight + timedelta(days=1)).timestamp()


def _sessions_ahead(listing: Listing, now: float) -> Iterator[Span]:
    day = midnight_of(listing, now)
    for ahead in range(8):
        session = regular_session(listing, day + timedelta(days=ahead))
        if session is not None:
            yield session


@lru_cache(maxsize=64)
def _clocks(hours: str) -> tuple[timedelta, timedelta]:
    """ "0930-1600" as times since midnight."""
    opening, closing = (timedelta(hours=int(clock[:2]), minutes=int(clock[2:])) for clock in hours.split("-"))
    return opening, closing
