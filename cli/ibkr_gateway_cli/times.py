"""Times as people type them, and the two options that bound a list by them."""

from __future__ import annotations

from datetime import UTC, datetime
from typing import Annotated, Protocol

import typer
from google.protobuf.timestamp_pb2 import Timestamp

SinceOption = Annotated[str, typer.Option("--since", help="Only from this time on: 2026-11-23, or with a time, UTC.")]
UntilOption = Annotated[str, typer.Option("--until", help="Only before this time.")]


class Bounded(Protocol):
    """A request for what happened from one time on and before another."""

    @property
    def start_time(self) -> Timestamp:
        """The first time."""
        ...

    @property
    def end_time(self) -> Timestamp:
        """The time after the last."""
        ...


def timestamp(text: str) -> Timestamp:
    """A time as typed; without a zone it is UTC. Raises ValueError for what is none."""
    try:
        moment = datetime.fromisoformat(text)
    except ValueError:
        raise ValueError(f"{text!r} is no time; give 2026-11-23 or 2026-11-23T15:30:00, in UTC") from None
    found = Timestamp()
    found.FromDatetime(moment if moment.tzinfo else moment.replace(tzinfo=UTC))
    return found


def set_span(request: Bounded, since: str, until: str) -> None:
    """Bound a request by the times as typed; an empty one is no bound. Raises ValueError for what is no time."""
    for text, field in ((since, request.start_time), (until, request.end_time)):
        if text:
            field.CopyFrom(timestamp(text))
