"""The path that one price process takes, known at every quarter of a second of all time, from a seed.

It is drawn from the large to the small. A day has an opening, a high, a low and a close; it is divided into hours that
begin and end where their neighbours do, of which one reaches the day's high and one its low; an hour is divided into
minutes in the same way, and so on down to the second, whose four quarters are its opening, its extremes and its close.
So any span of any past or future can be asked for, in any order and in any process, and the bars of one width are made
of the bars of every narrower one, down to the ticks: exactly, and without looking at those.

Values are in units of the root's volatility: a walk that wanders 1 in a year.
"""

from __future__ import annotations

import math
from collections.abc import Iterator
from functools import lru_cache
from typing import NamedTuple

from ibkr_gateway_server.simulator.market.chance import mixed, scramble, uniform

QUOTES_PER_S = 4
DAY_S = 86400
YEAR_S = 365.25 * DAY_S

# How a day is divided, and what each part is divided into: hours, minutes, five seconds, seconds.
_PARTS = (24, 60, 12, 5)
_SLOTS = (DAY_S * QUOTES_PER_S, 3600 * QUOTES_PER_S, 60 * QUOTES_PER_S, 5 * QUOTES_PER_S, QUOTES_PER_S, 1)
# The width of one part's wandering at each division.
_WIDTHS = tuple(math.sqrt(slots / QUOTES_PER_S / YEAR_S) for slots in _SLOTS[1:-1])
_SECOND = len(_SLOTS) - 2

# Where days begin: layers of noise over spans a factor of four apart, the longest most of a year. A sum of bounded
# layers, unlike a walk, stays near its level however far away the day is.
_DAYS = (1, 4, 16, 64, 256)
_DAY_WIDTHS = tuple(math.sqrt(days * DAY_S / YEAR_S) for days in _DAYS)

_BITS = 21
_UNIT = 1.0 / (1 << _BITS)
_LOW_BITS = (1 << _BITS) - 1
# The sum of two uniform numbers, less one, has a variance of a sixth.
_SPREAD = math.sqrt(6.0)
# The farthest an extreme goes beyond the ends of its part, in widths.
_REACH = 0.6


class Range(NamedTuple):
    """What a process does in a span: where it begins, its extremes, where it ends."""

    open: float
    high: float
    low: float
    close: float


class Path:
    """One process. `seed` and `number` decide it."""

    def __init__(self, seed: int, number: int) -> None:
        self._seed = seed
        self._number = number
        # The parts of days, hours, minutes, five seconds and seconds that have been asked for. Bars of a year need its
        # days and hours, ticks their own surroundings.
        self._parts = lru_cache(maxsize=1 << 14)(self._divided)
        self._starts = lru_cache(maxsize=1 << 14)(self._start_of_day)

    def value(self, slot: int) -> float:
        """The value in one quarter of a second, counted from the epoch."""
        second, quarter = divmod(slot, QUOTES_PER_S)
        parent, place = divmod(second, _PARTS[_SECOND - 1])
        begin, high, low, end = self._parts(_SECOND - 1, parent)[place]
        if quarter == 0:
            return begin
        if quarter == QUOTES_PER_S - 1:
            return end
        return low if (quarter == 1) == (end >= begin) else high

    def span(self, begin: int, end: int) -> Range:
        """The range over the quarters from `begin` up to, not including, `end`: at least one."""
        whole = [self._node(level, index) for level, index in _cover(begin, end)]
        if len(whole) == 1:
            return whole[0]
        return Range(whole[0][0], max(part[1] for part in whole), min(part[2] for part in whole), whole[-1][3])

    def _node(self, level: int, index: int) -> Range:
        if level == 0:
            return self._day(index)
        if level > _SECOND:
            value = self.value(index)
            return Range(value, value, value, value)
        parent, place = divmod(index, _PARTS[level - 1])
        return self._parts(level - 1, parent)[place]

    def _day(self, day: int) -> Range:
        begin, end = self._starts(day), self._starts(day + 1)
        width = _DAY_WIDTHS[0]
        above, below = (uniform(self._seed, self._number, day, side) * width * 0.4 for side in (1, 2))
        return Range(begin, max(begin, end) + above, min(begin, end) - below, end)

    def _start_of_day(self, day: int) -> float:
        wander = 0.0
        for layer, span in enumerate(_DAYS):
            index, rest = divmod(day, span)
            part = rest / span
            before, after = (uniform(self._seed, self._number, layer, index + step) * 2 - 1 for step in (0, 1))
            wander += (before + (after - before) * part * part * (3 - 2 * part)) * _DAY_WIDTHS[layer]
        return wander

    def _divided(self, level: int, index: int) -> tuple[Range, ...]:
        """The parts of one day, hour, minute, five seconds or second."""
        chance = mixed(self._seed, self._number, level + 16, index)
        return _divide(self._node(level, index), _PARTS[level], _WIDTHS[level], chance)


def _divide(whole: Range, count: int, width: float, chance: int) -> tuple[Range, ...]:
    """Parts that begin where the one before ended and that reach the whole's extremes, each once at least."""
    _, high, low, _ = whole
    moves, above, below = [], [], []
    for _ in range(count):
        chance = scramble(chance)
        one, other, third = chance & _LOW_BITS, (chance >> _BITS) & _LOW_BITS, chance >> (2 * _BITS)
        moves.append(((one + other) * _UNIT - 1.0) * width * _SPREAD)
        above.append((third & 2047) / 2047 * width * _REACH)
        below.append((third >> 11) / 2047 * width * _REACH)
    points = _bridge(whole, moves)
    tops = [min(high, max(points[part], points[part + 1]) + above[part]) for part in range(count)]
    bottoms = [max(low, min(points[part], points[part + 1]) - below[part]) for part in range(count)]
    tops[tops.index(max(tops))] = high
    bottoms[bottoms.index(min(bottoms))] = low
    return tuple(Range(points[part], tops[part], bottoms[part], points[part + 1]) for part in range(count))


def _bridge(whole: Range, moves: list[float]) -> list[float]:
    """A walk of these moves from the whole's beginning to its end, fitted between its extremes."""
    begin, high, low, end = whole
    count = len(moves)
    drift = (end - begin) / count
    excess = sum(moves) / count
    away, walked = [], 0.0
    for move in moves[:-1]:
        walked += move - excess
        away.append(walked)
    up = down = 2.0
    for place, distance in enumerate(away, 1):
        base = begin + drift * place
        if distance > 0:
            up = min(up, (high - base) * 0.97 / distance)
        elif distance < 0:
            down = min(down, (base - low) * 0.97 / -distance)
    fitted = (
        begin + drift * place + distance * (up if distance > 0 else down) for place, distance in enumerate(away, 1)
    )
    return [begin, *fitted, end]


def _cover(begin: int, end: int) -> Iterator[tuple[int, int]]:
    """The fewest days, hours, minutes and so on that a span is made of: the level and number of each."""
    while begin < end:
        level = next(level for level, slots in enumerate(_SLOTS) if begin % slots == 0 and begin + slots <= end)
        yield level, begin // _SLOTS[level]
        begin += _SLOTS[level]
