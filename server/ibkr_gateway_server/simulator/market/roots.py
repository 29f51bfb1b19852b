"""The prices that contracts follow: one process for each root, moved by hand where someone wants it elsewhere."""

from __future__ import annotations

import math
from collections.abc import Iterator
from typing import Protocol

from ibkr_gateway_server.simulator.listings import Root
from ibkr_gateway_server.simulator.market.path import Path, Range


class Process(Protocol):
    """Something that has a value in every quarter of a second."""

    def value(self, slot: int) -> float: ...
    def span(self, begin: int, end: int) -> Range: ...


class SeededPrice:
    """A root's level times the exponential of its path."""

    def __init__(self, root: Root, path: Path) -> None:
        self._root = root
        self._path = path

    def value(self, slot: int) -> float:
        """The price in one quarter of a second."""
        return self._price(self._path.value(slot))

    def span(self, begin: int, end: int) -> Range:
        """The range of prices: the exponential of the path's, since it rises with it."""
        return Range(*map(self._price, self._path.span(begin, end)))

    def _price(self, wander: float) -> float:
        return self._root.level * math.exp(self._root.volatility * wander)


class ScaledPrice:
    """A root whose price is taped at one of its listings, which stands at `scale` times the root."""

    def __init__(self, taped: Process, scale: float) -> None:
        self._taped = taped
        self._scale = scale

    def value(self, slot: int) -> float:
        """The root's price in one quarter of a second."""
        return self._taped.value(slot) / self._scale

    def span(self, begin: int, end: int) -> Range:
        """The root's range."""
        return Range(*(price / self._scale for price in self._taped.span(begin, end)))


class RootPrice:
    """A root's price, and the factors by which it has been moved from some moments on."""

    def __init__(self, process: Process) -> None:
        self._process = process
        self._moves: list[tuple[int, float]] = []

    def value(self, slot: int) -> float:
        """The price in one quarter of a second."""
        return self._process.value(slot) * self._factor(slot)

    def move(self, slot: int, factor: float) -> None:
        """Multiply the price from a quarter of a second on."""
        self._moves = [*(move for move in self._moves if move[0] < slot), (slot, self._factor(slot) * factor)]

    def pieces(self, begin: int, end: int) -> Iterator[tuple[int, int]]:
        """The parts of a span between moves."""
        for slot, _ in self._moves:
            if begin < slot < end:
                yield begin, slot
                begin = slot
        yield begin, end

    def span(self, begin: int, end: int) -> Range:
        """The range over a span without a move in it."""
        found = self._process.span(begin, end)
        factor = self._factor(begin)
        return found if factor == 1.0 else Range(*(price * factor for price in found))

    def _factor(self, slot: int) -> float:
        for since, factor in reversed(self._moves):
            if slot >= since:
                return factor
        return 1.0
