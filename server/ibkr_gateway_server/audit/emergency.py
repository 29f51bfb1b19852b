"""The emergency journal: what must be noted while the database takes nothing.

A cancel lessens risk, so it is not refused because a disk is full. It is noted as a line in a file beside the database,
on the disk before it is sent, and becomes an event once the database takes events again. A disk that is full has no
room for a line either: a file without meaning, the ballast, is kept to be removed then.
"""

from __future__ import annotations

import hashlib
import hmac
import json
import logging
import os
import shutil
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from ibkr_gateway_server.audit.files import OWNER_ONLY, RecordFiles, sync_folder

log = logging.getLogger(__name__)

BALLAST_BYTES = 8 * 1024 * 1024
# The ballast is put back only where this many times its size is free, so that it does not itself fill the disk.
BALLAST_ROOM = 8

# Of a line that cannot be read so much is kept.
RAW_LIMIT = 2_000


@dataclass(frozen=True, slots=True)
class Line:
    """One line: its fields as they were noted. Not `is_authentic`: torn, or not written with the key."""

    fields: Mapping[str, Any]
    is_authentic: bool


class EmergencyJournal:
    """The journal of one record. Used on the store's thread."""

    def __init__(self, files: RecordFiles, key: bytes) -> None:
        self._files = files
        self._key = key
        self.has_lines = files.emergency.exists()

    def add(self, fields: Mapping[str, Any]) -> None:
        """Note an event; durable when this returns. Raises OSError."""
        is_new = not self._files.emergency.exists()
        text = json.dumps({**fields, "seal": self._seal(fields)}, default=str)
        flags = os.O_CREAT | os.O_APPEND | os.O_WRONLY | os.O_NOFOLLOW
        descriptor = os.open(self._files.emergency, flags, OWNER_ONLY)
        try:
            # A line of its own even after one that was torn.
            os.write(descriptor, f"{'' if is_new else chr(10)}{text}\n".encode())
            os.fsync(descriptor)
        finally:
            os.close(descriptor)
        if is_new:
            sync_folder(self._files.emergency.parent)
        self.has_lines = True

    def lines(self) -> list[Line]:
        """Everything noted, oldest first. Raises OSError."""
        if not self._files.emergency.exists():
            return []
        return [self._read(line) for line in self._files.emergency.read_text("utf-8", "replace").splitlines() if line]

    def clear(self) -> None:
        """The lines have become events. Raises OSError."""
        self._files.emergency.unlink(missing_ok=True)
        sync_folder(self._files.emergency.parent)
        self.has_lines = False

    def hold_ballast(self) -> None:
        """Keep space for a bad day, if there is plenty; without it only a full disk is a problem."""
        path = self._files.ballast
        try:
            if path.exists() or shutil.disk_usage(path.parent).free < BALLAST_ROOM * BALLAST_BYTES:
                return
            descriptor = os.open(path, os.O_CREAT | os.O_EXCL | os.O_WRONLY | os.O_NOFOLLOW, OWNER_ONLY)
            try:
                os.posix_fallocate(descriptor, 0, BALLAST_BYTES)
                os.fsync(descriptor)
            finally:
                os.close(descriptor)
        except OSError as error:
            log.warning("no space is kept for cancels on a full disk", extra={"error": str(error)})

    def drop_ballast(self) -> None:
        """Give the space back."""
        try:
            self._files.ballast.unlink(missing_ok=True)
        except OSError as error:
            log.error("the ballast beside the record cannot be removed", extra={"error": str(error)})

    def _read(self, text: str) -> Line:
        try:
            fields = json.loads(text)
            seal = str(fields.pop("seal"))
            if hmac.compare_digest(seal.encode(), self._seal(fields).encode()):
                return Line(fields, is_authentic=True)
        except (ValueError, AttributeError, KeyError, TypeError):
            pass
        return Line({"text": text[:RAW_LIMIT]}, is_authentic=False)

    def _seal(self, fields: Mapping[str, Any]) -> str:
        canonical = json.dumps(fields, sort_keys=True, separators=(",", ":"), default=str)
        return hmac.digest(self._key, b"emergency|" + canonical.encode(), hashlib.sha256).hex()
