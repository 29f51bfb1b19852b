"""The store: one thread, one connection, one transaction at a time.

SQLite commits take a fraction of a millisecond and at times 200; they run on a thread of their own so that the event
loop never waits for the disk. A transaction is a function of a `Transaction`; what it wrote is durable when
`transact` returns. In virtual time there are no threads to wait for: an inline store works where it is called.
"""

from __future__ import annotations

import asyncio
import base64
import hashlib
import hmac
import logging
import uuid
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from functools import partial
from pathlib import Path
from types import TracebackType
from typing import Self, TypeVar

from sqlalchemy import Engine, select
from sqlalchemy.exc import DatabaseError

from ibkr_gateway_server.audit import schema
from ibkr_gateway_server.audit.chain import GENESIS, load_key
from ibkr_gateway_server.audit.transaction import Transaction
from ibkr_gateway_server.domain.audit import (
    AuditFilter,
    AuditRecord,
    ChainCheck,
    ExecutionFilter,
    OrderFilter,
    Page,
    PageRequest,
)
from ibkr_gateway_server.domain.errors import AuditUnavailable
from ibkr_gateway_server.domain.orders import Execution, LegRole, Mark, OrderStatus

log = logging.getLogger(__name__)

T = TypeVar("T")

# orderRef marks an order as ours and names its intent: this prefix, then 20 characters that only the key can make. The
# first 12 (60 bits) name a leg of an intent, the other 8 (40 bits) seal that name.
ORDER_REF_PREFIX = "g1."
MARK_NAME_LENGTH, MARK_SEAL_LENGTH = 12, 8


class AuditStore:
    """The record at one path. An async context manager: opened on entry, checkpointed and closed on exit.

    `inline`: transactions run at once on the loop's own thread, as virtual time needs it. Not `durable`: a commit does
    not wait for the disk, so a power cut may lose it; for records that are thrown away.
    """

    def __init__(self, path: Path, *, inline: bool = False, durable: bool = True) -> None:
        self.path = path
        self._thread = None if inline else ThreadPoolExecutor(1, thread_name_prefix="audit")
        self._is_durable = durable
        self._engine: Engine | None = None
        self._key = b""
        self._boot_id = uuid.uuid4().hex
        self._last_mac = GENESIS

    async def __aenter__(self) -> Self:
        await self._run(self._open)
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        await self._run(self._close)
        if self._thread is not None:
            self._thread.shutdown()

    async def transact(self, work: Callable[[Transaction], T]) -> T:
        """Run `work` in one transaction; durable when this returns. Raises AuditUnavailable, with nothing written."""
        return await self._run(partial(self._transact, work))

    def order_ref(self, client_order_id: str, role: LegRole = LegRole.ENTRY) -> str:
        """The mark an order carries at IBKR: the same for every attempt of one leg of one intent, not to be forged."""
        name = _base32(hmac.digest(self._key, f"orderRef|{client_order_id}|{role}".encode(), hashlib.sha256))
        return ORDER_REF_PREFIX + name[:MARK_NAME_LENGTH] + self._seal(name[:MARK_NAME_LENGTH])

    def mark_of(self, order_ref: str) -> Mark:
        """Whether this gateway has made a mark: that can be told without knowing the order."""
        if not order_ref.startswith(ORDER_REF_PREFIX):
            return Mark.NONE
        name, seal = (text := order_ref.removeprefix(ORDER_REF_PREFIX))[:MARK_NAME_LENGTH], text[MARK_NAME_LENGTH:]
        return Mark.OWN if hmac.compare_digest(seal.encode(), self._seal(name).encode()) else Mark.FORGED

    def _seal(self, name: str) -> str:
        return _base32(hmac.digest(self._key, b"seal|" + name.encode(), hashlib.sha256))[:MARK_SEAL_LENGTH]

    # --- reading -------------------------------------------------------------------------------------------------

    async def query(self, wanted: AuditFilter, page: PageRequest) -> Page[AuditRecord]:
        """Events, newest first."""
        return await self.transact(lambda tx: tx.events(wanted, page))

    async def events_after(self, sequence: int, limit: int) -> list[AuditRecord]:
        """At most `limit` events after a sequence, oldest first."""
        return await self.transact(lambda tx: tx.events_after(sequence, limit))

    async def last_sequence(self) -> int:
        """Sequence of the newest event; 0: none."""
        return await self.transact(lambda tx: tx.last_sequence())

    async def orders(self, wanted: OrderFilter, page: PageRequest) -> Page[OrderStatus]:
        """Orders, newest first."""
        return await self.transact(lambda tx: tx.orders(wanted, page))

    async def executions(self, wanted: ExecutionFilter, page: PageRequest) -> Page[Execution]:
        """Executions, newest first; corrected ones are left out."""
        return await self.transact(lambda tx: tx.executions(wanted, page))

    async def verify(self) -> ChainCheck:
        """Check every hash from the first event to the last."""
        return await self.transact(lambda tx: tx.verify())

    async def _run(self, work: Callable[[], T]) -> T:
        if self._thread is None:
            return work()
        return await asyncio.get_running_loop().run_in_executor(self._thread, work)

    # --- on the thread -------------------------------------------------------------------------------------------

    def _open(self) -> None:
        self._engine = schema.open_database(self.path, durable=self._is_durable)
        self._key = load_key(self.path.with_suffix(".key"))
        with self._engine.begin() as connection:
            last = connection.execute(select(schema.events.c.mac).order_by(schema.events.c.sequence.desc()).limit(1))
            self._last_mac = last.scalar_one_or_none() or GENESIS

    def _close(self) -> None:
        if self._engine is not None:
            self._engine.dispose()
            self._engine = None

    def _transact(self, work: Callable[[Transaction], T]) -> T:
        if self._engine is None:
            raise AuditUnavailable
        try:
            with self._engine.begin() as connection:
                transaction = Transaction(connection, self._key, self._last_mac, self._boot_id)
                result = work(transaction)
        except DatabaseError as error:
            log.error("the audit store failed", extra={"error": type(error.orig).__name__, "text": str(error.orig)})
            raise AuditUnavailable from error
        self._last_mac = transaction.last_mac
        return result


def _base32(digest: bytes) -> str:
    return base64.b32encode(digest).decode().lower()
