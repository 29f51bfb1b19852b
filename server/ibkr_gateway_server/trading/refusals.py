"""Refusals in the record: which order, change or cancel was not sent, on whose behalf, and why."""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager, suppress

from ibkr_gateway_server.audit.store import AuditStore
from ibkr_gateway_server.audit.stored import Cause, OrderIds
from ibkr_gateway_server.domain.errors import AuditUnavailable, DomainError, Invalid


class Refusals:
    """Writes down what is refused. What is wrong by itself is not: it says nothing but that a caller errs."""

    def __init__(self, store: AuditStore) -> None:
        self._store = store

    @asynccontextmanager
    async def of(self, about: OrderIds, kind: str) -> AsyncIterator[None]:
        """Whatever is refused within is an event of this kind, and refused still."""
        try:
            yield
        except Invalid:
            raise
        except DomainError as error:
            body = {"reason": error.reason, "message": error.message}
            cause = Cause.of_caller()
            # Where the record is why, there is nowhere to write it; the log has it.
            with suppress(AuditUnavailable):
                await self._store.transact(lambda tx: tx.append(kind, body, order=about, cause=cause))
            raise
