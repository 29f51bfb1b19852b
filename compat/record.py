"""What a driver records of each step: that it passed, why it failed, or why this client leaves it out.

It needs the standard library alone, since the clients' environments have nothing else of this project.
"""

from __future__ import annotations

import json
import logging
import time
import traceback
from collections.abc import Awaitable, Callable
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from compat.steps import STEPS

PASSED, FAILED, LEFT_OUT = "passed", "failed", "left out"
# A connection's state, told without being asked. Every other code is one that a step expects, or a failure.
NOTICES = frozenset({2103, 2104, 2105, 2106, 2107, 2108, 2119, 2157, 2158})
HERE = Path(__file__).parent


class LeftOut(Exception):
    """This client cannot do the step; the message says why."""


@dataclass(frozen=True)
class Step:
    """One step: what it does, the error codes it must meet, and how log records begin that it may cause."""

    act: Callable[[Any], Awaitable[None] | None]
    codes: tuple[int, ...]
    logs: tuple[str, ...]


@dataclass(frozen=True)
class Result:
    """One step's end."""

    step: str
    outcome: str
    reason: str
    seconds: float


class Script:
    """The steps of one driver, by name."""

    def __init__(self) -> None:
        self._steps: dict[str, Step] = {}

    def step(self, name: str, *codes: int, logs: tuple[str, ...] = ()) -> Callable[[Any], Any]:
        """Register a step; its name must be one of the conversation's."""
        if name not in STEPS or name in self._steps:
            raise ValueError(f"{name!r} is no step, or is there twice")

        def register(act: Any) -> Any:
            self._steps[name] = Step(act, codes, logs)
            return act

        return register

    def __getitem__(self, name: str) -> Step:
        return self._steps[name]

    def check(self) -> None:
        """Raise LookupError when a step is missing."""
        if missing := [name for name in STEPS if name not in self._steps]:
            raise LookupError(f"steps are missing: {missing}")


class Recorder(logging.Handler):
    """Collects a client's warnings and errors, and judges each step by them."""

    def __init__(self) -> None:
        super().__init__(logging.WARNING)
        self.results: list[Result] = []
        self.errors: list[tuple[int, int, str]] = []
        """Of the step: request or order id, code, text."""
        self._logged: list[str] = []
        self._began = 0.0

    def emit(self, record: logging.LogRecord) -> None:
        """Keep a log record of the client."""
        text = record.getMessage()
        if record.exc_info and record.exc_info[1] is not None:
            text += f" {record.exc_info[1]!r}"
        self._logged.append(text)

    def warn(self, text: str) -> None:
        """Keep what the client did not say through its log."""
        self._logged.append(text)

    def error(self, req_id: int, code: int, text: str) -> None:
        """Keep an error of the gateway, unless it is a notice of a farm's state."""
        if code not in NOTICES:
            self.errors.append((req_id, code, text))

    def has(self, code: int) -> bool:
        """Whether the step has met an error code."""
        return any(told == code for _, told, _ in self.errors)

    def begin(self) -> None:
        """A step begins. What has been said since the last one was judged is its own."""
        self._began = time.monotonic()

    def end(self, name: str, step: Step, failure: BaseException | None) -> None:
        """A step has ended: judge it."""
        outcome, reason = PASSED, ""
        if isinstance(failure, LeftOut):
            outcome, reason = LEFT_OUT, str(failure)
        elif failure is not None:
            outcome, reason = FAILED, told(failure)
        codes, expected = {code for _, code, _ in self.errors}, set(step.codes)
        logged = [text for text in self._logged if not text.startswith(step.logs)]
        if outcome != LEFT_OUT and codes != expected:
            unexpected = [error for error in self.errors if error[1] not in expected]
            reason += f" errors not expected: {unexpected}" if unexpected else ""
            reason += f" expected and never told: {sorted(expected - codes)}" if expected - codes else ""
            outcome = FAILED
        if logged:
            outcome, reason = FAILED, f"{reason} the client warned: {logged[:3]}"
        seconds = round(time.monotonic() - self._began, 3)
        self.results.append(Result(name, outcome, reason.strip(), seconds))
        self.errors.clear()
        self._logged.clear()

    def write(self, path: str, **about: Any) -> None:
        """All results, as JSON."""
        found = {**about, "results": [asdict(result) for result in self.results]}
        Path(path).write_text(json.dumps(found, indent=1))


def told(failure: BaseException) -> str:
    """An exception with the line of the driver that it came from."""
    frames = [frame for frame in traceback.extract_tb(failure.__traceback__) if HERE in Path(frame.filename).parents]
    where = f" at {Path(frames[-1].filename).name}:{frames[-1].lineno}: {frames[-1].line}" if frames else ""
    return f"{type(failure).__name__}: {failure}{where}"
