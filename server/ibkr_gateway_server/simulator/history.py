"""Historical requests: IBKR's spellings of widths and spans, and the spans that bars cover."""

from __future__ import annotations

import itertools
import math
from collections.abc import Iterator
from dataclasses import dataclass, replace
from datetime import UTC, datetime
from zoneinfo import ZoneInfo

from ibkr_gateway_server.simulator.hours import Span, TradingHours, day_span, midnight_of
from ibkr_gateway_server.simulator.listings import Listing

# Source: TWS API, valid bar sizes, and the text of error 321; words and letters are both taken for weeks and months.
BAR_SIZES = {
    **{f"{count} secs": count for count in (1, 5, 10, 15, 30)},
    "1 min": 60,
    **{f"{count} mins": count * 60 for count in (2, 3, 5, 10, 15, 20, 30)},
    "1 hour": 3600,
    **{f"{count} hours": count * 3600 for count in (2, 3, 4, 8)},
    "1 day": 86400,
    **dict.fromkeys(("1 week", "1W"), 7 * 86400),
    **dict.fromkeys(("1 month", "1M"), 30 * 86400),
}
_LEGAL_SIZES = (
    "1 secs, 5 secs, 10 secs, 15 secs, 30 secs, 1 min, 2 mins, 3 mins, 5 mins, 10 mins, 15 mins, 20 mins, 30 mins, "
    "1 hour, 2 hours, 3 hours, 4 hours, 8 hours, 1 day, 1W, 1M"
)
TRADED = frozenset({"TRADES", "ADJUSTED_LAST"})
SHOWN = TRADED | {
    *("MIDPOINT", "BID", "ASK", "BID_ASK", "HISTORICAL_VOLATILITY", "OPTION_IMPLIED_VOLATILITY", "SCHEDULE"),
}
# Kinds that exist, but not of anything that is listed here.
NEVER_SHOWN = frozenset({"FEE_RATE", "YIELD_BID", "YIELD_ASK", "YIELD_BID_ASK", "YIELD_LAST", "AGGTRADES"})
MAX_BARS = 20_000
DAY_S = 86400

_UNIT_DAYS = {"D": 1.0, "W": 7.0, "M": 30.44, "Y": 365.25}
# The longest span in each unit, and what is said of a longer one. Source: error 321 as users report it.
_LONGEST = {
    "S": (86400, "Historical data request for greater than 86400 seconds rejected."),
    "D": (365, "Historical data requests for durations longer than 365 days must be made in years."),
    "W": (52, "Historical data request for durations longer than 52 weeks must be made in years."),
    "M": (12, "Historical data request for durations longer than 12 months must be made in years."),
}


class BadRequest(ValueError):
    """A historical request that IBKR refuses, with its sentence."""


@dataclass(frozen=True, slots=True)
class BarSpan:
    """One bar's time: its label in epoch seconds, the sessions or parts of them it is about, and when it has ended."""

    label: int
    parts: tuple[Span, ...]
    whole: tuple[Span, ...]

    @classmethod
    def of(cls, label: float, *parts: Span) -> BarSpan:
        """A bar of all of these."""
        return cls(int(label), parts, parts)

    @property
    def begin(self) -> float:
        """From when it is."""
        return self.parts[0][0]

    @property
    def end(self) -> float:
        """Until when there is something of it."""
        return self.parts[-1][1]

    def until(self, now: float) -> BarSpan:
        """As much of it as there is now."""
        begun = tuple((begin, min(end, now)) for begin, end in self.whole if begin < now)
        return replace(self, parts=begun or self.whole[:1])


def width_of(size: str) -> int:
    """A bar size in seconds. Raises BadRequest with IBKR's text."""
    if size not in BAR_SIZES:
        raise BadRequest(f"Historical data bar size setting is invalid. Legal ones are: {_LEGAL_SIZES}")
    return BAR_SIZES[size]


def span_of(duration: str) -> tuple[int, str]:
    """ "2 W" as a count and a unit. Raises BadRequest with IBKR's text."""
    count, _, unit = duration.strip().partition(" ")
    unit = unit.upper()
    if not (count.isascii() and count.isdigit()) or unit not in ("S", *_UNIT_DAYS) or int(count[:9]) < 1:
        raise BadRequest("Historical data requested duration is invalid.")
    longest, refusal = _LONGEST.get(unit, (100, "Historical data requested duration is invalid."))
    if int(count[:9]) > longest:
        raise BadRequest(refusal)
    return int(count), unit


def end_of(text: str, now: float) -> float:
    """A request's end as epoch seconds; empty is now. Raises BadRequest with IBKR's text."""
    if not text:
        return now
    head, _, zone = text.replace("-", " ", 1).partition(" ")
    clock, _, zone = zone.strip().partition(" ")
    try:
        moment = datetime.strptime(f"{head} {clock or '23:59:59'}", "%Y%m%d %H:%M:%S")
        # Whatever is asked for, nothing is older than the epoch.
        return min(max(moment.replace(tzinfo=ZoneInfo(zone) if zone else UTC).timestamp(), 0.0), now)
    except (ValueError, KeyError, OSError, OverflowError):
        text = "Invalid date/time format. The correct format is yyyymmdd hh:mm:ss xx/xxxx or yyyymmdd-hh:mm:ss (UTC)."
        raise BadRequest(text) from None


def bar_spans(
    hours: TradingHours, listing: Listing, size: str, duration: str, end: float, *, regular: bool
) -> list[BarSpan]:
    """The bars of a request, oldest first. Raises BadRequest."""
    width, span = width_of(size), span_of(duration)
    sessions = list(_sessions(hours, listing, span, end, regular=regular or (hours.always and width >= DAY_S)))
    if width >= DAY_S:
        return [bar.until(end) for bar in _wide_bars(hours, listing, width, sessions, regular=regular)]
    found: list[list[BarSpan]] = []
    for since, begin, finish in sessions:
        found.append([bar.until(end) for bar in _narrow_bars(listing, width, since, begin, finish) if bar.begin < end])
        if sum(map(len, found)) > MAX_BARS:
            break
    return [bar for bars in reversed(found) for bar in bars][-MAX_BARS:]


def growing_bar(hours: TradingHours, listing: Listing, size: str, now: float, *, regular: bool) -> BarSpan | None:
    """The bar of this moment; None outside the hours that were asked for."""
    bars = bar_spans(hours, listing, size, "1 D" if width_of(size) >= DAY_S else "60 S", now, regular=regular)
    return bars[-1] if bars and bars[-1].begin < now <= bars[-1].end else None


def schedule(hours: TradingHours, listing: Listing, duration: str, end: float) -> list[Span]:
    """Regular hours within a span, oldest first. Raises BadRequest."""
    return [(begin, finish) for _, begin, finish in _sessions(hours, listing, span_of(duration), end, regular=True)][
        ::-1
    ]


def _sessions(
    hours: TradingHours, listing: Listing, span: tuple[int, str], end: float, *, regular: bool
) -> Iterator[tuple[float, float, float]]:
    """The sessions that a span reaches back over, the latest first: from when it counts, its beginning, its end."""
    count, unit = span
    back = hours.sessions_back(listing, end, regular=regular)
    if unit == "D":
        yield from ((begin, begin, finish) for begin, finish in itertools.islice(back, count))
    elif unit == "S":
        left = float(count)
        for begin, finish in back:
            # Seconds are seconds of trading: they reach back over a closed night.
            length = min(finish, end) - begin
            yield max(begin, min(finish, end) - left), begin, finish
            left -= length
            if left <= 0:
                return
    else:
        first = end - count * _UNIT_DAYS[unit] * DAY_S
        reached = itertools.takewhile(lambda session: session[1] > first, back)
        yield from ((begin, begin, finish) for begin, finish in reached)


def _narrow_bars(listing: Listing, width: int, since: float, begin: float, finish: float) -> Iterator[BarSpan]:
    """Bars within one session: on the clock's multiples of their width, so the first may be a short one."""
    midnight = midnight_of(listing, begin).timestamp()
    start = max(begin, midnight + math.floor((since - midnight) / width) * width)
    while start < finish:
        stop = min(midnight + (math.floor((start - midnight) / width) + 1) * width, finish)
        yield BarSpan.of(start, (start, stop))
        start = stop


def _wide_bars(
    hours: TradingHours, listing: Listing, width: int, sessions: list[tuple[float, float, float]], *, regular: bool
) -> list[BarSpan]:
    """Bars of days, weeks and months: of trading days, of their regular hours or the whole of them."""

    def group(session: tuple[float, float, float]) -> tuple[int, ...]:
        day = datetime.fromtimestamp(session[-1] - 1, ZoneInfo(listing.time_zone))
        if width == DAY_S:
            return (day.toordinal(),)
        return day.isocalendar()[:2] if width == 7 * DAY_S else (day.year, day.month)

    bars = []
    for _, members in itertools.groupby(reversed(sessions), group):
        days = list(members)
        label = midnight_of(listing, days[0][-1] - 1).timestamp()
        parts = [(begin, finish) for _, begin, finish in days]
        if hours.always and not regular:
            parts = [day_span(listing, finish - 1) for _, finish in parts]
        bars.append(BarSpan.of(label, *parts))
    return bars
