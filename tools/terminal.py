"""A terminal for programs under test and for screens to record: a pty, and the screen that comes of what is written.

The screen knows what rich's live displays use (ECMA-48: CR, LF, CUU, CUP, EL, ED; modes and colours change no text) and
refuses what it does not know, rather than to show something else than a terminal would.
"""

from __future__ import annotations

import codecs
import errno
import fcntl
import os
import re
import select
import struct
import subprocess
import termios
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path

_CONTROL = re.compile(r"\x1b\[(\??)([\d;]*)([A-Za-z])")
# A sequence of which the rest is still to come.
_BEGUN = re.compile(r"\x1b(\[[\d;?]*)?\Z")
_CHUNK = 65536


class Screen:
    """Lines of text under a cursor; what has scrolled off the top is kept."""

    def __init__(self, columns: int = 80, rows: int = 24) -> None:
        self.columns, self.rows = columns, rows
        self._lines: list[list[str]] = [[]]
        self._row = self._column = 0
        self._rest = ""
        self.moves_up = 0
        """How often the cursor has gone back up: a view that is drawn in place does."""
        self.has_cursor = True

    @property
    def lines(self) -> list[str]:
        """What is to be read, without blanks at the ends of lines or empty lines below."""
        drawn = ["".join(line).rstrip() for line in self._lines]
        while drawn and not drawn[-1]:
            drawn.pop()
        return drawn

    @property
    def text(self) -> str:
        """All lines."""
        return "\n".join(self.lines)

    def feed(self, written: str) -> None:
        """Take what a program has written. Raises ValueError for a sequence that is not known."""
        written, at = self._rest + written, 0
        begun = _BEGUN.search(written)
        self._rest = begun[0] if begun else ""
        written = written.removesuffix(self._rest)
        while at < len(written):
            if written[at] == "\x1b":
                control = _CONTROL.match(written, at)
                if control is None:
                    raise ValueError(f"no control sequence: {written[at : at + 8]!r}")
                self._control(control[1], control[2], control[3])
                at = control.end()
            else:
                self._put(written[at])
                at += 1

    def _put(self, sign: str) -> None:
        if sign == "\r":
            self._column = 0
        elif sign == "\n":
            self._to(self._row + 1)
        elif sign != "\a":
            if self._column >= self.columns:
                self._to(self._row + 1)
                self._column = 0
            line = self._lines[self._row]
            line.extend(" " * (self._column + 1 - len(line)))
            line[self._column] = sign
            self._column += 1

    def _to(self, row: int) -> None:
        self._row = row
        self._lines.extend([] for _ in range(row + 1 - len(self._lines)))

    def _control(self, private: str, parameters: str, final: str) -> None:
        if final == "m":
            return
        if private and final in "hl":
            self.has_cursor = final == "h" if parameters == "25" else self.has_cursor
        elif final == "A":
            # The cursor stops at the top of the screen, not of what has scrolled off it.
            top = max(0, len(self._lines) - self.rows)
            self._row = max(top, self._row - int(parameters or 1))
            self.moves_up += 1
        elif final == "K" and parameters == "2":
            self._lines[self._row] = []
        elif final == "K" and parameters in ("", "0"):
            del self._lines[self._row][self._column :]
        else:
            raise ValueError(f"not known to this screen: ESC [ {private}{parameters} {final}")


@dataclass
class OnTerminal:
    """A program on a terminal of its own."""

    process: subprocess.Popen[bytes]
    screen: Screen
    _master: int
    # What a signal cuts off in the middle of a letter is shown as a terminal shows it.
    _decoder: codecs.IncrementalDecoder = field(
        default_factory=partial(codecs.getincrementaldecoder("utf-8"), "replace")
    )

    def read_until(self, condition: Callable[[Screen], bool], timeout_s: float = 30.0) -> bool:
        """Take what it writes until the screen is so, or it has ended. Whether the screen is so.

        Raises TimeoutError.
        """
        deadline = time.monotonic() + timeout_s
        while not condition(self.screen):
            if not select.select([self._master], [], [], max(0.0, deadline - time.monotonic()))[0]:
                raise TimeoutError(f"not shown within {timeout_s:g} s:\n{self.screen.text}")
            if not (written := self._read()):
                return condition(self.screen)
            self.screen.feed(self._decoder.decode(written))
        return True

    def read_to_the_end(self, timeout_s: float = 30.0) -> int:
        """Take all that it writes. Gives its exit code. Raises TimeoutError."""
        self.read_until(lambda _: False, timeout_s)
        return self.process.wait(timeout_s)

    def _read(self) -> bytes:
        try:
            return os.read(self._master, _CHUNK)
        except OSError as error:
            # Linux says so once no process has the terminal open any more.
            if error.errno != errno.EIO:
                raise
            return b""

    def close(self) -> None:
        """End it, if it has not ended."""
        os.close(self._master)
        if self.process.poll() is None:
            self.process.kill()
        self.process.wait()


def on_terminal(
    command: Sequence[str], *, cwd: Path, environment: Mapping[str, str], columns: int = 80, rows: int = 24
) -> OnTerminal:
    """Start a program on a new terminal of this size; Ctrl-C is SIGINT to its process."""
    master, slave = os.openpty()
    fcntl.ioctl(slave, termios.TIOCSWINSZ, struct.pack("HHHH", rows, columns, 0, 0))
    try:
        process = subprocess.Popen(
            command,
            stdin=slave,
            stdout=slave,
            stderr=slave,
            cwd=cwd,
            env={**environment, "TERM": "xterm-256color"},
            start_new_session=True,
        )
    finally:
        os.close(slave)
    return OnTerminal(process, Screen(columns, rows), master)
