"""How the record is opened: looked at first, brought to this version, checked, and compared with what it once was.

The check has a bound whatever the record's size. Pages are all checked while the database is not large, and the chain
is checked from its anchor on, which stays `ANCHOR_LAG` events behind; the whole of it is checked on request.
"""

from __future__ import annotations

import json
from dataclasses import dataclass

from sqlalchemy import Engine
from sqlalchemy.exc import DatabaseError

from ibkr_gateway_server.audit import schema
from ibkr_gateway_server.audit.chain import Place, load_key, read_mark, write_mark
from ibkr_gateway_server.audit.faults import Fault, fault_of
from ibkr_gateway_server.audit.files import RecordFiles, RecordUnusable, make
from ibkr_gateway_server.audit.migrations import migrate
from ibkr_gateway_server.audit.transaction import Transaction
from ibkr_gateway_server.domain.audit import AuditFilter, PageRequest, Rollback

# The events of a record that is behind its watermark: when that was first seen, and when a person took it as it is.
DETECTED = "rollback.detected"
ACCEPTED = "rollback.accepted"

# The newest events, at least so many, are checked at every start; it takes some tenths of a second.
ANCHOR_LAG = 5_000
# Up to this size every page of the database is checked at every start; of a larger one what is not the events, whose
# newest are checked by the chain.
FULL_CHECK_BYTES = 256 * 1024 * 1024

_PROJECTIONS = (schema.orders, schema.executions, schema.floors)

_RESTORE = "put it back from a backup, or move all of its files away to begin a new record"

_REMEDIES = {
    Fault.FULL: "free disk space",
    Fault.BUSY: "end the other program that holds it",
    Fault.IO: "look at the disk, then put the record back from a backup",
    Fault.CORRUPT: _RESTORE,
    Fault.OTHER: "look at the path that AUDIT_DB_PATH names, and who may write there",
}


@dataclass(frozen=True, slots=True)
class OpenedRecord:
    """A record that was found sound. `checked_count`: events whose hashes were checked."""

    engine: Engine
    key: bytes
    head: Place
    anchor: Place
    watermark: Place
    rollback: Rollback | None
    checked_count: int


def open_record(files: RecordFiles, *, durable: bool) -> OpenedRecord:
    """Open the record, made if there is none.

    Raises RecordUnusable with what is wrong and what to do; OSError.
    """
    files.database.parent.mkdir(parents=True, exist_ok=True)
    files.check()
    if not files.database.exists():
        make(files.database, b"")
    engine = schema.connect(files.database, durable=durable)
    try:
        opened = _checked(files, engine, durable=durable)
        make(files.opened, b"")
        return opened
    except DatabaseError as error:
        engine.dispose()
        fault = fault_of(error)
        raise RecordUnusable(f"{files.database} cannot be opened ({error.orig})", _REMEDIES[fault]) from error
    except BaseException:
        engine.dispose()
        raise


def _checked(files: RecordFiles, engine: Engine, *, durable: bool) -> OpenedRecord:
    _check_pages(files, engine)
    with engine.begin() as connection:
        migrate(connection)
        # Its end is kept from now on; a record without one is from before that.
        keeps_watermark = connection.exec_driver_sql("PRAGMA application_id").scalar_one() == schema.APPLICATION_ID
        if not keeps_watermark:
            connection.exec_driver_sql(f"PRAGMA application_id = {schema.APPLICATION_ID}")
    with schema.reading(engine).begin() as connection:
        tx = Transaction(connection, b"", Place())
        head = tx.head_place()
        key = load_key(files.key, may_make=head.sequence == 0)
        tx = Transaction(connection, key, head)
        known = read_mark(files.anchor, key) or Place()
        # An anchor beyond the end says no more than the watermark does below.
        start = known if known.sequence <= head.sequence else Place()
        _check_chain(files, tx, start)
        anchor = tx.place_at(max(head.sequence - ANCHOR_LAG, start.sequence)) or start
        watermark = read_mark(files.watermark, key)
        rollback = _rollback(tx, head, watermark) if watermark or keeps_watermark else None
    if rollback is not None and rollback.is_new and rollback.watermark_sequence and files.opened.exists():
        raise RecordUnusable(
            f"{files.write_ahead_log} is missing or damaged: the record ends at {rollback.head_sequence} of "
            f"{rollback.watermark_sequence} events, and the gateway that wrote it did not close it",
            f"put that file back; if it is lost for good remove {files.opened}, start again and have orders checked "
            "with IBKR before `ibkr-gateway audit accept-rollback`",
        )
    if rollback is None and watermark != head:
        watermark = head
        write_mark(files.watermark, head, key, durable=durable)
    if anchor != known:
        write_mark(files.anchor, anchor, key, durable=durable)
    return OpenedRecord(engine, key, head, anchor, watermark or Place(), rollback, head.sequence - start.sequence)


def _check_pages(files: RecordFiles, engine: Engine) -> None:
    """Raises RecordUnusable when pages of the database are damaged."""
    whole = files.database.stat().st_size <= FULL_CHECK_BYTES
    checks = ["PRAGMA quick_check(1)"] if whole else [f"PRAGMA quick_check({table.name})" for table in _PROJECTIONS]
    with schema.reading(engine).begin() as connection:
        for check in checks:
            found = connection.exec_driver_sql(check).scalars().first()
            if found != "ok":
                raise RecordUnusable(f"{files.database} is damaged ({found})", _RESTORE)


def _check_chain(files: RecordFiles, tx: Transaction, anchor: Place) -> None:
    """Raises RecordUnusable when an event from the anchor on is not what was written."""
    if anchor.sequence and tx.place_at(anchor.sequence) != anchor:
        raise RecordUnusable(f"event {anchor.sequence} of {files.database} was changed or removed", _RESTORE)
    _, first_bad = tx.verify_after(anchor)
    if first_bad:
        raise RecordUnusable(f"event {first_bad} of {files.database} was changed or removed", _RESTORE)


def _rollback(tx: Transaction, head: Place, watermark: Place | None) -> Rollback | None:
    """Whether the record is behind what it once was. Events that came after that was first seen do not hide it."""
    if watermark is None:
        found = Rollback(head.sequence, 0) if head.sequence else None
    else:
        found = None if tx.place_at(watermark.sequence) == watermark else Rollback(head.sequence, watermark.sequence)
    if found is None:
        return None
    seen, accepted = (tx.events(AuditFilter(kind=kind), PageRequest(1)).items for kind in (DETECTED, ACCEPTED))
    is_accepted = bool(accepted and seen and accepted[0].sequence > seen[0].sequence)
    newest = (accepted if is_accepted else seen)[:1]
    body = json.loads(newest[0].body_json) if newest else {}
    if body.get("watermark_sequence") != found.watermark_sequence:
        return found
    if is_accepted:
        # It was accepted, and the process ended before the watermark was; a watermark that is gone is no such case.
        return None if watermark is not None else found
    return Rollback(body["head_sequence"], found.watermark_sequence, is_new=False)
