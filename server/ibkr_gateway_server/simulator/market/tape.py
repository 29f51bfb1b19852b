"""A tape: recorded quotes and trades that take the place of a price process.

A CSV file with a heading: `time,symbol,bid,ask,last,bid_size,ask_size,last_size`; sizes may be left out. Time is
ISO 8601 with a zone ("2026-11-23T09:30:00-05:00", "...Z") or epoch seconds. A symbol is a stock's, or a contract's
local symbol ("ESZ6"), or a pair ("EUR.USD"). Rows of one symbol are in the order of time. An empty price is the one
before. The finest that is kept is a quarter of a second: of several rows in one, the last.
"""

from __future__ import annotations

import csv
import math
from bisect import bisect_left, bisect_right
from collections.abc import Iterable
from dataclasses import dataclass, field
from datetime import datetime

from ibkr_gateway_server.simulator.market.path import QUOTES_PER_S, Range

_NEEDED = ("time", "symbol", "bid", "ask", "last")
# Before and after, calendars and contracts make no sense.
EARLIEST_S, LATEST_S = 1104537600.0, 4102444799.0
_SIZES = ("bid_size", "ask_size", "last_size")


class BadTape(ValueError):
    """A tape that cannot be played, with its line and what is wrong there."""


@dataclass(frozen=True, slots=True)
class Row:
    """One recorded moment."""

    bid: float
    ask: float
    last: float
    bid_size: int = 100
    ask_size: int = 100
    last_size: int = 100

    @property
    def middle(self) -> float:
        """Halfway between bid and ask."""
        return (self.bid + self.ask) / 2


@dataclass(slots=True)
class Track:
    """One symbol's rows, by the quarter of a second from which on each holds."""

    slots: list[int] = field(default_factory=list)
    rows: list[Row] = field(default_factory=list)

    def at(self, slot: int) -> Row:
        """The row in force; before the first one it is the first."""
        return self.rows[max(bisect_right(self.slots, slot) - 1, 0)]

    def between(self, begin: int, end: int) -> list[Row]:
        """The row in force at `begin` and those that follow it before `end`."""
        first = max(bisect_right(self.slots, begin) - 1, 0)
        return self.rows[first : max(bisect_left(self.slots, end), first + 1)]

    def value(self, slot: int) -> float:
        """The middle in one quarter of a second."""
        return self.at(slot).middle

    def span(self, begin: int, end: int) -> Range:
        """The range of the middle."""
        middles = [row.middle for row in self.between(begin, end)]
        return Range(middles[0], max(middles), min(middles), middles[-1])

    def add(self, slot: int, row: Row) -> None:
        """Append a row. Raises ValueError when it is older than the last."""
        if self.slots and slot < self.slots[-1]:
            raise ValueError("rows of one symbol must be in the order of time")
        if self.slots and slot == self.slots[-1]:
            self.rows[-1] = row
        else:
            self.slots.append(slot)
            self.rows.append(row)


@dataclass(frozen=True, slots=True)
class Tape:
    """Tracks by symbol."""

    tracks: dict[str, Track]

    @property
    def begin(self) -> float:
        """When the first row is, in epoch seconds."""
        return min(track.slots[0] for track in self.tracks.values()) / QUOTES_PER_S

    @classmethod
    def read(cls, lines: Iterable[str]) -> Tape:
        """A tape from the lines of a CSV file. Raises BadTape, which names the line."""
        reader = csv.DictReader(lines)
        try:
            return cls._played(reader)
        except csv.Error as error:
            # A line is counted once it has been read.
            raise BadTape(f"line {reader.line_num + 1}: {error}") from None

    @classmethod
    def _played(cls, reader: csv.DictReader[str]) -> Tape:
        heading = reader.fieldnames or []
        missing = [name for name in _NEEDED if name not in heading]
        if missing:
            raise BadTape(f"line 1: the heading lacks {', '.join(missing)}; it is {','.join((*_NEEDED, *_SIZES))}")
        tracks: dict[str, Track] = {}
        for record in reader:
            try:
                symbol = (record["symbol"] or "").strip()
                if not symbol:
                    raise ValueError("there is no symbol")
                track = tracks.setdefault(symbol, Track())
                track.add(
                    int(moment(record["time"] or "") * QUOTES_PER_S),
                    _row(record, track.rows[-1] if track.rows else None),
                )
            except ValueError as error:
                raise BadTape(f"line {reader.line_num}: {error}") from None
        if not tracks:
            raise BadTape("line 2: there are no rows")
        return cls(tracks)


def moment(text: str) -> float:
    """A time as epoch seconds. Raises ValueError, which says how to write one."""
    try:
        seconds = float(text)
    except ValueError:
        try:
            written = datetime.fromisoformat(text.strip())
        except ValueError:
            raise ValueError(f"{text!r} is not a time; write 2026-11-23T14:30:00Z or epoch seconds") from None
        if written.tzinfo is None:
            raise ValueError(f"{text!r} has no time zone; add Z or an offset") from None
        seconds = written.timestamp()
    if not EARLIEST_S <= seconds <= LATEST_S:
        raise ValueError(f"{text!r} is not a time from 2005 to 2099")
    return seconds


def _row(record: dict[str, str], before: Row | None) -> Row:
    prices: dict[str, float] = {}
    for name in ("bid", "ask", "last"):
        text = (record[name] or "").strip()
        if not text and before is None:
            raise ValueError(f"the first row of a symbol needs a {name}")
        prices[name] = _number(name, text) if text else getattr(before, name)
    if prices["bid"] >= prices["ask"]:
        raise ValueError(f"the bid {prices['bid']:g} is not below the ask {prices['ask']:g}")
    sizes = {name: int(_number(name, text)) for name in _SIZES if (text := (record.get(name) or "").strip())}
    return Row(prices["bid"], prices["ask"], prices["last"], **sizes)


def _number(name: str, text: str) -> float:
    try:
        value = float(text)
    except ValueError:
        raise ValueError(f"{name} {text!r} is not a number") from None
    if not (math.isfinite(value) and value > 0):
        raise ValueError(f"{name} {text!r} is not above 0")
    return value
