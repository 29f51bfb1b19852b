"""Log lines: one JSON object each, with the correlation id of the call that caused it, and no account numbers."""

from __future__ import annotations

import logging
import re
import sys
from contextvars import ContextVar
from typing import Any

from pythonjsonlogger.json import JsonFormatter

correlation_id: ContextVar[str] = ContextVar("correlation_id", default="")
"""Id of the call being served; empty outside one."""

principal: ContextVar[str] = ContextVar("principal", default="")
"""Name of the caller being served; empty outside a call, and while there are no tokens."""

# IBKR's account numbers: U1234567, DU1234567, DUP123456, F7654321, I1234567.
_ACCOUNT = re.compile(r"\b(D?[UFI]P?)(\d{3,7})(\d{3})\b")

_STANDARD = frozenset(vars(logging.makeLogRecord({}))) | {"message", "asctime", "correlation_id"}


def redact(text: str) -> str:
    """The text with account numbers cut to their last digits: DU***567."""
    return _ACCOUNT.sub(r"\1***\3", text)


def configure_logs(level: str = "INFO", form: str = "json") -> None:
    """Send every log line to stderr in one form."""
    handler = logging.StreamHandler(sys.stderr)
    handler.setFormatter(_text_formatter() if form == "text" else _json_formatter())
    handler.addFilter(_add_context)
    root = logging.getLogger()
    root.handlers[:] = [handler]
    root.setLevel(level)
    # The TWS library logs whole messages, account numbers among them, and calls every notice an error; the session says
    # what matters of it.
    for name in ("ib_async", "ib_insync", "eventkit"):
        logging.getLogger(name).setLevel(logging.CRITICAL)


def _add_context(record: logging.LogRecord) -> bool:
    record.correlation_id = correlation_id.get()
    record.msg = redact(record.getMessage())
    record.args = None
    for name, value in list(vars(record).items()):
        if name not in _STANDARD and isinstance(value, str):
            setattr(record, name, redact(value))
    return True


def _json_formatter() -> logging.Formatter:
    return _JsonLines(
        "%(asctime)s %(levelname)s %(name)s %(message)s %(correlation_id)s",
        rename_fields={"asctime": "time", "levelname": "level", "name": "logger"},
        datefmt="%Y-%m-%dT%H:%M:%S%z",
    )


class _JsonLines(JsonFormatter):
    """JSON lines without a correlation id outside a call."""

    def process_log_record(self, log_data: dict[str, Any]) -> dict[str, Any]:
        if not log_data.get("correlation_id"):
            log_data.pop("correlation_id", None)
        return log_data


class _TextFormatter(logging.Formatter):
    """A line for people, its fields behind it as key=value."""

    def format(self, record: logging.LogRecord) -> str:
        line = super().format(record)
        extra = {name: value for name, value in vars(record).items() if name not in _STANDARD}
        if getattr(record, "correlation_id", ""):
            extra["correlation_id"] = vars(record)["correlation_id"]
        return " ".join([line, *(f"{name}={value}" for name, value in extra.items())])


def _text_formatter() -> logging.Formatter:
    return _TextFormatter("%(asctime)s %(levelname)-7s %(message)s", datefmt="%H:%M:%S")
