"""The session in the record: what became of it and why, beside the orders that depended on it.

Nothing waits for this: what happens is queued and written when the disk has time. While TWS is away the supervisor
tries again and again; what has been written once is not written again until the session was of use in between, so that
a night without TWS is a few rows.
"""

from __future__ import annotations

import asyncio
import logging
from collections import deque
from collections.abc import Callable
from functools import partial
from typing import Any

from ibkr_gateway_server.audit.store import AuditStore
from ibkr_gateway_server.audit.transaction import Transaction
from ibkr_gateway_server.domain.errors import AuditUnavailable, DomainError, Reason
from ibkr_gateway_server.domain.sessions import SessionEvent, SessionState

log = logging.getLogger(__name__)

# Rows that wait for a record that cannot be written; of more the oldest are lost, and their number is written.
WAITING_LIMIT = 1_000
RETRY_AFTER_S = 1.0

# In these states the session is of use, so that whatever follows is news.
_OF_USE = (SessionState.READY, SessionState.FARM_DEGRADED)


class SessionRecord:
    """Writes session events. `mismatch` says what is wrong with the accounts of the login, if anything."""

    def __init__(self, store: AuditStore, mismatch: Callable[[], DomainError | None]) -> None:
        self._store = store
        self._mismatch = mismatch
        self._waiting: deque[SessionEvent] = deque()
        self._work = asyncio.Event()
        self._written: set[tuple[object, ...]] = set()
        # Messages that could not be read, by their digests: one that is told again and again is written once.
        self._unreadable: set[object] = set()
        self._told_mismatch: Reason | str = ""
        self._lost_count = 0
        self._epoch = 0

    def put(self, event: SessionEvent) -> None:
        """Take an event; returns at once."""
        self._epoch = event.epoch
        if event.kind == "session.transition":
            self._look_at_accounts(event)
            place = (event.body["from"], event.body["to"], event.body["reason"])
            if event.body["to"] in _OF_USE:
                self._written.clear()
            elif place in self._written:
                return
            self._written.add(place)
        elif event.kind == "decode.error":
            if event.body["digest"] in self._unreadable:
                return
            if len(self._unreadable) < WAITING_LIMIT:
                self._unreadable.add(event.body["digest"])
        self._queue(event)

    def reconciled(self) -> None:
        """All that IBKR knows of our orders has been heard and recorded."""
        self._queue(SessionEvent("reconcile.run", self._epoch))

    async def run(self) -> None:
        """Write until cancelled; what waits then is written before the end."""
        try:
            while True:
                await self._work.wait()
                self._work.clear()
                await self._write()
        finally:
            # The gateway is stopping, and the record is still open.
            await self._write(retries=False)

    def _look_at_accounts(self, event: SessionEvent) -> None:
        if event.body["to"] not in (*_OF_USE, SessionState.SYNCING):
            return
        found = self._mismatch()
        told = found.message if found is not None else ""
        if found is not None and told != self._told_mismatch:
            log.error("orders are refused: the accounts are not the right ones", extra={"text": found.message})
            self._queue(SessionEvent("account.mismatch", event.epoch, {"text": found.message, **found.metadata}))
        self._told_mismatch = told

    def _queue(self, event: SessionEvent) -> None:
        if len(self._waiting) >= WAITING_LIMIT:
            self._waiting.popleft()
            self._lost_count += 1
        self._waiting.append(event)
        self._work.set()

    async def _write(self, *, retries: bool = True) -> None:
        while self._waiting:
            batch, lost = list(self._waiting), self._lost_count
            self._waiting.clear()
            self._lost_count = 0
            try:
                # Shielded: what is cancelled halfway would be neither here nor there.
                await asyncio.shield(self._store.transact(partial(_append, batch=batch, lost=lost)))
            except AuditUnavailable:
                # The recorder of orders says so, and refuses orders meanwhile.
                self._waiting.extendleft(reversed(batch))
                self._lost_count += lost
                if not retries:
                    return
                await asyncio.sleep(RETRY_AFTER_S)


def _append(tx: Transaction, *, batch: list[SessionEvent], lost: int) -> None:
    if lost:
        tx.append("session.events_lost", {"count": lost})
    for event in batch:
        body: dict[str, Any] = dict(event.body)
        tx.append(event.kind, body, epoch=event.epoch)
