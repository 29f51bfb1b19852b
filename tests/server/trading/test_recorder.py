"""The recorder while the record fails: nothing is forgotten, everything is told, and it has a bound."""

from __future__ import annotations

import asyncio
import sqlite3
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import replace
from decimal import Decimal
from pathlib import Path

import pytest
from ibkr_gateway_server.audit.store import AuditStore
from ibkr_gateway_server.domain.errors import AuditUnavailable
from ibkr_gateway_server.domain.events import Filled, OrderEvent, StatusChanged
from ibkr_gateway_server.domain.orders import OrderState
from ibkr_gateway_server.trading.entries import Change, Entry
from ibkr_gateway_server.trading.recorder import BACKLOG_LIMIT, Recorder

from tests.conftest import eventually
from tests.server.audit.test_store import FILL
from tests.server.trading.conftest import entry


@asynccontextmanager
async def recording(path: Path) -> AsyncIterator[tuple[Recorder, AuditStore, list[OrderEvent], list[OrderEvent]]]:
    """A recorder at work, its record, and what it tells as durable and as pending."""
    durable: list[OrderEvent] = []
    pending: list[OrderEvent] = []
    async with AuditStore(path) as store:
        recorder = Recorder(store)
        recorder.listen(durable.extend)
        recorder.listen_pending(pending.extend)
        running = asyncio.ensure_future(recorder.run())
        try:
            yield recorder, store, durable, pending
        finally:
            running.cancel()
            await asyncio.wait([running])


def status(order: Entry, filled: int) -> Change:
    return Change(order, StatusChanged(replace(order.status, filled_quantity=Decimal(filled))), recovered=False)


async def test_what_cannot_be_recorded_is_told_at_once_and_again_with_its_sequence(tmp_path: Path) -> None:
    async with recording(tmp_path / "audit.db") as (recorder, store, durable, pending):
        other = sqlite3.connect(store.path, isolation_level=None)
        other.execute("BEGIN IMMEDIATE")
        order = entry(OrderState.WORKING)
        recorder.put([Change(order, Filled(FILL), recovered=False)])
        await eventually(lambda: pending)
        recorder.put([status(order, 10)])
        assert [(event.sequence, event.audit_pending) for event in pending] == [(0, True), (0, True)]
        assert recorder.pending() == tuple(pending)
        assert (recorder.backlog, recorder.shown(order)) == (2, order.status)
        with pytest.raises(AuditUnavailable):
            recorder.check()
        other.execute("ROLLBACK")
        other.close()
        await eventually(lambda: len(durable) == 2)
        assert [type(event.happening) for event in durable] == [Filled, StatusChanged]
        assert all(event.sequence and not event.audit_pending for event in durable)
        assert recorder.pending() == ()
        await eventually(lambda: recorder.backlog == 0)
        recorder.check()


async def test_the_backlog_has_a_bound_that_blocks_orders_and_loses_no_fill(tmp_path: Path) -> None:
    async with AuditStore(tmp_path / "audit.db") as store:
        recorder, order = Recorder(store), entry(OrderState.WORKING)
        executions = [replace(FILL, execution_id=f"e.{number}.01") for number in range(9)]
        fills = [Change(order, Filled(execution), recovered=False) for execution in executions]
        recorder.put([change for fill in fills for change in (fill, status(order, 1))])
        recorder.put([status(order, number) for number in range(BACKLOG_LIMIT - recorder.backlog - 1)])
        recorder.check()
        recorder.put([status(order, 1)])
        with pytest.raises(AuditUnavailable):
            recorder.check()
        for number in range(100):
            recorder.put([status(order, number)])
        # Of the order's statuses only what the newest ones have not replaced is left.
        assert recorder.backlog <= BACKLOG_LIMIT
        assert [change for change in recorder._waiting if isinstance(change.happening, Filled)] == fills
        assert recorder._waiting[-1] == status(order, 99)
