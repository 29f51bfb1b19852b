"""The table of steps and clients says what has failed, also when a driver has not come to its end."""

from __future__ import annotations

from typing import Any

from compat.__main__ import table, whole
from compat.record import FAILED, LEFT_OUT, PASSED
from compat.steps import STEPS


def report(name: str, *outcomes: str, trouble: str = "") -> dict[str, Any]:
    results = [
        {"step": step, "outcome": outcome, "reason": f"why {step}", "seconds": 0.1}
        for step, outcome in zip(STEPS, outcomes, strict=False)
    ]
    about = {"client": "a_library", "version": "1.0", "results": results}
    return {**whole(about, trouble), "name": name, "seconds": 1.0}


def outcomes(found: dict[str, Any]) -> list[str]:
    return [result["outcome"] for result in found["results"]]


def test_a_whole_conversation_is_left_as_it_is() -> None:
    assert outcomes(report("a", *[PASSED] * len(STEPS))) == [PASSED] * len(STEPS)


def test_steps_that_a_driver_did_not_come_to_have_failed_with_the_reason() -> None:
    found = report("a", PASSED, PASSED, trouble="it was ended after 180 s")
    assert outcomes(found) == [PASSED, PASSED] + [FAILED] * (len(STEPS) - 2)
    assert {result["reason"] for result in found["results"][2:]} == {"it was ended after 180 s"}


def test_a_driver_that_complains_at_its_end_has_failed_its_last_step() -> None:
    found = report("a", *[PASSED] * len(STEPS), trouble="Task exception was never retrieved")
    assert outcomes(found) == [PASSED] * (len(STEPS) - 1) + [FAILED]
    assert [result["step"] for result in found["results"]] == list(STEPS)


def test_the_table_marks_each_client_and_gives_one_reason_for_many() -> None:
    rest = [PASSED] * (len(STEPS) - 2)
    text = table([report("first", FAILED, LEFT_OUT, *rest), report("second", FAILED, PASSED, *rest)])
    rows = {line[: max(map(len, STEPS))].strip(): line.split()[-2:] for line in text.splitlines() if line}
    assert rows[STEPS[0]] == ["✗", "✗"]
    assert rows[STEPS[1]] == ["–", "✓"]
    assert f"✗ {STEPS[0]}: why {STEPS[0]} (first, second)" in text
    assert f"– {STEPS[1]}: why {STEPS[1]} (first)" in text
    assert f"second (a_library 1.0): {len(STEPS) - 1} passed, 1 failed, 0 left out" in text
