"""The writer: what the store does on its thread, and what it knows of the record's state.

Everything here runs on one thread. The public attributes and `needs_tending` are looked at from the event loop as well;
each is one reference, replaced as a whole.
"""

from __future__ import annotations

import errno
import json
import logging
import uuid
from collections.abc import Callable, Mapping, Sequence
from contextlib import suppress
from datetime import datetime
from functools import partial
from time import perf_counter
from typing import Any, TypeVar

from sqlalchemy import Engine
from sqlalchemy.exc import DatabaseError

from ibkr_gateway_server.audit import schema
from ibkr_gateway_server.audit.chain import Place, write_mark
from ibkr_gateway_server.audit.emergency import EmergencyJournal, Line
from ibkr_gateway_server.audit.faults import Fault, fault_of
from ibkr_gateway_server.audit.files import RecordFiles, sync_folder
from ibkr_gateway_server.audit.opening import ACCEPTED, ANCHOR_LAG, DETECTED, open_record
from ibkr_gateway_server.audit.stored import Cause, OrderIds
from ibkr_gateway_server.audit.transaction import Transaction
from ibkr_gateway_server.domain.audit import AuditFilter, PageRequest, Rollback
from ibkr_gateway_server.domain.errors import AuditUnavailable
from ibkr_gateway_server.domain.tallies import AUDIT_ERRORS, Tallies

log = logging.getLogger(__name__)

T = TypeVar("T")

MERGED = "emergency.merged"
_NUMBERS = (("order_id", 0), ("perm_id", 0))
RECOVERED = "audit.recovered"


class Writer:
    """One record, opened, written, read and closed on one thread.

    `fault` is why nothing can be written, `mark_fault` why the watermark cannot; None: it can.
    """

    def __init__(
        self,
        files: RecordFiles,
        *,
        durable: bool,
        now: Callable[[], datetime],
        tallies: Tallies,
        observe_commit: Callable[[float], None],
    ) -> None:
        self.key = b""
        self.watermark = Place()
        self.rollback: Rollback | None = None
        self.fault: Fault | None = None
        self.mark_fault: Fault | None = None
        self.checked_count = 0
        self.follows_at_once = False
        self._files = files
        self._is_durable = durable
        self._now = now
        self._tallies = tallies
        self._observe_commit = observe_commit
        self._boot_id = uuid.uuid4().hex
        self._engine: Engine | None = None
        self._head = Place()
        self._anchor = Place()
        self._journal: EmergencyJournal | None = None

    @property
    def needs_tending(self) -> bool:
        """True while `tend` has something to do, or to try again."""
        if self.fault is not None:
            return not self.fault.lasts
        is_behind = self.watermark != self._head and self.rollback is None
        return is_behind or (self._journal is not None and self._journal.has_lines)

    def open(self) -> None:
        """Raises RecordUnusable, OSError."""
        opened = open_record(self._files, durable=self._is_durable)
        self._engine, self.key = opened.engine, opened.key
        self._head, self._anchor, self.watermark = opened.head, opened.anchor, opened.watermark
        self.rollback, self.checked_count = opened.rollback, opened.checked_count
        self._journal = EmergencyJournal(self._files, self.key)
        if self._is_durable:
            self._journal.hold_ballast()
        if (rollback := self.rollback) is not None:
            fields = {"head_sequence": rollback.head_sequence, "watermark_sequence": rollback.watermark_sequence}
            log.error("the record is behind what it once was; orders are refused until that is accepted", extra=fields)
            if rollback.is_new:
                with suppress(AuditUnavailable):
                    self.transact(lambda tx: tx.append(DETECTED, fields))
        with suppress(AuditUnavailable):
            self._merge(self._journal)

    def close(self) -> None:
        """Bring everything into the database file; the next start knows that nothing is missing."""
        if self._engine is None:
            return
        try:
            if self.fault is None or not self.fault.lasts:
                self._follow()
                self._files.ballast.unlink(missing_ok=True)
        except (OSError, DatabaseError) as error:
            log.error("the record was closed without its watermark", extra={"error": str(error)})
        # The last connection that closes brings the write-ahead log into the database and removes it.
        self._engine.dispose()
        self._engine = None
        if not self._files.write_ahead_log.exists():
            self._files.opened.unlink(missing_ok=True)
            sync_folder(self._files.opened.parent)

    def transact(self, work: Callable[[Transaction], T]) -> T:
        """Run `work` in one transaction. Raises AuditUnavailable, with nothing written."""
        if self._engine is None or (self.fault is not None and self.fault.lasts):
            raise AuditUnavailable
        began = perf_counter()
        try:
            with self._engine.begin() as connection:
                tx = Transaction(connection, self.key, self._head, self._boot_id, self._now)
                result = work(tx)
        except DatabaseError as error:
            self._fail(fault_of(error), str(error.orig))
            raise AuditUnavailable from error
        if tx.head != self._head:
            self._observe_commit(perf_counter() - began)
            self._head = tx.head
            self._works()
            self.follows_at_once = self.follows_at_once or tx.is_urgent
        return result

    def read(self, work: Callable[[Transaction], T]) -> T:
        """Run `work`, which only reads. Raises AuditUnavailable."""
        if self._engine is None:
            raise AuditUnavailable
        try:
            with schema.reading(self._engine).begin() as connection:
                return work(Transaction(connection, self.key, self._head))
        except DatabaseError as error:
            log.error("the record cannot be read", extra={"text": str(error.orig)})
            raise AuditUnavailable from error

    def note(self, kind: str, fields: Mapping[str, Any]) -> None:
        """Note an event in the emergency journal, with whatever space that needs. Raises AuditUnavailable."""
        if self._journal is None:
            raise AuditUnavailable
        self._journal.drop_ballast()
        self._note(self._journal, kind, fields)

    def tend(self) -> None:
        """Try a record that failed again, with what was noted meanwhile; have the watermark follow.

        Raises AuditUnavailable.
        """
        fault, journal = self.fault, self._journal
        if journal is None or (fault is not None and fault.lasts):
            return
        if journal.has_lines:
            self._merge(journal)
        elif fault is not None:
            # A real event: anything less might succeed where an order's would not.
            self.transact(lambda tx: tx.append(RECOVERED, {"fault": fault}))
        self.follow()

    def follow(self) -> None:
        """Have the watermark follow. The events themselves are durable: a failure is in the way of the next ones."""
        self.follows_at_once = False
        try:
            self._follow()
            self.mark_fault = None
        except OSError as error:
            fault = Fault.FULL if error.errno in (errno.ENOSPC, errno.EDQUOT) else Fault.IO
            self._tallies.add(AUDIT_ERRORS, fault)
            if self.mark_fault is None:
                log.error("the watermark cannot be written; orders are refused", extra={"error": str(error)})
            self.mark_fault = fault
        except AuditUnavailable:
            log.warning("the anchor stays where it is: the record cannot be read")

    # --- behind its watermark ------------------------------------------------------------------------------------

    def why_not_to_accept(self, head_sequence: int) -> str:
        """What is wrong with accepting a rollback by one who saw the record end there; empty: nothing."""
        rollback = self.rollback
        if rollback is None:
            return "the record is not behind its watermark: there is nothing to accept"
        if not rollback.head_sequence <= head_sequence <= self._head.sequence:
            return f"the record ends at {self._head.sequence}, not at {head_sequence}: have it checked again"
        return ""

    def accept_rollback(self, comment: str, cause: Cause) -> int:
        """Go on from what there is. Returns how many events are lost. Raises AuditUnavailable."""
        rollback = self.rollback
        assert rollback is not None
        body: dict[str, object] = {
            "head_sequence": rollback.head_sequence,
            "watermark_sequence": rollback.watermark_sequence,
            "lost_count": rollback.lost_count,
            "comment": comment,
        }
        self.transact(lambda tx: tx.append(ACCEPTED, body, cause=cause))
        try:
            write_mark(self._files.watermark, self._head, self.key, durable=self._is_durable)
        except OSError as error:
            self._fail(Fault.OTHER, str(error))
            raise AuditUnavailable from error
        self.watermark, self.rollback = self._head, None
        log.warning("the record was taken as it is", extra=body)
        return rollback.lost_count

    # --- small parts ---------------------------------------------------------------------------------------------

    def _fail(self, fault: Fault, text: str) -> None:
        self._tallies.add(AUDIT_ERRORS, fault)
        is_new, self.fault = self.fault is not fault, fault
        if not is_new:
            return
        log.error("the record cannot be written", extra={"fault": fault, "text": text, "until_restart": fault.lasts})
        if self._journal is not None:
            try:
                # The ballast stays: it is for cancels.
                self._note(self._journal, "audit.failed", {"body": {"fault": fault}})
            except AuditUnavailable:
                log.warning("nor can the emergency journal")

    def _works(self) -> None:
        if self.fault is not None:
            log.info("the record can be written again", extra={"fault": self.fault})
            self.fault = None

    def _note(self, journal: EmergencyJournal, kind: str, fields: Mapping[str, Any]) -> None:
        place = {"id": uuid.uuid4().hex, "kind": kind, "record_time": self._now().isoformat(timespec="microseconds")}
        try:
            journal.add({**place, **fields})
        except OSError as error:
            log.error("the emergency journal cannot be written", extra={"error": str(error)})
            raise AuditUnavailable from error

    def _merge(self, journal: EmergencyJournal) -> None:
        """Make every line of the journal an event, then remove it. Raises AuditUnavailable."""
        try:
            lines = journal.lines()
            if lines:
                self.transact(partial(self._append_lines, lines))
            if journal.has_lines:
                journal.clear()
                journal.hold_ballast()
        except OSError as error:
            log.error("the emergency journal cannot be merged", extra={"error": str(error)})

    def _append_lines(self, lines: Sequence[Line], tx: Transaction) -> None:
        # A crash after the commit leaves lines that are events already, and those are the newest.
        recent = AuditFilter(kind=MERGED, after_sequence=self._head.sequence - ANCHOR_LAG)
        known = {json.loads(event.body_json).get("id") for event in tx.events(recent, PageRequest(ANCHOR_LAG)).items}
        for line in lines:
            fields = dict(line.fields)
            if line.is_authentic and fields["id"] in known:
                continue
            ids = OrderIds(*(fields.pop(name, none) for name, none in (("client_order_id", ""), *_NUMBERS)))
            cause = Cause(fields.pop("principal", ""), fields.pop("correlation_id", ""))
            epoch = fields.pop("epoch", 0)
            tx.append(MERGED, {**fields, "is_authentic": line.is_authentic}, order=ids, cause=cause, epoch=epoch)

    def _follow(self) -> None:
        """The watermark and, from time to time, the anchor go on to where the record is. Raises OSError."""
        if self.rollback is not None or self.watermark == self._head:
            return
        write_mark(self._files.watermark, self._head, self.key, durable=self._is_durable)
        self.watermark = self._head
        if self._head.sequence - self._anchor.sequence >= 2 * ANCHOR_LAG:
            place = self.read(lambda tx: tx.place_at(self._head.sequence - ANCHOR_LAG))
            assert place is not None
            write_mark(self._files.anchor, place, self.key, durable=self._is_durable)
            self._anchor = place
