"""A step passes only when its values, its errors and its client's warnings are as they must be."""

from __future__ import annotations

import logging

import pytest

from compat.record import FAILED, LEFT_OUT, PASSED, LeftOut, Recorder, Script, Step
from compat.steps import STEPS


def judged(
    *codes: int,
    expects: tuple[int, ...] = (),
    logged: str = "",
    may_log: tuple[str, ...] = (),
    failure: BaseException | None = None,
) -> tuple[str, str]:
    """A step's outcome and the reason for it."""
    recorder = Recorder()
    recorder.begin()
    for code in codes:
        recorder.error(-1, code, "a text")
    if logged:
        recorder.emit(logging.LogRecord("client", logging.WARNING, "", 0, logged, None, None))
    recorder.end("connect", Step(lambda _: None, expects, may_log), failure)
    (result,) = recorder.results
    return result.outcome, result.reason


def test_a_step_without_errors_and_warnings_passes() -> None:
    assert judged() == (PASSED, "")


def test_a_notice_of_a_farm_is_no_error() -> None:
    assert judged(2104, 2158) == (PASSED, "")


def test_an_error_that_is_not_expected_fails_it() -> None:
    outcome, reason = judged(354, 202, expects=(202,))
    assert outcome == FAILED
    assert "354" in reason
    assert "202" not in reason


def test_an_expected_error_that_never_comes_fails_it() -> None:
    outcome, reason = judged(expects=(202,))
    assert outcome == FAILED
    assert "never told: [202]" in reason


def test_a_warning_of_the_client_fails_it_unless_it_is_the_steps_own() -> None:
    assert judged(logged="Error handling fields")[0] == FAILED
    assert judged(logged="Error 354, reqId 3", may_log=("Error 354",)) == (PASSED, "")


def test_a_step_left_out_says_why_and_still_may_not_warn() -> None:
    assert judged(failure=LeftOut("no such request")) == (LEFT_OUT, "no such request")
    assert judged(failure=LeftOut("no such request"), logged="Error handling fields")[0] == FAILED


def test_a_failed_assertion_fails_it() -> None:
    outcome, reason = judged(failure=AssertionError("3 is not 4"))
    assert outcome == FAILED
    assert "3 is not 4" in reason


def test_what_one_step_was_told_is_not_held_against_the_next() -> None:
    recorder = Recorder()
    recorder.error(-1, 354, "a text")
    for name in ("connect", "disconnect"):
        recorder.begin()
        recorder.end(name, Step(lambda _: None, (), ()), None)
    assert [result.outcome for result in recorder.results] == [FAILED, PASSED]


def test_a_script_must_have_every_step_once() -> None:
    script = Script()
    with pytest.raises(LookupError, match="connect"):
        script.check()
    for name in STEPS:
        script.step(name)(lambda _: None)
    script.check()
    with pytest.raises(ValueError, match="twice"):
        script.step("connect")
    with pytest.raises(ValueError, match="no step"):
        script.step("no such step")
