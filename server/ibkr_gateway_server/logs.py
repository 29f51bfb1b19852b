"""Log lines: one JSON object each, with the correlation id of the call that caused it, and no account numbers.

They are made and written by a thread of their own: a terminal or a pipe that nobody reads must not hold up the event
loop.
"""

from __future__ import annotations

import atexit
import logging
import queue
import re
import sys
from collections.abc import Callable
from contextvars import ContextVar
from logging.handlers import QueueHandler, QueueListener
from typing import Any

from pythonjsonlogger.json import JsonFormatter

correlation_id: ContextVar[str] = ContextVar("correlation_id", default="")
"""Id of the call being served; empty outside one."""

principal: ContextVar[str] = ContextVar("principal", default="")
"""Name of the caller being served; empty outside a call, and while there are no tokens."""

# IBKR's account numbers: U1234567, DU1234567, DUP123456, F7654321, I1234567.
_ACCOUNT = re.compile(r"\b(D?[UFI]P?)(\d{3,7})(\d{3})\b")

# Of the call that a line belongs to; left out outside one.
_OF_CALL = ("correlation_id", "principal")
_STANDARD = frozenset(vars(logging.makeLogRecord({}))) | {"message", "asctime", *_OF_CALL}


def redact(text: str) -> str:
    """The text with account numbers cut to their last digits: DU***567."""
    return _ACCOUNT.sub(r"\1***\3", text)


# Lines that wait for their thread; more than that are left out and counted.
WAITING_LIMIT = 10_000


def configure_logs(level: str = "INFO", form: str = "json") -> Callable[[], None]:
    """Send every log line to stderr in one form. Returns what writes all that wait and ends it, as an exit does.

    Nothing is written after that: what logs then may have outlived the stream.
    """
    handler = logging.StreamHandler(sys.stderr)
    handler.setFormatter(_text_formatter() if form == "text" else _json_formatter())
    handler.addFilter(_redact_fields)
    waiting: queue.Queue[logging.LogRecord] = queue.Queue(WAITING_LIMIT)
    listener = QueueListener(waiting, handler)
    root = logging.getLogger()
    hand_over = _HandOver(waiting)
    root.handlers[:] = [hand_over]
    root.setLevel(level)
    listener.start()

    def stop() -> None:
        root.removeHandler(hand_over)
        if listener._thread is not None:  # stopped twice, it would fail
            listener.stop()

    atexit.register(stop)
    # The TWS library logs whole messages, account numbers among them, and calls every notice an error; the session says
    # what matters of it.
    for name in ("ib_async", "ib_insync", "eventkit"):
        logging.getLogger(name).setLevel(logging.CRITICAL)
    return stop


class _HandOver(QueueHandler):
    """Gives each record to the thread that writes, with the id and the caller of the call that it belongs to."""

    def __init__(self, waiting: queue.Queue[logging.LogRecord]) -> None:
        super().__init__(waiting)
        self._left_out = 0

    def prepare(self, record: logging.LogRecord) -> logging.LogRecord:
        record.correlation_id = correlation_id.get()
        record.principal = principal.get()
        if record.exc_info:
            # An exception holds on to everything that its frames know.
            record.exc_text, record.exc_info = logging.Formatter().formatException(record.exc_info), None
        return record

    def enqueue(self, record: logging.LogRecord) -> None:
        if self._left_out:
            record.left_out_count = self._left_out
        try:
            self.queue.put_nowait(record)
            self._left_out = 0
        except queue.Full:
            self._left_out += 1


def _redact_fields(record: logging.LogRecord) -> bool:
    record.msg = redact(record.getMessage())
    record.args = None
    record.exc_text = redact(record.exc_text) if record.exc_text else None
    for name, value in list(vars(record).items()):
        if name not in _STANDARD and isinstance(value, str):
            setattr(record, name, redact(value))
    return True


def _json_formatter() -> logging.Formatter:
    return _JsonLines(
        "%(asctime)s %(levelname)s %(name)s %(message)s %(correlation_id)s %(principal)s",
        rename_fields={"asctime": "time", "levelname": "level", "name": "logger"},
        datefmt="%Y-%m-%dT%H:%M:%S%z",
    )


class _JsonLines(JsonFormatter):
    """JSON lines without what belongs to a call outside one."""

    def process_log_record(self, log_data: dict[str, Any]) -> dict[str, Any]:
        for name in _OF_CALL:
            if not log_data.get(name):
                log_data.pop(name, None)
        return log_data


class _TextFormatter(logging.Formatter):
    """A line for people, its fields behind it as key=value."""

    def format(self, record: logging.LogRecord) -> str:
        line = super().format(record)
        extra = {name: value for name, value in vars(record).items() if name not in _STANDARD}
        extra |= {name: value for name in _OF_CALL if (value := getattr(record, name, ""))}
        return " ".join([line, *(f"{name}={value}" for name, value in extra.items())])


def _text_formatter() -> logging.Formatter:
    return _TextFormatter("%(asctime)s %(levelname)-7s %(message)s", datefmt="%H:%M:%S")


class LineRate:
    """At most so many lines of log a second; the next one says how many were left out. `limit` None: no limit."""

    def __init__(self, limit: int | None) -> None:
        self._limit = limit
        self._second = 0
        self._written = 0
        self._left_out = 0

    def has_room(self, now_s: float) -> bool:
        """Whether there is room for one now; it is taken."""
        if self._limit is None:
            return True
        if int(now_s) != self._second:
            self._second, self._written = int(now_s), 0
        if self._written >= self._limit:
            self._left_out += 1
            return False
        self._written += 1
        return True

    def left_out(self) -> dict[str, int]:
        """How many were left out since the last line, as a field of this one; empty: none."""
        count, self._left_out = self._left_out, 0
        return {"unlogged_count": count} if count else {}
