"""Records of earlier versions are brought to this one, with everything they know."""

from __future__ import annotations

import sqlite3
from contextlib import closing
from decimal import Decimal
from pathlib import Path

import pytest
from ibkr_gateway_server.audit import schema
from ibkr_gateway_server.audit.migrations import WrongSchema, migrate
from ibkr_gateway_server.audit.store import AuditStore
from ibkr_gateway_server.domain.audit import OrderFilter, PageRequest
from ibkr_gateway_server.domain.orders import LegRole, OrderState
from sqlalchemy import Connection

DATA = Path(__file__).parents[2] / "data" / "audit"


def version_1(folder: Path) -> Path:
    """A record that version 0.1.0 wrote, with its key."""
    path = folder / "audit.db"
    database = sqlite3.connect(path)
    database.executescript((DATA / "version-1.sql").read_text())
    database.close()
    path.chmod(0o600)
    key = folder / "audit.key"
    key.write_bytes(bytes.fromhex((DATA / "version-1.key").read_text()))
    key.chmod(0o600)
    return path


async def test_a_record_of_version_1_keeps_its_orders_as_intents_of_one_leg(tmp_path: Path) -> None:
    path = version_1(tmp_path)
    async with AuditStore(path) as store:
        orders = await store.transact(lambda tx: tx.all_orders())
        by_key = {order.status.client_order_id: order for order in orders}
        filled, resting = by_key["version-1-filled-order"], by_key["version-1-resting-order"]
        assert filled.status.state is OrderState.FILLED
        assert filled.status.commission == 1
        assert (resting.terms.role, resting.status.leg_role) == (LegRole.ENTRY, LegRole.ENTRY)
        assert resting.terms.limit_price == resting.spec.limit_price == Decimal("10.00")
        assert by_key["version-1-cancelled-order"].spec.note == "a note"
        # The mark that IBKR knows the order by is the one it was sent with.
        assert resting.order_ref.startswith("g1.")
        assert len(await store.transact(lambda tx: tx.all_executions())) == 1
        assert (await store.verify()).is_valid
        page = await store.orders(OrderFilter(), PageRequest())
        assert [status.client_order_id for status in page.items][-1] == "version-1-filled-order"


async def test_a_record_is_migrated_once(tmp_path: Path) -> None:
    path = version_1(tmp_path)
    for _ in range(2):
        async with AuditStore(path) as store:
            assert len(await store.transact(lambda tx: tx.all_orders())) == 3
    database = sqlite3.connect(path)
    assert database.execute("PRAGMA user_version").fetchone() == (2,)
    database.close()


async def test_a_step_that_fails_leaves_the_record_as_it_was(tmp_path: Path) -> None:
    path = version_1(tmp_path)

    def fail(connection: Connection) -> None:
        connection.exec_driver_sql("DROP TABLE orders")
        raise RuntimeError

    engine = schema.connect(path, durable=False)
    with pytest.raises(RuntimeError), engine.begin() as connection:
        migrate(connection, target=2, steps={2: fail})
    with engine.begin() as connection:
        assert connection.exec_driver_sql("PRAGMA user_version").scalar_one() == 1
        assert connection.exec_driver_sql("SELECT count(*) FROM orders").scalar_one() == 3
    engine.dispose()


async def test_steps_run_one_after_another_up_to_the_version_that_is_wanted(tmp_path: Path) -> None:
    path, run = version_1(tmp_path), []
    engine = schema.connect(path, durable=False)
    with engine.begin() as connection:
        steps = {version: lambda _, version=version: run.append(version) for version in (2, 3, 4)}
        assert migrate(connection, target=3, steps=steps) == 1
    with engine.begin() as connection:
        assert connection.exec_driver_sql("PRAGMA user_version").scalar_one() == 3
        assert run == [2, 3]
        with pytest.raises(WrongSchema, match="nothing leads from version 3 of the record to 4"):
            migrate(connection, target=4, steps={})
    engine.dispose()


async def test_another_programs_database_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "audit.db"
    with closing(sqlite3.connect(path)) as other, other:
        other.execute("CREATE TABLE songs (title)")
    path.chmod(0o600)
    with pytest.raises(WrongSchema, match="another program's"):
        async with AuditStore(path):
            pass
