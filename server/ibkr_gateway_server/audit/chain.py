"""The chain of hashes: each event's MAC covers the event and the MAC before it, so that none can be changed, removed or
slipped in without the key."""

from __future__ import annotations

import hashlib
import hmac
import json
import os
import secrets
from collections.abc import Mapping
from pathlib import Path

GENESIS = bytes(32)
KEY_BYTES = 32

# The columns a MAC covers, in this order; `sequence` first, so that an event cannot change its place.
COVERED = (
    "sequence",
    "record_time",
    "monotonic_ns",
    "boot_id",
    "kind",
    "principal",
    "correlation_id",
    "client_order_id",
    "order_id",
    "perm_id",
    "epoch",
    "body_json",
)


def link(key: bytes, previous_mac: bytes, row: Mapping[str, object]) -> bytes:
    """The MAC of one event after the one before it."""
    canonical = json.dumps([row[name] for name in COVERED], ensure_ascii=True, separators=(",", ":"))
    return hmac.digest(key, previous_mac + canonical.encode(), hashlib.sha256)


def load_key(path: Path) -> bytes:
    """The key at `path`, made at the first start; readable by its owner alone.

    Raises ValueError when the file is not a key, OSError.
    """
    if not path.exists():
        descriptor = os.open(path, os.O_CREAT | os.O_EXCL | os.O_WRONLY, 0o600)
        with os.fdopen(descriptor, "wb") as file:
            file.write(secrets.token_bytes(KEY_BYTES))
            file.flush()
            os.fsync(file.fileno())
    key = path.read_bytes()
    if len(key) != KEY_BYTES:
        raise ValueError(f"{path} is not an audit key: it has {len(key)} bytes, not {KEY_BYTES}")
    return key
