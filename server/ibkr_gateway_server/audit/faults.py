"""What a failure of SQLite's means for the record."""

from __future__ import annotations

import sqlite3
from enum import StrEnum

from sqlalchemy.exc import DatabaseError


class Fault(StrEnum):
    """Why a transaction failed."""

    FULL = "full"
    """No space on the disk: it works again once there is some."""
    BUSY = "busy"
    """Another program holds the database: it works again once that lets go."""
    IO = "io"
    """The disk failed. What it holds is not known, least of all after an fsync, which says so only once."""
    CORRUPT = "corrupt"
    """Pages of the database are not what was written."""
    OTHER = "other"
    """Something else: the record was changed by another program, or cannot be written at all."""

    @property
    def lasts(self) -> bool:
        """True when only a restart, with its checks, makes the record trustworthy again."""
        return self in (Fault.IO, Fault.CORRUPT)


_BY_CODE = {
    sqlite3.SQLITE_FULL: Fault.FULL,
    sqlite3.SQLITE_BUSY: Fault.BUSY,
    sqlite3.SQLITE_LOCKED: Fault.BUSY,
    sqlite3.SQLITE_IOERR: Fault.IO,
    sqlite3.SQLITE_CORRUPT: Fault.CORRUPT,
    sqlite3.SQLITE_NOTADB: Fault.CORRUPT,
}

# The index of the write-ahead log could not grow, which is how a full disk looks there.
_SHARED_MEMORY_FULL = sqlite3.SQLITE_IOERR_SHMSIZE


def fault_of(error: DatabaseError) -> Fault:
    """The fault behind an error. SQLite's extended codes have the code itself in their lowest byte."""
    code = getattr(error.orig, "sqlite_errorcode", None)
    if code is None:
        return Fault.OTHER
    if code == _SHARED_MEMORY_FULL:
        return Fault.FULL
    return _BY_CODE.get(code & 0xFF, Fault.OTHER)
