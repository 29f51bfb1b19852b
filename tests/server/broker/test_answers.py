"""Answers that are kept for a day."""

from __future__ import annotations

import asyncio
from datetime import date

import pytest
from ibkr_gateway_server.broker.answers import DayAnswers


class Oracle:
    """Answers with how often it was asked."""

    def __init__(self) -> None:
        self.asked_count = 0
        self.fails = False
        self.gate = asyncio.Event()
        self.gate.set()

    async def ask(self) -> int:
        self.asked_count += 1
        await self.gate.wait()
        if self.fails:
            raise LookupError
        return self.asked_count


async def test_a_question_is_asked_once_a_day() -> None:
    day = date(2026, 11, 23)
    answers: DayAnswers[str, int] = DayAnswers(lambda: day)
    oracle = Oracle()
    assert await asyncio.gather(*(answers.get("a", oracle.ask) for _ in range(5))) == [1] * 5
    day = date(2026, 11, 24)
    assert await answers.get("a", oracle.ask) == 2
    assert len(answers) == 1


async def test_a_failure_is_shared_by_those_who_waited_and_not_kept() -> None:
    answers: DayAnswers[str, int] = DayAnswers(lambda: date(2026, 11, 23))
    oracle = Oracle()
    oracle.fails = True
    failures = await asyncio.gather(*(answers.get("a", oracle.ask) for _ in range(3)), return_exceptions=True)
    assert [type(failure) for failure in failures] == [LookupError] * 3
    oracle.fails = False
    assert await answers.get("a", oracle.ask) == 2


async def test_one_who_leaves_takes_the_answer_from_nobody() -> None:
    answers: DayAnswers[str, int] = DayAnswers(lambda: date(2026, 11, 23))
    oracle = Oracle()
    oracle.gate.clear()
    impatient, patient = (asyncio.ensure_future(answers.get("a", oracle.ask)) for _ in range(2))
    await asyncio.sleep(0)
    impatient.cancel()
    with pytest.raises(asyncio.CancelledError):
        await impatient
    oracle.gate.set()
    assert await patient == 1


async def test_the_oldest_answers_make_room() -> None:
    answers: DayAnswers[int, int] = DayAnswers(lambda: date(2026, 11, 23), limit=2)
    oracle = Oracle()
    for question in range(3):
        await answers.get(question, oracle.ask)
    assert len(answers) == 2
    assert await answers.get(2, oracle.ask) == 3
    assert await answers.get(0, oracle.ask) == 4
