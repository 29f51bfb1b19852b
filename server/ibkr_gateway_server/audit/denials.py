"""Denials in the record: who was not let in, and to what.

Nothing waits for this, and whoever knocks without end does not fill the disk: so many rows at once, so many an hour,
and the next one says how many there were besides.
"""

from __future__ import annotations

import asyncio
import time
from collections import deque
from collections.abc import Callable
from dataclasses import dataclass

from ibkr_gateway_server.audit.store import AuditStore
from ibkr_gateway_server.audit.stored import Cause
from ibkr_gateway_server.audit.transaction import Transaction
from ibkr_gateway_server.domain.errors import AuditUnavailable, Reason

BURST = 100
ROWS_AN_HOUR = 600
RETRY_AFTER_S = 1.0


@dataclass(frozen=True, slots=True)
class Denial:
    """One call that was not let in. `token_hash` is the beginning of the hash of an unknown token; empty: none."""

    reason: Reason
    endpoint: str
    principal: str = ""
    correlation_id: str = ""
    token_hash: str = ""


class Denials:
    """Writes `authz.denied`. `clock` gives seconds that never go back."""

    def __init__(self, store: AuditStore, clock: Callable[[], float] = time.monotonic) -> None:
        self._store = store
        self._clock = clock
        self._room = float(BURST)
        self._counted_at = clock()
        self._waiting: deque[Denial] = deque()
        self._left_out = 0
        self._work = asyncio.Event()

    def put(self, denial: Denial) -> None:
        """Take a denial; returns at once."""
        now = self._clock()
        self._room = min(float(BURST), self._room + (now - self._counted_at) * ROWS_AN_HOUR / 3600)
        self._counted_at = now
        if self._room < 1 or len(self._waiting) >= BURST:
            self._left_out += 1
            return
        self._room -= 1
        self._waiting.append(denial)
        self._work.set()

    async def run(self) -> None:
        """Write until cancelled; what waits then is written before the end."""
        try:
            while True:
                await self._work.wait()
                self._work.clear()
                if not await self._write():
                    await asyncio.sleep(RETRY_AFTER_S)
                    self._work.set()
        finally:
            await self._write()

    async def _write(self) -> bool:
        """Write what waits. False: the record cannot be written, and it still waits."""
        batch, left_out = list(self._waiting), self._left_out
        if not batch:
            return True

        def append(tx: Transaction) -> None:
            for number, denial in enumerate(batch):
                body = {"reason": denial.reason, "endpoint": denial.endpoint, "token_hash": denial.token_hash}
                besides = {"left_out_count": left_out} if left_out and not number else {}
                tx.append("authz.denied", {**body, **besides}, cause=Cause(denial.principal, denial.correlation_id))

        try:
            # Shielded: what is cancelled halfway would be neither here nor there.
            await asyncio.shield(self._store.transact(append))
        except AuditUnavailable:
            return False
        self._left_out -= left_out
        for _ in batch:
            self._waiting.popleft()
        return True
