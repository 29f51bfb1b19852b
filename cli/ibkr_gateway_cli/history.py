"""Long history: bars from one time to another, in slices, that can be gone on with after an end before the end."""

from __future__ import annotations

import csv
import shlex
import signal
import sys
from collections.abc import Iterable, Iterator, Sequence
from contextlib import AbstractContextManager, contextmanager, nullcontext
from datetime import UTC
from typing import Protocol

from ibkr_gateway import InvalidRequest, SyncGateway
from ibkr_gateway.v1 import market_data_service_pb2 as pb
from ibkr_gateway.v1.common_pb2 import Instrument

from ibkr_gateway_cli.session import Options, console, print_json

COLUMNS = ("start", "open", "high", "low", "close", "volume", "wap", "trade_count")


class Sink(Protocol):
    """Where bars go."""

    def take(self, bars: Sequence[pb.Bar]) -> None:
        """Print the bars of a slice, or keep them for the table."""
        ...

    def end(self) -> None:
        """Print what was kept, if anything was."""
        ...


class JsonLines:
    """One bar a line."""

    def take(self, bars: Sequence[pb.Bar]) -> None:
        """Print the bars of a slice."""
        for bar in bars:
            print_json(bar)

    def end(self) -> None:
        """Nothing was kept."""


class Csv:
    """Comma-separated; the header only where the file begins, so that what follows can be appended to it."""

    def __init__(self, *, has_header: bool = True) -> None:
        self._rows = csv.writer(sys.stdout, lineterminator="\n")
        if has_header:
            self._rows.writerow(COLUMNS)

    def take(self, bars: Sequence[pb.Bar]) -> None:
        """Print the bars of a slice: times in UTC as ISO 8601, nothing where nothing is known."""
        for bar in bars:
            start = bar.date or bar.start_time.ToDatetime(UTC).isoformat()
            volume = f"{bar.volume:.15g}" if bar.HasField("volume") else ""
            wap = repr(bar.wap) if bar.HasField("wap") else ""
            count = bar.trade_count if bar.HasField("trade_count") else ""
            self._rows.writerow((start, bar.open, bar.high, bar.low, bar.close, volume, wap, count))
        sys.stdout.flush()

    def end(self) -> None:
        """Nothing was kept."""


class Rows:
    """A table, when all is there."""

    def __init__(self, instrument: Instrument) -> None:
        self._answer = pb.GetHistoricalBarsResponse(instrument=instrument)

    def take(self, bars: Sequence[pb.Bar]) -> None:
        """Keep the bars of a slice."""
        self._answer.bars.extend(bars)

    def end(self) -> None:
        """Print the table, if there is anything in it."""
        from ibkr_gateway_cli.render import bars_table

        if self._answer.bars:
            console().print(bars_table(self._answer))


def sink(options: Options, instrument: Instrument, *, as_csv: bool, goes_on: bool = False) -> Sink:
    """Where the bars of a command go. Raises ValueError for --csv beside --json."""
    if as_csv and options.as_json:
        raise ValueError("--csv and --json exclude each other")
    if as_csv:
        return Csv(has_header=not goes_on)
    return JsonLines() if options.as_json else Rows(instrument)


def stream(options: Options, connected: SyncGateway, request: pb.StreamHistoricalBarsRequest, target: Sink) -> None:
    """Print all bars, slice by slice.

    However it ends before the end (Ctrl-C, a lost server, an error), what has come is printed, and the command that
    goes on after it is told: nothing is left out and nothing printed twice.
    """
    token, can_go_on = request.resume_token, True
    progress = _Shown(options)
    try:
        with progress.view:
            for response in connected.market_data.StreamHistoricalBars(request):
                with _whole():
                    target.take(response.bars)
                    token = response.progress.resume_token or token
                progress.show(response.progress)
        can_go_on = False
    except InvalidRequest:
        # The same again would be as wrong.
        can_go_on = False
        raise
    finally:
        target.end()
        if can_go_on and token:
            _tell_how_to_go_on(token)


@contextmanager
def _whole() -> Iterator[None]:
    """Ctrl-C waits until a slice is printed, so that none ends within a line; a second one does not wait."""
    came: list[int] = []

    def note(number: int, _frame: object) -> None:
        if came:
            raise KeyboardInterrupt
        came.append(number)

    before = signal.signal(signal.SIGINT, note)
    try:
        yield
    finally:
        signal.signal(signal.SIGINT, before)
    if came:
        raise KeyboardInterrupt


class _Shown:
    """The progress on a terminal; elsewhere nothing is shown."""

    def __init__(self, options: Options) -> None:
        from rich.progress import BarColumn, Progress, TextColumn

        out = console(to_stderr=True)
        # JSON and CSV lines on the same terminal are progress enough, and would be drawn over.
        is_shown = out.is_terminal and not (options.as_json and sys.stdout.isatty())
        columns = (BarColumn(), TextColumn("{task.completed}/{task.total} slices, {task.fields[eta]}"))
        # What is printed meanwhile belongs to stdout, not beside the bar.
        bar = Progress(*columns, console=out, transient=True, redirect_stdout=False, redirect_stderr=False)
        self._bar = bar if is_shown else None
        self._task = bar.add_task("", total=None, eta="eta not known yet") if is_shown else None
        self.view: AbstractContextManager[object] = bar if is_shown else nullcontext()

    def show(self, progress: pb.HistoryProgress) -> None:
        """Draw how far it is."""
        if self._bar is None or self._task is None:
            return
        seconds = progress.eta.ToTimedelta().total_seconds()
        eta = f"{seconds:.0f} s to go" if progress.HasField("eta") else "eta not known yet"
        self._bar.update(self._task, completed=progress.completed_count, total=progress.total_count, eta=eta)


def _tell_how_to_go_on(token: str) -> None:
    told = console(to_stderr=True)
    # One line, however narrow the terminal: it is to be copied.
    told.print("It ended before the end; to go on after what has come:", markup=False)
    told.print(command_to_go_on(sys.argv[1:], token), markup=False, soft_wrap=True)


def command_to_go_on(arguments: Iterable[str], token: str) -> str:
    """The same command with another place to begin at."""
    kept: list[str] = []
    listed = iter(arguments)
    for argument in listed:
        if argument == "--resume":
            next(listed, None)
        elif not argument.startswith("--resume="):
            kept.append(argument)
    return shlex.join(["ibkr-gateway", *kept, "--resume", token])
