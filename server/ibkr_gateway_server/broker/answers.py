"""Answers that hold for a day: each question is asked once, by however many callers, and again when it failed."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Coroutine, Hashable
from datetime import date
from typing import Any, Generic, TypeVar

K = TypeVar("K", bound=Hashable)
V = TypeVar("V")

# A day's questions of a program that walks through option chains; the oldest make room for more.
KEPT = 10_000


class DayAnswers(Generic[K, V]):
    """Keeps `limit` answers of one kind until `today` is another day. Questions bound their own waits."""

    def __init__(self, today: Callable[[], date], limit: int = KEPT) -> None:
        self._today = today
        self._limit = limit
        self._day = today()
        self._asked: dict[K, asyncio.Future[V]] = {}

    def __len__(self) -> int:
        return len(self._asked)

    def know(self, question: K, answer: V) -> None:
        """Take an answer of today that was given before."""
        known: asyncio.Future[V] = asyncio.get_running_loop().create_future()
        known.set_result(answer)
        self._asked[question] = known

    def known(self, question: K) -> V | None:
        """The answer of today where it has come; None: it has to be asked for."""
        if self._day != self._today():
            return None
        task = self._asked.get(question)
        return task.result() if task is not None and task.done() and _has_answer(task) else None

    async def get(self, question: K, ask: Callable[[], Coroutine[Any, Any, V]]) -> V:
        """The answer of today, from `ask` where there is none yet. Raises what `ask` raises."""
        if self._day != self._today():
            # Expiries pass and opening hours move on: yesterday's answers are of no use.
            self._asked, self._day = {}, self._today()
        task = self._asked.get(question)
        if task is None or (task.done() and not _has_answer(task)):
            task = asyncio.ensure_future(ask())
            # Its callers may all have left when it fails; that is not an error of the program.
            task.add_done_callback(lambda done: done.cancelled() or done.exception())
            self._asked.pop(question, None)
            self._asked[question] = task
            while len(self._asked) > self._limit:
                del self._asked[next(iter(self._asked))]
        # Shielded: one caller's impatience must not fail the others who share the question.
        return await asyncio.shield(task)


def _has_answer(task: asyncio.Future[V]) -> bool:
    return not task.cancelled() and task.exception() is None
