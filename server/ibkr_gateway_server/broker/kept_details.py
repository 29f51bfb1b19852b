"""Contract details on disk: a server that starts again in a day asks nothing that IBKR has answered in it.

One line for each answer: a checksum, then JSON. Orders go to the contracts that are read here, so a line that is torn
or altered by accident is asked again and never believed. Without the file, or with a disk that is full, every answer
costs its message to IBKR and nothing else changes.
"""

from __future__ import annotations

import logging
from dataclasses import dataclass
from datetime import date
from pathlib import Path
from zlib import crc32

from pydantic import TypeAdapter, ValidationError

from ibkr_gateway_server.domain.instruments import ContractDetails, Instrument

log = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True)
class _Kept:
    day: date
    wanted: Instrument
    details: tuple[ContractDetails, ...]


_KEPT = TypeAdapter(_Kept)


class KeptDetails:
    """What was asked for and answered on one day, in a file that holds no other day."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self._day: date | None = None
        self._is_writable = True

    def read(self, day: date) -> dict[Instrument, tuple[ContractDetails, ...]]:
        """The answers of a day; what cannot be read is left out. Of other days nothing stays in the file."""
        try:
            lines = self.path.read_bytes().splitlines()
        except FileNotFoundError:
            lines = []
        except OSError as error:
            self._give_up(error)
            return {}
        kept = [found for found in map(_read, lines) if found is not None and found.day == day]
        self._day = day
        if len(kept) < len(lines):
            self._write(b"".join(map(_line, kept)), anew=True)
        return {found.wanted: found.details for found in kept}

    def add(self, day: date, wanted: Instrument, details: tuple[ContractDetails, ...]) -> None:
        """Keep an answer. Never raises: that it is not kept costs a message after the next start."""
        self._write(_line(_Kept(day, wanted, details)), anew=day != self._day)
        self._day = day

    def _write(self, lines: bytes, *, anew: bool) -> None:
        if not self._is_writable:
            return
        try:
            if anew:
                beside = self.path.with_name(f"{self.path.name}.new")
                beside.write_bytes(lines)
                beside.replace(self.path)
            else:
                # Not forced to the disk: what a crash takes is asked again.
                with self.path.open("ab") as file:
                    file.write(lines)
        except OSError as error:
            self._give_up(error)

    def _give_up(self, error: OSError) -> None:
        self._is_writable = False
        log.warning("contract details are not kept for the next start", extra={"error": type(error).__name__})


def _line(kept: _Kept) -> bytes:
    text = _KEPT.dump_json(kept)
    return b"%08x %s\n" % (crc32(text), text)


def _read(line: bytes) -> _Kept | None:
    checksum, _, text = line.partition(b" ")
    if checksum != b"%08x" % crc32(text):
        return None
    try:
        return _KEPT.validate_json(text)
    except ValidationError:
        # A line of another version of this program.
        return None
