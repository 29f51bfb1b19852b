"""Live views: drawn in place on a terminal; elsewhere a line a change, or with --json an object an event."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING, Annotated, Any

import typer

from ibkr_gateway_cli.session import Options, console, print_json

if TYPE_CHECKING:
    from google.protobuf.message import Message
    from rich.console import Console, RenderableType
    from rich.live import Live

# Redrawn no more often than eyes can follow.
LEAST_INTERVAL_MS = 100
# Changes that a trend remembers.
TREND_MOST = 60

WatchOption = Annotated[bool, typer.Option("--watch", "-w", help="Follow until Ctrl-C; in place on a terminal.")]
CountOption = Annotated[int, typer.Option("--count", min=0, help="With --watch: end after so many changes; 0: never.")]


class View(ABC):
    """What a stream has told so far. One whole stream has one remark: why its figures are not to be believed now."""

    remark = ""

    @abstractmethod
    def take(self, event: Any) -> bool:
        """Keep what an event says. True: it was a change."""

    @abstractmethod
    def screen(self, width: int) -> RenderableType:
        """All of it, for a terminal of this width."""

    @abstractmethod
    def line(self, event: Any) -> str:
        """One event as a line, after it was taken; empty where there is nothing to say."""


def remark_of(event: Any) -> str:
    """Why figures are not to be believed from this event of any stream on; empty: the event does not say so."""
    kind = event.WhichOneof("event")
    if kind == "gap":
        return f"gap: {event.gap.reason}"
    if kind == "stale":
        return f"stale: {event.stale.reason}"
    if kind == "error":
        return str(event.error.message)
    return {"draining": "the server is stopping", "resumed": "resumed, nothing new yet"}.get(kind, "")


class Showing:
    """Where a live view appears."""

    def __init__(self, out: Console, live: Live | None, as_json: bool) -> None:
        self._out, self._live, self._as_json = out, live, as_json

    @property
    def is_drawn(self) -> bool:
        """Whether it is a screen that is drawn in place."""
        return self._live is not None

    @property
    def width(self) -> int:
        """Columns of the terminal, at this moment."""
        return self._out.width

    def tell(self, message: Message, text: RenderableType = "") -> None:
        """One event, where nothing is drawn: as JSON, or as text unless it is empty."""
        if self._as_json:
            print_json(message)
        elif self._live is None and text:
            self._out.print(text, markup=False, soft_wrap=True)

    def draw(self, screen: RenderableType) -> None:
        """The whole, where it is drawn."""
        if self._live is not None:
            self._live.update(screen, refresh=True)


@contextmanager
def showing(options: Options) -> Iterator[Showing]:
    """A place for a live view; a terminal has its cursor back at the end."""
    out = console()
    if options.as_json or not out.is_terminal:
        yield Showing(out, None, options.as_json)
        return
    from rich.live import Live

    with Live(console=out, auto_refresh=False) as live:
        yield Showing(out, live, as_json=False)


def follow(options: Options, responses: Iterable[Any], view: View, count: int) -> None:
    """Show a stream until it ends, or until `count` changes were told."""
    changes = 0
    with showing(options) as shown:
        for response in responses:
            for event in response.events:
                changes += view.take(event)
                shown.tell(event, view.line(event))
            if shown.is_drawn:
                shown.draw(view.screen(shown.width))
            if count and changes >= count:
                return
