"""Opening hours as contract details spell them: "20260406:0400-20260406:2000;20260407:CLOSED", in the exchange's zone.

What is told of a day is believed; a day that is not told of is not a closed one.
"""

from __future__ import annotations

import math
import re
from datetime import UTC, date, datetime, timedelta

from ibkr_gateway_server.broker.time_zones import zone_of
from ibkr_gateway_server.domain.errors import NoData
from ibkr_gateway_server.domain.instruments import ContractDetails, TradingSchedule, TradingSession

_SESSION = re.compile(r"(\d{8}:\d{4})-(\d{8}:\d{4})")
_CLOSED = re.compile(r"(\d{8}):CLOSED")

# A session that ends at midnight is the ended day's.
_BEFORE_MIDNIGHT = timedelta(minutes=1)


def sessions_of(text: str, time_zone: str) -> tuple[TradingSession, ...]:
    """The sessions in UTC; none where the zone is not known. A span that cannot be read is left out."""
    zone = zone_of(time_zone)
    if zone is None:
        return ()
    spans = (_span(opening, closing) for opening, closing in _SESSION.findall(text))
    return tuple(
        TradingSession(*(moment.replace(tzinfo=zone).astimezone(UTC) for moment in span))
        for span in spans
        if span is not None
    )


def last_day_of(text: str, time_zone: str) -> date | None:
    """The last day that is told of, open or closed; of what comes after one that cannot be read nothing is believed."""
    if zone_of(time_zone) is None:
        return None
    last: date | None = None
    for part in filter(None, re.split("[;,]", text)):
        day = _day_of(part)
        if day is None:
            # The day before may go on in what cannot be read.
            return last and last - timedelta(days=1)
        last = max(last or day, day)
    return last


def schedule_of(details: ContractDetails, now: datetime, day_count: int) -> TradingSchedule:
    """The sessions of so many days, today at the exchange the first. Raises NoData when nothing is told of today."""
    zone = zone_of(details.time_zone)
    last = details.hours_last_date
    if zone is None or last is None or last < (today := now.astimezone(zone).date()):
        raise NoData(f"the opening hours of {details.instrument.label()}", 0)
    last = min(last, today + timedelta(days=day_count - 1))

    def within(session: TradingSession) -> bool:
        return today <= (session.close_time - _BEFORE_MIDNIGHT).astimezone(zone).date() <= last

    return TradingSchedule(
        details.time_zone,
        tuple(sorted(filter(within, details.regular_sessions), key=_opening)),
        tuple(sorted(filter(within, details.trading_sessions), key=_opening)),
        last,
    )


def open_for_s(details: ContractDetails | None, now: datetime) -> float:
    """Seconds for which the contract has been trading; 0.0 while it is not, infinity where its hours are not known."""
    if details is None or details.hours_last_date is None:
        return math.inf
    for session in details.trading_sessions:
        if session.open_time <= now < session.close_time:
            return (now - session.open_time).total_seconds()
    return math.inf if have_run_out(details, now) else 0.0


def have_run_out(details: ContractDetails, now: datetime) -> bool:
    """Whether hours were told, and of days that have passed."""
    zone = zone_of(details.time_zone)
    last = details.hours_last_date
    return zone is not None and last is not None and last < now.astimezone(zone).date()


def silence_s(details: ContractDetails | None, since: datetime, now: datetime) -> float:
    """Seconds of silence that mean something: of a market that is closed none do, of one that opened those since."""
    elapsed_s = (now - since).total_seconds()
    return min(elapsed_s, open_for_s(details, now)) if elapsed_s > 0 else 0.0


def _span(opening: str, closing: str) -> tuple[datetime, datetime] | None:
    try:
        return datetime.strptime(opening, "%Y%m%d:%H%M"), datetime.strptime(closing, "%Y%m%d:%H%M")
    except ValueError:
        return None


def _day_of(part: str) -> date | None:
    if (found := _SESSION.fullmatch(part)) is not None:
        span = _span(found[1], found[2])
        return span and (span[1] - _BEFORE_MIDNIGHT).date()
    if (found := _CLOSED.fullmatch(part)) is None:
        return None
    try:
        return datetime.strptime(found[1], "%Y%m%d").date()
    except ValueError:
        return None


def _opening(session: TradingSession) -> datetime:
    return session.open_time
