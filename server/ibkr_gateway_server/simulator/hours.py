"""When contracts trade: regular sessions, extended ones, days, holidays, and how contract details spell them.

By default the simulated market never rests, so that whoever tries it at night or at a weekend finds it moving; regular
hours then bound only what is asked for "regular trading hours only", openings and closes. With the exchanges' hours
it opens, closes and keeps holidays as they do.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from datetime import UTC, date, datetime, timedelta
from functools import lru_cache
from zoneinfo import ZoneInfo

from ibkr_gateway_server.simulator.holidays import early_closes, holidays, world_holidays
from ibkr_gateway_server.simulator.listings import Listing

# How far back sessions are looked for; a request that asks for more gets what there is.
MAX_DAYS = 25 * 366
# No market is closed for longer.
MAX_CLOSED_DAYS = 8

Span = tuple[float, float]

_EARLY = {"STK": ("1300", "1700"), "IND": ("1200", "1200"), "FUT": ("1215", "1215")}
_EARLY_ELSE = ("1300", "1300")
_NEVER_EARLY = "CASH"


def midnight_of(listing: Listing, now: float) -> datetime:
    """The beginning of the day at the contract's exchange."""
    moment = datetime.fromtimestamp(now, _zone(listing.time_zone))
    return moment.replace(hour=0, minute=0, second=0, microsecond=0)


def day_span(listing: Listing, now: float) -> Span:
    """The day at the contract's exchange, from midnight to midnight."""
    return _whole_day(midnight_of(listing, now))


def regular_session(listing: Listing, midnight: datetime) -> Span | None:
    """Regular hours of one day; None on days without."""
    return _session(listing, midnight, regular=True)


def extended_session(listing: Listing, midnight: datetime) -> Span | None:
    """All hours of one trading day, those before the opening and after the close among them; None on days without."""
    return _session(listing, midnight, regular=False)


def last_close(listing: Listing, before: float) -> float:
    """The latest end of regular hours at or before a moment."""
    return next(finish for _, finish in _back(listing, before, regular=True) if finish <= before)


def next_opening(listing: Listing, now: float) -> float:
    """The next beginning of regular hours."""
    return next(begin for begin, _ in _ahead(listing, now, regular=True) if begin > now)


def next_close(listing: Listing, now: float) -> float:
    """The next end of regular hours."""
    return next(finish for _, finish in _ahead(listing, now, regular=True) if finish > now)


def hours_text(listing: Listing, now: float, *, regular: bool, days: int = 6) -> str:
    """Opening hours of the coming days as contract details spell them."""
    today = datetime.fromtimestamp(now, UTC).date()
    spans = []
    for ahead in range(days):
        day = today + timedelta(days=ahead)
        found = _clocks_of(listing, day, regular=regular)
        if found is None:
            spans.append(f"{day:%Y%m%d}:CLOSED")
        else:
            opening, closing = found
            begin = day - timedelta(days=1) if closing <= opening else day
            spans.append(f"{begin:%Y%m%d}:{opening}-{day:%Y%m%d}:{closing}")
    return ";".join(spans)


@dataclass(frozen=True, slots=True)
class TradingHours:
    """When the simulated market is open: always, or when the exchanges are."""

    always: bool = True

    def is_open(self, listing: Listing, now: float, *, outside_rth: bool = True) -> bool:
        """Whether it trades now, in regular hours alone or in all of them."""
        if self.always:
            return True
        span = self.session_at(listing, now, outside_rth=outside_rth)
        return span is not None and span[0] <= now

    def next_open(self, listing: Listing, now: float, *, outside_rth: bool = True) -> float:
        """From when on it trades: now, when it is open."""
        if self.always:
            return now
        span = self.session_at(listing, now, outside_rth=outside_rth)
        return max(now, span[0]) if span else now

    def day_end(self, listing: Listing, now: float, *, outside_rth: bool = False) -> float:
        """When a DAY order of this moment expires: the session's end, the next one's when it is closed."""
        if self.always:
            return day_span(listing, now)[1]
        span = self.session_at(listing, now, outside_rth=outside_rth)
        return span[1] if span else day_span(listing, now)[1]

    def session_at(self, listing: Listing, now: float, *, outside_rth: bool = True) -> Span | None:
        """The session of this moment, or else the next one."""
        ahead = _ahead(listing, now, regular=not outside_rth)
        return next((span for span in ahead if now < span[1]), None)

    def trading_day(self, listing: Listing, now: float) -> Span:
        """The day whose open, high, low and volume are told: its span, which may have begun the evening before."""
        if self.always:
            return day_span(listing, now)
        begun = (span for span in _back(listing, now + 1e-3, regular=False) if span[0] <= now)
        return next(begun, day_span(listing, now))

    def sessions_back(self, listing: Listing, end: float, *, regular: bool) -> Iterator[Span]:
        """Sessions that began before `end`, the latest first: regular hours, or all of them."""
        return _back(listing, end, regular=regular, always=self.always)

    def open_spans(self, listing: Listing, begin: float, end: float) -> Iterator[Span]:
        """The parts of a span in which it trades, the earliest first."""
        if self.always:
            yield begin, end
            return
        for opening, closing in _ahead(listing, begin, regular=False, days=int((end - begin) // 86400) + 3):
            if opening >= end:
                return
            if closing > begin:
                yield max(begin, opening), min(end, closing)


def _session(listing: Listing, midnight: datetime, *, regular: bool) -> Span | None:
    return _span_of(listing.hours[1 if regular else 0], _kind(listing), listing.time_zone, midnight.date(), regular)


@lru_cache(maxsize=1 << 14)
def _span_of(hours: str, sec_type: str, time_zone: str, day: date, regular: bool) -> Span | None:
    """Kept, since every listing of a kind asks for the same days again and again."""
    found = _clocks_on(hours, sec_type, day, regular=regular)
    if found is None:
        return None
    opening, closing = (timedelta(hours=int(clock[:2]), minutes=int(clock[2:])) for clock in found)
    # A session that ends earlier on the clock than it begins has begun the evening before.
    midnight = datetime(day.year, day.month, day.day)
    begin = midnight + opening - timedelta(days=1 if closing <= opening else 0)
    zone = _zone(time_zone)
    return begin.replace(tzinfo=zone).timestamp(), (midnight + closing).replace(tzinfo=zone).timestamp()


def _kind(listing: Listing) -> str:
    """Whose calendar a contract keeps; outside the United States nothing but the world's holidays is simulated."""
    return listing.sec_type if listing.time_zone.startswith("US/") else _NEVER_EARLY


def _clocks_of(listing: Listing, day: date, *, regular: bool) -> tuple[str, str] | None:
    return _clocks_on(listing.hours[1 if regular else 0], _kind(listing), day, regular=regular)


def _clocks_on(hours: str, sec_type: str, day: date, *, regular: bool) -> tuple[str, str] | None:
    """Opening and close of one day, as "0930" and "1600"; None when there is no session."""
    opening, closing = hours.split("-")
    is_stock_like = sec_type not in ("FUT", _NEVER_EARLY)
    closed = holidays(day.year) if is_stock_like else world_holidays(day.year)
    if day.weekday() >= 5 or day in closed:
        return None
    if sec_type != _NEVER_EARLY:
        # Futures go on at half speed on the stock exchanges' holidays.
        early = early_closes(day.year) | (frozenset() if is_stock_like else holidays(day.year))
        if day in early:
            closing = min(closing, _EARLY.get(sec_type, _EARLY_ELSE)[0 if regular else 1])
    return opening, closing


def _back(listing: Listing, end: float, *, regular: bool, always: bool = False) -> Iterator[Span]:
    day = midnight_of(listing, end) + timedelta(days=1)
    for _ in range(MAX_DAYS):
        whole = always and not regular
        session = _whole_day(day) if whole else _session(listing, day, regular=regular)
        if session is not None and session[0] < end:
            yield session
        day -= timedelta(days=1)


def _ahead(listing: Listing, now: float, *, regular: bool, days: int = MAX_CLOSED_DAYS) -> Iterator[Span]:
    """Sessions from the one of this day's on; one that has begun the evening before belongs to the day after."""
    day = midnight_of(listing, now)
    for ahead in range(days):
        session = _session(listing, day + timedelta(days=ahead), regular=regular)
        if session is not None:
            yield session


def _whole_day(midnight: datetime) -> Span:
    return midnight.timestamp(), (midnight + timedelta(days=1)).timestamp()


@lru_cache(maxsize=16)
def _zone(name: str) -> ZoneInfo:
    return ZoneInfo(name)
