"""The store: one thread, one connection, one transaction at a time.

SQLite commits take a fraction of a millisecond and at times 200; they run on a thread of their own so that the event
loop never waits for the disk. A transaction is a function of a `Transaction`; what it wrote is durable when
`transact` returns. In virtual time there are no threads to wait for: an inline store works where it is called.

A transaction that fails has written nothing. A full disk and another program's lock are tried again every second; after
a failure of the disk itself nothing is written until a restart has checked what it holds: an fsync that failed once
succeeds the next time, with the data lost. Reads go on throughout.
"""

from __future__ import annotations

import asyncio
import base64
import hashlib
import hmac
from collections.abc import Callable, Mapping
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from datetime import datetime
from functools import partial
from pathlib import Path
from types import TracebackType
from typing import Any, Self, TypeVar

from ibkr_gateway_server.audit.chain import Place
from ibkr_gateway_server.audit.files import RecordFiles
from ibkr_gateway_server.audit.stored import Cause
from ibkr_gateway_server.audit.transaction import Transaction
from ibkr_gateway_server.audit.writer import Writer
from ibkr_gateway_server.domain.audit import (
    AuditFilter,
    AuditRecord,
    ChainCheck,
    ExecutionFilter,
    OrderFilter,
    Page,
    PageRequest,
)
from ibkr_gateway_server.domain.clock import utc_now
from ibkr_gateway_server.domain.errors import AuditRolledBack, AuditUnavailable, FieldsInvalid, FieldViolation
from ibkr_gateway_server.domain.orders import Execution, LegRole, Mark, OrderStatus
from ibkr_gateway_server.domain.tallies import Tallies

T = TypeVar("T")

# orderRef marks an order as ours and names its intent: this prefix, then 20 characters that only the key can make. The
# first 12 (60 bits) name a leg of an intent, the other 8 (40 bits) seal that name.
ORDER_REF_PREFIX = "g1."
MARK_NAME_LENGTH, MARK_SEAL_LENGTH = 12, 8

# How soon the watermark follows what is no command, and how often a record that fails is tried again.
TEND_AFTER_S = 1.0
# Events that a check of the whole chain reads at a time; what is to be written waits no longer than that takes.
VERIFY_PAGE = 2_000


class AuditStore:
    """The record at one path. An async context manager: opened on entry, checkpointed and closed on exit.

    `inline`: transactions run at once on the loop's own thread, as virtual time needs it. Not `durable`: a commit does
    not wait for the disk, so a power cut may lose it; for records that are thrown away. `now` dates events;
    `observe_commit` is told how long each commit took, in seconds.
    """

    def __init__(
        self,
        path: Path,
        *,
        inline: bool = False,
        durable: bool = True,
        now: Callable[[], datetime] = utc_now,
        tallies: Tallies | None = None,
        observe_commit: Callable[[float], None] = lambda _: None,
    ) -> None:
        self.path = path
        self._thread = None if inline else ThreadPoolExecutor(1, thread_name_prefix="audit")
        self._writer = Writer(
            RecordFiles(path), durable=durable, now=now, tallies=tallies or Tallies(), observe_commit=observe_commit
        )
        self._attention = asyncio.Event()
        self._tending: asyncio.Task[None] | None = None

    async def __aenter__(self) -> Self:
        """Raises RecordUnusable, OSError."""
        try:
            await self._run(self._writer.open)
        except BaseException:
            if self._thread is not None:
                self._thread.shutdown()
            raise
        self._tending = asyncio.create_task(self._tend())
        self._attention.set()
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        assert self._tending is not None
        self._tending.cancel()
        await asyncio.wait([self._tending])
        await self._run(self._writer.close)
        if self._thread is not None:
            self._thread.shutdown()

    @property
    def checked_count(self) -> int:
        """Events whose hashes were checked at the start."""
        return self._writer.checked_count

    def check(self) -> None:
        """Whether an order could be recorded. Raises AuditRolledBack, AuditUnavailable."""
        if (rollback := self._writer.rollback) is not None:
            raise AuditRolledBack(rollback.head_sequence, rollback.watermark_sequence)
        if self._writer.fault is not None or self._writer.mark_fault is not None:
            raise AuditUnavailable

    async def transact(self, work: Callable[[Transaction], T]) -> T:
        """Run `work` in one transaction; durable when this returns. Raises AuditUnavailable, with nothing written."""
        try:
            return await self._run(partial(self._transact, work))
        finally:
            self._look_after()

    async def append_or_journal(
        self,
        kind: str,
        body: Mapping[str, Any],
        *,
        order: OrderStatus | None = None,
        cause: Cause | None = None,
        epoch: int = 0,
    ) -> None:
        """Record what must happen even while the record cannot be written: then in the emergency journal beside it.

        Durable when this returns; what is in the journal becomes an event once the record can be written. Raises
        AuditUnavailable when not even the journal can be.
        """
        cause = cause or Cause()
        try:
            await self.transact(lambda tx: tx.append(kind, body, order=order, cause=cause, epoch=epoch))
        except AuditUnavailable:
            fields = {"principal": cause.principal, "correlation_id": cause.correlation_id, "epoch": epoch}
            if order is not None:
                ids = {"client_order_id": order.client_order_id, "order_id": order.order_id, "perm_id": order.perm_id}
                fields |= ids
            await self._run(partial(self._writer.note, kind, {**fields, "body": dict(body)}))
            self._attention.set()

    async def accept_rollback(self, head_sequence: int, comment: str, cause: Cause) -> int:
        """Take a record that is behind what it once was as it is. Returns how many events are lost for good.

        `head_sequence` is where the caller has seen it end. Raises FieldsInvalid, AuditUnavailable.
        """
        wrong = await self._run(lambda: self._writer.why_not_to_accept(head_sequence))
        if wrong:
            raise FieldsInvalid((FieldViolation("head_sequence", wrong),))
        return await self._run(partial(self._writer.accept_rollback, comment, cause))

    def order_ref(self, client_order_id: str, role: LegRole = LegRole.ENTRY) -> str:
        """The mark an order carries at IBKR: the same for every attempt of one leg of one intent, not to be forged."""
        name = _base32(hmac.digest(self._writer.key, f"orderRef|{client_order_id}|{role}".encode(), hashlib.sha256))
        return ORDER_REF_PREFIX + name[:MARK_NAME_LENGTH] + self._seal(name[:MARK_NAME_LENGTH])

    def mark_of(self, order_ref: str) -> Mark:
        """Whether this gateway has made a mark: that can be told without knowing the order."""
        if not order_ref.startswith(ORDER_REF_PREFIX):
            return Mark.NONE
        name, seal = (text := order_ref.removeprefix(ORDER_REF_PREFIX))[:MARK_NAME_LENGTH], text[MARK_NAME_LENGTH:]
        return Mark.OWN if hmac.compare_digest(seal.encode(), self._seal(name).encode()) else Mark.FORGED

    def _seal(self, name: str) -> str:
        return _base32(hmac.digest(self._writer.key, b"seal|" + name.encode(), hashlib.sha256))[:MARK_SEAL_LENGTH]

    # --- reading -------------------------------------------------------------------------------------------------

    async def read(self, work: Callable[[Transaction], T]) -> T:
        """Run `work`, which only reads; possible while nothing can be written. Raises AuditUnavailable."""
        return await self._run(partial(self._writer.read, work))

    async def query(self, wanted: AuditFilter, page: PageRequest) -> Page[AuditRecord]:
        """Events, newest first."""
        return await self.read(lambda tx: tx.events(wanted, page))

    async def events_after(self, sequence: int, limit: int) -> list[AuditRecord]:
        """At most `limit` events after a sequence, oldest first."""
        return await self.read(lambda tx: tx.events_after(sequence, limit))

    async def last_sequence(self) -> int:
        """Sequence of the newest event; 0: none."""
        return await self.read(lambda tx: tx.last_sequence())

    async def orders(self, wanted: OrderFilter, page: PageRequest) -> Page[OrderStatus]:
        """Orders, newest first."""
        return await self.read(lambda tx: tx.orders(wanted, page))

    async def orders_after(self, sequence: int, wanted: OrderFilter, limit: int) -> list[tuple[int, OrderStatus]]:
        """At most `limit` orders whose intents come after a sequence, with those, oldest first."""
        return await self.read(lambda tx: tx.orders_after(sequence, wanted, limit))

    async def executions(self, wanted: ExecutionFilter, page: PageRequest) -> Page[Execution]:
        """Executions, newest first; corrected ones are left out."""
        return await self.read(lambda tx: tx.executions(wanted, page))

    async def verify(self) -> ChainCheck:
        """Check every hash from the first event to the last, in pieces, so that what is to be written gets its turn."""
        place, watermark = Place(), self._writer.watermark.sequence
        while True:
            before = place
            place, first_bad = await self.read(partial(Transaction.verify_after, place=before, limit=VERIFY_PAGE))
            if first_bad:
                return ChainCheck(first_bad, first_bad, watermark)
            if place == before:
                return ChainCheck(place.sequence, watermark_sequence=watermark)

    # --- keeping it up -------------------------------------------------------------------------------------------

    async def _tend(self) -> None:
        """Until cancelled: have the watermark follow, and a record that failed tried again."""
        while True:
            await self._attention.wait()
            self._attention.clear()
            await asyncio.sleep(TEND_AFTER_S)
            with suppress(AuditUnavailable):
                await self._run(self._writer.tend)
            if self._writer.needs_tending:
                self._attention.set()

    def _look_after(self) -> None:
        """Have what follows a transaction done. A command's watermark is next; the command itself does not wait."""
        if self._writer.follows_at_once:
            if self._thread is None:
                self._writer.follow()
            else:
                self._thread.submit(self._writer.follow)
        if self._writer.needs_tending:
            self._attention.set()

    def _transact(self, work: Callable[[Transaction], T]) -> T:
        return self._writer.transact(work)

    async def _run(self, work: Callable[[], T]) -> T:
        if self._thread is None:
            return work()
        return await asyncio.get_running_loop().run_in_executor(self._thread, work)


def _base32(digest: bytes) -> str:
    return base64.b32encode(digest).decode().lower()
