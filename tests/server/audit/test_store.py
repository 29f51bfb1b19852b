"""The record: durable, chained, and impossible to change unnoticed."""

from __future__ import annotations

import sqlite3
import threading
from collections.abc import AsyncIterator
from contextlib import closing
from dataclasses import replace
from datetime import timedelta
from decimal import Decimal
from pathlib import Path

import pytest
from ibkr_gateway_server.audit.files import RecordUnusable
from ibkr_gateway_server.audit.migrations import WrongSchema
from ibkr_gateway_server.audit.order_events import decode, encode
from ibkr_gateway_server.audit.store import AuditStore
from ibkr_gateway_server.audit.stored import Cause, StoredOrder
from ibkr_gateway_server.domain.audit import AuditFilter, ExecutionFilter, OrderFilter, PageRequest
from ibkr_gateway_server.domain.errors import AuditUnavailable
from ibkr_gateway_server.domain.events import CommissionReported, Filled, NoticeReceived, OrderHappening, StatusChanged
from ibkr_gateway_server.domain.orders import BrokerNotice, Execution, OrderState, Side

from tests.server.trading.conftest import AAPL, KEY, NOW, entry, market_order

FILL = Execution(
    "e.01.01", 7, 900, "DU1", AAPL, Side.BUY, Decimal(10), Decimal("10.50"), NOW, "IEX", KEY, Decimal("1.00"), "USD"
)


@pytest.fixture
async def store(tmp_path: Path) -> AsyncIterator[AuditStore]:
    async with AuditStore(tmp_path / "audit.db") as opened:
        yield opened


def stored(key: str = KEY, state: OrderState = OrderState.SENT) -> StoredOrder:
    made = entry(state)
    assert made.terms is not None
    status = replace(made.status, client_order_id=key)
    return StoredOrder(market_order(), made.terms, status, "hash", f"g1.{key}", 1, was_written=True)


async def append(store: AuditStore, count: int) -> None:
    for number in range(count):
        await store.transact(lambda tx, number=number: tx.append("test", {"number": number}))


async def test_an_order_comes_back_as_it_was_saved(store: AuditStore) -> None:
    await store.transact(lambda tx: tx.save_order(stored(), 1))
    assert await store.transact(lambda tx: tx.all_orders()) == [stored()]


@pytest.mark.parametrize(
    "happening",
    [
        StatusChanged(
            replace(entry().status, average_fill_price=Decimal("10.5"), warnings=(BrokerNotice(399, "held"),))
        ),
        Filled(FILL),
        CommissionReported(FILL),
        NoticeReceived(BrokerNotice(202, "Order Canceled - reason:")),
    ],
)
async def test_every_order_event_comes_back_as_it_was_told(store: AuditStore, happening: OrderHappening) -> None:
    kind, body = encode(happening, entry().status, recovered=True)
    await store.transact(lambda tx: tx.append(kind, body, order=entry().status))
    (record,) = await store.events_after(0, 10)
    event = decode(record)
    assert event is not None
    assert event.recovered
    if isinstance(happening, StatusChanged):
        happening = StatusChanged(replace(happening.status, last_sequence=1))
    assert event.happening == happening


async def test_the_chain_holds_over_a_restart(tmp_path: Path) -> None:
    for _ in range(2):
        async with AuditStore(tmp_path / "audit.db") as opened:
            await append(opened, 3)
    async with AuditStore(tmp_path / "audit.db") as opened:
        check = await opened.verify()
    assert check.is_valid
    assert check.checked_count == 6


@pytest.mark.parametrize("statement", ["UPDATE events SET kind = 'other'", "DELETE FROM events"])
async def test_the_database_itself_refuses_to_change_an_event(store: AuditStore, statement: str) -> None:
    await append(store, 1)
    with closing(sqlite3.connect(store.path)) as other, pytest.raises(sqlite3.IntegrityError, match="never"):
        other.execute(statement)


@pytest.mark.parametrize(
    ("statement", "first_bad"),
    [
        ("UPDATE events SET body_json = '{}' WHERE sequence = 3", 3),
        ("DELETE FROM events WHERE sequence = 2", 2),
        ("UPDATE events SET previous_mac = zeroblob(32) WHERE sequence = 4", 4),
    ],
)
async def test_a_change_behind_our_back_is_found_at_its_place(tmp_path: Path, statement: str, first_bad: int) -> None:
    path = tmp_path / "audit.db"
    async with AuditStore(path) as opened:
        await append(opened, 5)
        with closing(sqlite3.connect(path)) as other, other:
            other.execute("DROP TRIGGER events_are_final")
            other.execute("DROP TRIGGER events_stay")
            other.execute(statement)
        check = await opened.verify()
        assert (check.is_valid, check.first_bad_sequence) == (False, first_bad)
    with pytest.raises(RecordUnusable, match=f"event {first_bad} of .* was changed or removed"):
        async with AuditStore(path):
            pass


async def test_a_failed_transaction_leaves_nothing(store: AuditStore) -> None:
    def fail(tx: object) -> None:
        tx.append("test", {})  # type: ignore[attr-defined]
        raise RuntimeError

    with pytest.raises(RuntimeError):
        await store.transact(fail)
    await append(store, 1)
    assert (await store.verify()).checked_count == 1


async def test_a_locked_database_is_unavailable_and_recovers(store: AuditStore) -> None:
    other = sqlite3.connect(store.path, isolation_level=None)
    other.execute("BEGIN IMMEDIATE")
    with pytest.raises(AuditUnavailable):
        await append(store, 1)
    other.execute("ROLLBACK")
    other.close()
    await append(store, 1)
    assert (await store.verify()).is_valid


async def test_order_ids_only_rise(store: AuditStore) -> None:
    for order_id in (5, 9, 3):
        await store.transact(lambda tx, order_id=order_id: tx.raise_floor(1, order_id))
    assert await store.transact(lambda tx: (tx.floor(1), tx.floor(2))) == (9, 0)


async def test_a_correction_supersedes_its_stem_and_a_commission_completes(store: AuditStore) -> None:
    bare = replace(FILL, commission=None, commission_currency="")
    corrected = replace(FILL, execution_id="e.01.02", price=Decimal("10.40"))
    for sequence, fill in enumerate((bare, FILL, corrected), start=1):
        await store.transact(lambda tx, fill=fill, sequence=sequence: tx.save_execution(fill, sequence))
    page = await store.executions(ExecutionFilter(), PageRequest())
    assert page.items == (corrected,)


async def test_pages_are_newest_first_complete_and_without_overlap(store: AuditStore) -> None:
    keys = [f"order-number-{number:04d}" for number in range(7)]
    for sequence, key in enumerate(keys, start=1):
        await store.transact(lambda tx, key=key, sequence=sequence: tx.save_order(stored(key), sequence))
    seen, before = [], 0
    while True:
        page = await store.orders(OrderFilter(), PageRequest(3, before))
        seen += [status.client_order_id for status in page.items]
        before = page.next_before
        if not before:
            break
    assert seen == keys[::-1]


async def test_filters_leave_out_the_rest(store: AuditStore) -> None:
    await store.transact(lambda tx: tx.save_order(stored(), 1))
    for wanted, count in (
        (OrderFilter(symbol="AAPL"), 1),
        (OrderFilter(symbol="MSFT"), 0),
        (OrderFilter(states=(OrderState.SENT,)), 1),
        (OrderFilter(states=(OrderState.FILLED,)), 0),
        (OrderFilter(start_time=NOW), 1),
        (OrderFilter(end_time=NOW), 0),
        (OrderFilter(start_time=NOW + timedelta(seconds=1)), 0),
    ):
        assert len((await store.orders(wanted, PageRequest())).items) == count, wanted
    await store.transact(lambda tx: tx.append("k", {}, cause=Cause("me", "call-1")))
    assert len((await store.query(AuditFilter(correlation_id="call-1"), PageRequest())).items) == 1
    assert len((await store.query(AuditFilter(kind="other"), PageRequest())).items) == 0


async def test_an_order_ref_is_short_stable_and_not_to_be_guessed(tmp_path: Path, store: AuditStore) -> None:
    assert store.order_ref(KEY) == store.order_ref(KEY)
    assert len(store.order_ref(KEY)) == 23
    async with AuditStore(tmp_path / "other.db") as other:
        assert other.order_ref(KEY) != store.order_ref(KEY)


async def test_only_the_owner_reads_the_record_and_its_key(store: AuditStore) -> None:
    for path in (store.path, store.path.with_suffix(".key")):
        assert path.stat().st_mode & 0o777 == 0o600


async def test_an_inline_record_works_on_the_thread_that_calls_it(tmp_path: Path) -> None:
    async with AuditStore(tmp_path / "audit.db", inline=True, durable=False) as inline:
        thread = await inline.transact(lambda tx: (tx.append("test", {}), threading.get_ident())[1])
        assert thread == threading.get_ident()
        assert (await inline.verify()).checked_count == 1
    async with AuditStore(tmp_path / "audit.db") as opened:
        assert (await opened.verify()).checked_count == 1


async def test_a_record_of_another_version_is_refused_not_remade(tmp_path: Path) -> None:
    path = tmp_path / "audit.db"
    with sqlite3.connect(path) as other:
        other.execute("PRAGMA user_version = 99")
    other.close()
    with pytest.raises(WrongSchema):
        async with AuditStore(path):
            pass
