"""Charts as lines of text, from numbers alone: a sparkline, a line, and candles with their volume.

Nothing here knows a terminal or a colour: a candle that fell is drawn thick and one that rose thin. No function returns
more lines than its height or longer ones than its width; what does not fit is left out, the axis and the labels first.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

ROSE, FELL = "┃╻╹╽╿", "█▀▄"
"""The signs of a body that rose and of one that fell."""

_LEVELS = "▁▂▃▄▅▆▇█"
_BRAILLE = 0x2800
# The dots of a braille sign, by column and by row from the top (Unicode, "Braille Patterns").
_DOTS = ((0x01, 0x02, 0x04, 0x40), (0x08, 0x10, 0x20, 0x80))
_MOST_STEP = 3
# From these heights on there is room for a row of labels, and for the strip of volumes.
_LABELS_FROM, _VOLUME_FROM, _VOLUME_ROWS = 4, 9, 2
_ROWS_PER_TICK = 4
_MOST_DIGITS = 6
_LABEL_GAP = 3


@dataclass(frozen=True, slots=True)
class Candle:
    """The prices of one span of time."""

    open: float
    high: float
    low: float
    close: float
    volume: float | None = None
    """None: not known."""
    label: str = ""
    """When it was; shown below where there is room."""


def sparkline(values: Sequence[float | None], width: int) -> str:
    """The newest `width` values, a sign each: the lowest of them ▁, the highest █; a blank where there is none."""
    newest = list(values[-width:]) if width > 0 else []
    known = [value for value in newest if value is not None]
    if not known:
        return " " * len(newest)
    scale = _Scale(min(known), max(known), len(_LEVELS))
    return "".join(" " if value is None else _LEVELS[scale.place(value)] for value in newest)


def line(
    values: Sequence[float | None], width: int, height: int, labels: Sequence[str] = (), digits: int = 2
) -> list[str]:
    """A line through all values, oldest on the left, broken where one is None; `labels` has one for each or none.

    Prices at the axis have at least `digits` digits behind the point.
    """
    known = [value for value in values if value is not None]
    if not known or width < 1 or height < 1:
        return []
    frame = _Frame.of(min(known), max(known), width, height, digits)
    rows = frame.height - (1 if any(labels) and height >= _LABELS_FROM else 0)
    across, scale = frame.columns * 2, _Scale(frame.low, frame.high, rows * 4)
    last = max(len(values) - 1, 1)
    points = [
        None if value is None else (at * (across - 1) // last, scale.place(value)) for at, value in enumerate(values)
    ]
    drawn = frame.with_axis(_braille(points, frame.columns, rows))
    if rows < frame.height:
        places = [(at * (across - 1) // last // 2, label) for at, label in enumerate(labels)]
        drawn.append(frame.below(places))
    return drawn


def candles(bars: Sequence[Candle | None], width: int, height: int, digits: int = 2) -> list[str]:
    """Candles, oldest on the left, with a price axis, their volumes and labels; None is an empty place.

    Where there are more than columns, neighbours are drawn as one, with the extremes of them all. Prices at the axis
    have at least `digits` digits behind the point.
    """
    frame = _frame_of(bars, width, height, digits)
    if frame is None:
        return []
    shown = merged(bars, frame.columns)
    step = max(1, min(_MOST_STEP, frame.columns // len(shown)))
    rows, has_volume, has_labels = _shares(shown, height)
    scale = _Scale(frame.low, frame.high, rows * 2)
    stacks = [[" "] * rows if bar is None else _stack(bar, scale, rows) for bar in shown]
    gap = " " * (step - 1)
    drawn = frame.with_axis([gap.join(stack[row] for stack in stacks) for row in range(rows)])
    if has_volume:
        drawn += frame.volume_strip([bar.volume if bar else None for bar in shown], gap)
    if has_labels:
        drawn.append(frame.below([(at * step, bar.label) for at, bar in enumerate(shown) if bar is not None]))
    return drawn


def bars_in_each(bars: Sequence[Candle | None], width: int, height: int, digits: int = 2) -> int:
    """How many bars each candle of `candles` is drawn from."""
    frame = _frame_of(bars, width, height, digits)
    return -(-len(bars) // frame.columns) if frame else 0


def _frame_of(bars: Sequence[Candle | None], width: int, height: int, digits: int) -> _Frame | None:
    known = [bar for bar in bars if bar is not None]
    if not known or width < 1 or height < 1:
        return None
    return _Frame.of(min(bar.low for bar in known), max(bar.high for bar in known), width, height, digits)


def price_rows(bars: Sequence[Candle | None], height: int) -> int:
    """How many of the lines of `candles`, from the top, have prices in them."""
    return _shares(bars, height)[0]


def merged(bars: Sequence[Candle | None], most: int) -> list[Candle | None]:
    """No more than `most` candles of the same time: neighbours as one."""
    each = -(-len(bars) // most)
    groups = [bars[start : start + each] for start in range(0, len(bars), each)]
    return [_as_one([bar for bar in group if bar is not None]) for group in groups]


def _as_one(bars: Sequence[Candle]) -> Candle | None:
    if len(bars) < 2:
        return bars[0] if bars else None
    volumes = [bar.volume for bar in bars if bar.volume is not None]
    high, low = max(bar.high for bar in bars), min(bar.low for bar in bars)
    return Candle(bars[0].open, high, low, bars[-1].close, sum(volumes) if volumes else None, bars[0].label)


def _shares(bars: Sequence[Candle | None], height: int) -> tuple[int, bool, bool]:
    """Rows for the prices, and whether there are the volumes and the labels."""
    has_volume = height >= _VOLUME_FROM and any(bar is not None and bar.volume is not None for bar in bars)
    has_labels = height >= _LABELS_FROM and any(bar is not None and bar.label for bar in bars)
    return height - _VOLUME_ROWS * has_volume - has_labels, has_volume, has_labels


def _stack(bar: Candle, scale: _Scale, rows: int) -> list[str]:
    """One candle from the top to the bottom; each row is two halves, with nothing, wick or body in each."""
    bottom, top = sorted((scale.place(bar.open), scale.place(bar.close)))
    low, high = scale.place(bar.low), scale.place(bar.high)
    halves = [2 if bottom <= half <= top else 1 if low <= half <= high else 0 for half in range(rows * 2)]
    signs = _FALLING if bar.close < bar.open else _RISING
    return [signs[halves[row * 2 + 1], halves[row * 2]] for row in reversed(range(rows))]


_WICK = {(0, 0): " ", (1, 1): "│", (1, 0): "╵", (0, 1): "╷"}
# The half above, the half below.
_RISING = {**_WICK, (2, 2): "┃", (2, 0): "╹", (0, 2): "╻", (1, 2): "╽", (2, 1): "╿"}
_FALLING = {**_WICK, (2, 2): "█", (2, 0): "▀", (0, 2): "▄", (1, 2): "▄", (2, 1): "▀"}


@dataclass(frozen=True, slots=True)
class _Scale:
    """Prices as places: the lowest is 0, the highest `places - 1`; all in the middle where they are equal."""

    low: float
    high: float
    places: int

    def place(self, price: float) -> int:
        """Where a price is."""
        if self.high <= self.low:
            return (self.places - 1) // 2
        share = (price - self.low) / (self.high - self.low)
        return max(0, min(self.places - 1, round(share * (self.places - 1))))


@dataclass(frozen=True, slots=True)
class _Frame:
    """What is around a drawing: the axis with its prices."""

    low: float
    high: float
    columns: int
    """For the drawing."""
    height: int
    margin: int
    """Width of the prices; 0: there is no room for an axis."""
    digits: int

    @classmethod
    def of(cls, low: float, high: float, width: int, height: int, digits: int) -> _Frame:
        """The frame of prices from `low` to `high`."""
        between = (high - low) / max(1, height // _ROWS_PER_TICK)
        needed = math.ceil(-math.log10(between)) if between > 0 else 0
        shown = max(digits, min(_MOST_DIGITS, needed))
        margin = max(len(f"{price:,.{shown}f}") for price in (low, high))
        # An axis that takes more than half is none.
        margin = margin if (margin + 2) * 2 <= width else 0
        return cls(low, high, width - (margin + 2 if margin else 0), height, margin, shown)

    def with_axis(self, rows: Sequence[str]) -> list[str]:
        """The rows with prices in front: at the top the highest, at the bottom the lowest."""
        if not self.margin:
            return [row.rstrip() for row in rows]
        last = len(rows) - 1
        ticks: dict[int, float] = {}
        if self.high <= self.low or not last:
            ticks[last // 2 if last % 2 == 0 else last // 2 + 1] = self.high
        else:
            count = max(1, round(last / _ROWS_PER_TICK))
            for tick in range(count + 1):
                row = round(tick * last / count)
                ticks[row] = self.high - (self.high - self.low) * row / last
        return [self._front(ticks.get(at)) + row.rstrip() for at, row in enumerate(rows)]

    def _front(self, price: float | None) -> str:
        if price is None:
            return " " * self.margin + " │"
        return f"{price:>{self.margin},.{self.digits}f} ┤"

    def volume_strip(self, volumes: Sequence[float | None], gap: str) -> list[str]:
        """Volumes as columns that stand on the ground; the largest fills the strip, any other than 0 is seen."""
        most = max((volume for volume in volumes if volume is not None), default=0.0)
        eighths = [
            math.ceil(volume / most * _VOLUME_ROWS * 8) if volume and most > 0 and volume > 0 else 0
            for volume in volumes
        ]
        drawn = []
        for row in reversed(range(_VOLUME_ROWS)):
            levels = [max(0, min(8, eighth - row * 8)) for eighth in eighths]
            signs = gap.join(_LEVELS[level - 1] if level else " " for level in levels)
            front = short(most) if row == _VOLUME_ROWS - 1 and len(short(most)) <= self.margin else ""
            drawn.append(((f"{front:>{self.margin}}  " if self.margin else "") + signs).rstrip())
        return drawn

    def below(self, places: Sequence[tuple[int, str]]) -> str:
        """The labels that fit, each from its column on."""
        text = ""
        for column, label in places:
            is_free = not text or column >= len(text) + _LABEL_GAP
            if label and is_free and column + len(label) <= self.columns:
                text = text.ljust(column) + label
        front = " " * (self.margin + 2) if self.margin else ""
        return (front + text).rstrip()


def short(count: float) -> str:
    """A count in four signs or so: 950, 12K, 3.4M."""
    for unit, size in (("B", 1e9), ("M", 1e6), ("K", 1e3)):
        if abs(count) >= size:
            return f"{count / size:.{1 if abs(count) < 10 * size else 0}f}{unit}"
    return f"{count:.0f}"


def _braille(points: Sequence[tuple[int, int] | None], columns: int, rows: int) -> list[str]:
    """Points, from the left and from the bottom, joined; a braille sign has two dots across and four up."""
    cells = [[0] * columns for _ in range(rows)]
    before: tuple[int, int] | None = None
    for point in points:
        if point is not None:
            for across, up in _between(before or point, point):
                down = rows * 4 - 1 - up
                cells[down // 4][across // 2] |= _DOTS[across % 2][down % 4]
        before = point
    return ["".join(chr(_BRAILLE + dots) if dots else " " for dots in row) for row in cells]


def _between(start: tuple[int, int], end: tuple[int, int]) -> list[tuple[int, int]]:
    """The dots from one to the other, both with them."""
    across, up = end[0] - start[0], end[1] - start[1]
    steps = max(abs(across), abs(up), 1)
    return [(start[0] + round(across * step / steps), start[1] + round(up * step / steps)) for step in range(steps + 1)]
