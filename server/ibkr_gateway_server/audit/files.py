"""The files of the record: the database, and beside it the key, the marks, and what is for emergencies.

Only their owner reads them. What is not as it should be is repaired where that is safe, and else the gateway does not
start: a record that is made anew by itself would be no evidence.
"""

from __future__ import annotations

import logging
import os
import stat
from dataclasses import dataclass
from pathlib import Path

log = logging.getLogger(__name__)

OWNER_ONLY = 0o600


class RecordUnusable(RuntimeError):
    """The record is not what it should be. The gateway does not start on it, and makes no other in its place."""

    def __init__(self, what: str, remedy: str) -> None:
        super().__init__(f"{what}; {remedy}")


@dataclass(frozen=True, slots=True)
class RecordFiles:
    """Where everything of one record is, by the path of its database."""

    database: Path

    @property
    def key(self) -> Path:
        """What events are signed with."""
        return self.database.with_suffix(".key")

    @property
    def watermark(self) -> Path:
        """The newest event that the record once had."""
        return self.database.with_suffix(".watermark")

    @property
    def anchor(self) -> Path:
        """An event up to which the chain was found whole."""
        return self.database.with_suffix(".anchor")

    @property
    def opened(self) -> Path:
        """There while a gateway has the record open, and after one that had no time to close it."""
        return self.database.with_suffix(".open")

    @property
    def emergency(self) -> Path:
        """Events that the database could not take."""
        return self.database.with_suffix(".emergency.jsonl")

    @property
    def ballast(self) -> Path:
        """Space that is given back for them."""
        return self.database.with_suffix(".ballast")

    @property
    def write_ahead_log(self) -> Path:
        """SQLite's."""
        return Path(f"{self.database}-wal")

    @property
    def shared_memory(self) -> Path:
        """SQLite's index of its write-ahead log."""
        return Path(f"{self.database}-shm")

    def check(self) -> None:
        """Refuse what another could have put there, and take reading from everybody else.

        Raises RecordUnusable, OSError.
        """
        beside = (self.watermark, self.anchor, self.opened, self.emergency, self.write_ahead_log)
        for path in (self.database, self.key, *beside, self.shared_memory):
            if os.path.lexists(path):
                _check(path)
        is_there = self.database.exists() and self.database.stat().st_size
        # A key alone may begin a new record, whose orders IBKR still knows by the marks that it makes.
        left = [path.name for path in beside if path != self.key and path.exists()]
        if not is_there and left:
            raise RecordUnusable(
                f"{self.database} is gone or empty while {', '.join(left)} is still there",
                "put the database back from a backup, or move these files away to begin a new record; with the key in "
                "its place the orders of the old one are still known as this gateway's",
            )


def _check(path: Path) -> None:
    found = path.lstat()
    if not stat.S_ISREG(found.st_mode):
        raise RecordUnusable(f"{path} is a link or no file", "put the file itself in its place")
    if found.st_uid != os.geteuid():
        raise RecordUnusable(
            f"{path} belongs to user {found.st_uid} and the gateway runs as {os.geteuid()}",
            "run the gateway as the owner of the record, or give the record to this user",
        )
    if stat.S_IMODE(found.st_mode) != OWNER_ONLY:
        path.chmod(OWNER_ONLY)
        log.warning("a file of the record was open to others; it no longer is", extra={"path": str(path)})


def make(path: Path, data: bytes) -> None:
    """A new file, whole and durable before it has its name. Raises OSError."""
    replace(path, data, durable=True)
    sync_folder(path.parent)


def replace(path: Path, data: bytes, *, durable: bool) -> None:
    """Put a file's new contents in the place of the old in one step. Raises OSError."""
    new = path.with_name(f"{path.name}.new")
    descriptor = os.open(new, os.O_CREAT | os.O_TRUNC | os.O_WRONLY | os.O_NOFOLLOW, OWNER_ONLY)
    try:
        os.write(descriptor, data)
        if durable:
            os.fsync(descriptor)
    finally:
        os.close(descriptor)
    new.replace(path)


def sync_folder(folder: Path) -> None:
    """Make names that were given or taken away in a folder durable. Raises OSError."""
    descriptor = os.open(folder, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
