"""The chain of hashes: each event's MAC covers the event and the MAC before it, so that none can be changed, removed or
slipped in without the key.

A mark names a place in the chain and is kept outside of the database: the watermark is the newest event that there
ever was, so that a missing end is noticed; the anchor is one up to which the chain was found whole, so that a start
need not read it all.
"""

from __future__ import annotations

import hashlib
import hmac
import json
import secrets
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from ibkr_gateway_server.audit.files import RecordUnusable, make, replace

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


@dataclass(frozen=True, slots=True)
class Place:
    """A place in the chain: an event's sequence and its MAC. 0: before the first event."""

    sequence: int = 0
    mac: bytes = GENESIS


def link(key: bytes, previous_mac: bytes, values: Sequence[object]) -> bytes:
    """The MAC of one event after the one before it; `values` are those of the columns that are covered."""
    canonical = json.dumps(list(values), ensure_ascii=True, separators=(",", ":"))
    return hmac.digest(key, previous_mac + canonical.encode(), hashlib.sha256)


def load_key(path: Path, *, may_make: bool) -> bytes:
    """The key at `path`, made when there is nothing yet that was signed with another; readable by its owner alone.

    Raises RecordUnusable when the file is missing or is no key; OSError.
    """
    if not path.exists():
        if not may_make:
            raise RecordUnusable(f"{path}, with which the record was signed, is gone", "put it back from a backup")
        make(path, secrets.token_bytes(KEY_BYTES))
    key = path.read_bytes()
    if len(key) != KEY_BYTES:
        raise RecordUnusable(f"{path} has {len(key)} bytes and a key has {KEY_BYTES}", "put it back from a backup")
    return key


def write_mark(path: Path, place: Place, key: bytes, *, durable: bool) -> None:
    """Have a mark at `path` name a place, sealed with the key. Raises OSError.

    The folder is not synced: after a power cut an older mark may be back, which says less and nothing wrong.
    """
    text = json.dumps({"sequence": place.sequence, "mac": place.mac.hex(), "seal": _seal(path, place, key)})
    replace(path, f"{text}\n".encode(), durable=durable)


def read_mark(path: Path, key: bytes) -> Place | None:
    """The place that the mark at `path` names; None: there is none.

    Raises RecordUnusable when it was not written with this key; OSError.
    """
    if not path.exists():
        return None
    try:
        fields = json.loads(path.read_bytes())
        place = Place(int(fields["sequence"]), bytes.fromhex(fields["mac"]))
        if hmac.compare_digest(str(fields["seal"]).encode(), _seal(path, place, key).encode()):
            return place
    except (ValueError, TypeError, KeyError):
        pass
    raise RecordUnusable(
        f"{path} was changed, or written with another key",
        "put it back from where it went, or remove it and have the record checked with `ibkr-gateway audit verify`",
    )


def _seal(path: Path, place: Place, key: bytes) -> str:
    """What only the key can make of a mark; the file's kind is in it, so that one mark is not taken for another."""
    sealed = f"{path.suffix}|{place.sequence}|{place.mac.hex()}"
    return hmac.digest(key, sealed.encode(), hashlib.sha256).hex()
