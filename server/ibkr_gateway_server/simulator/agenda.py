"""What is due when: the simulated gateway's time and the things that happen in it, in order."""

from __future__ import annotations

import heapq
import itertools
from collections.abc import Callable
from dataclasses import dataclass, field


@dataclass(order=True)
class _Event:
    time: float
    number: int
    act: Callable[[], None] = field(compare=False)


class Agenda:
    """The time, in epoch seconds, and what is due later. Time never goes back."""

    def __init__(self, now: float) -> None:
        self.now = now
        self._events: list[_Event] = []
        self._numbers = itertools.count()

    @property
    def next_time(self) -> float | None:
        """When something is due next; None: nothing is."""
        return self._events[0].time if self._events else None

    def at(self, time: float, act: Callable[[], None]) -> None:
        """Do this at a time; what is due at the same time is done in the order of asking."""
        heapq.heappush(self._events, _Event(time, next(self._numbers), act))

    def later(self, delay_s: float, act: Callable[[], None]) -> None:
        """Do this so many seconds from now."""
        self.at(self.now + delay_s, act)

    def move_to(self, time: float) -> None:
        """It is this time now."""
        self.now = max(self.now, time)

    def run_next(self) -> None:
        """Do what is due next, at its time."""
        event = heapq.heappop(self._events)
        self.move_to(event.time)
        event.act()
