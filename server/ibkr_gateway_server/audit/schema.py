"""The tables of the record, and how the database is connected to.

`events` is the record itself, appended and never changed; the other tables are what it amounts to now, written in the
same transaction, so that no reader need replay it.
"""

from __future__ import annotations

import sqlite3
from functools import partial
from pathlib import Path
from typing import Any

from sqlalchemy import (
    Column,
    Connection,
    Engine,
    Index,
    Integer,
    LargeBinary,
    MetaData,
    String,
    Table,
    Text,
    create_engine,
    event,
)
from sqlalchemy.pool import StaticPool

VERSION = 2

metadata = MetaData()

events = Table(
    "events",
    metadata,
    Column("sequence", Integer, primary_key=True),
    Column("record_time", String, nullable=False),
    Column("monotonic_ns", Integer, nullable=False),
    Column("boot_id", String, nullable=False),
    Column("kind", String, nullable=False),
    Column("principal", String, nullable=False),
    Column("correlation_id", String, nullable=False),
    Column("client_order_id", String, nullable=False),
    Column("order_id", Integer, nullable=False),
    Column("perm_id", Integer, nullable=False),
    Column("epoch", Integer, nullable=False),
    Column("body_json", Text, nullable=False),
    Column("previous_mac", LargeBinary, nullable=False),
    Column("mac", LargeBinary, nullable=False),
    Index("events_by_order", "client_order_id", "sequence"),
    Index("events_by_correlation", "correlation_id", "sequence"),
)

# One row for each leg of an intent; a plain order is one.
orders = Table(
    "orders",
    metadata,
    Column("client_order_id", String, primary_key=True),
    Column("leg_role", String, primary_key=True),
    Column("intent_sequence", Integer, nullable=False, index=True),
    Column("payload_hash", String, nullable=False),
    Column("order_ref", String, nullable=False, unique=True),
    Column("client_id", Integer, nullable=False),
    Column("order_id", Integer, nullable=False, index=True),
    Column("perm_id", Integer, nullable=False, index=True),
    Column("was_written", Integer, nullable=False),
    Column("principal", String, nullable=False),
    Column("state", String, nullable=False, index=True),
    Column("account_id", String, nullable=False),
    Column("symbol", String, nullable=False),
    Column("create_time", String, nullable=False),
    Column("spec_json", Text, nullable=False),
    Column("terms_json", Text, nullable=False),
    Column("status_json", Text, nullable=False),
)

# Changes of orders, each under its own id, so that none is sent twice.
modifications = Table(
    "modifications",
    metadata,
    Column("modify_id", String, primary_key=True),
    Column("client_order_id", String, nullable=False, index=True),
    Column("payload_hash", String, nullable=False),
    Column("state", String, nullable=False),
    Column("spec_json", Text, nullable=False),
    Column("targets_json", Text, nullable=False),
)

executions = Table(
    "executions",
    metadata,
    Column("execution_id", String, primary_key=True),
    Column("sequence", Integer, nullable=False, index=True),
    Column("client_order_id", String, nullable=False, index=True),
    Column("account_id", String, nullable=False),
    Column("symbol", String, nullable=False),
    Column("execution_time", String, nullable=False),
    Column("is_superseded", Integer, nullable=False),
    Column("body_json", Text, nullable=False),
)

floors = Table(
    "floors",
    metadata,
    Column("client_id", Integer, primary_key=True),
    Column("order_id", Integer, nullable=False),
)

# What is switched by hand and stays so over restarts: the halt. No row: it is off.
switches = Table(
    "switches",
    metadata,
    Column("name", String, primary_key=True),
    Column("body_json", Text, nullable=False),
)

# The record can be added to, never changed; a program that tries is told so by the database itself.
_IMMUTABLE_EVENTS = (
    "CREATE TRIGGER IF NOT EXISTS events_are_final BEFORE UPDATE ON events "
    "BEGIN SELECT RAISE(ABORT, 'events are never changed'); END",
    "CREATE TRIGGER IF NOT EXISTS events_stay BEFORE DELETE ON events "
    "BEGIN SELECT RAISE(ABORT, 'events are never deleted'); END",
)


# Marks the database as one whose end is kept in a watermark, for programs that look at the file and for ourselves.
APPLICATION_ID = 0x49424757


def create(connection: Connection) -> None:
    """Everything that a new database holds."""
    metadata.create_all(connection)
    for trigger in _IMMUTABLE_EVENTS:
        connection.exec_driver_sql(trigger)


def connect(path: Path, *, durable: bool) -> Engine:
    """The database at `path`, a new file if there is none; not opened yet. Not `durable`: commits do not wait."""
    engine = create_engine(
        f"sqlite+pysqlite:///{path}",
        # One connection for everything: two writers of one WAL file could meet SQLite's WAL-reset defect (before
        # 3.51.3).
        poolclass=StaticPool,
        connect_args={"check_same_thread": False},
    )
    event.listen(engine, "connect", partial(_set_pragmas, durable=durable))
    event.listen(engine, "begin", _begin)
    return engine


def reading(engine: Engine) -> Engine:
    """The same database for transactions that only read: they need no lock, so another's does not stop them."""
    return engine.execution_options(reads_only=True)


def _set_pragmas(connection: sqlite3.Connection, _record: Any, *, durable: bool) -> None:
    # Python's own transaction handling would begin too late; _begin does it.
    connection.isolation_level = None
    for pragma in (
        "busy_timeout = 250",
        "journal_mode = WAL",
        # FULL: a commit is on the disk when it returns. An order's intent must survive the next instant's power cut.
        f"synchronous = {'FULL' if durable else 'OFF'}",
        "foreign_keys = ON",
        "trusted_schema = OFF",
        "cell_size_check = ON",
    ):
        connection.execute(f"PRAGMA {pragma}")


def _begin(connection: Connection) -> None:
    reads_only = connection.get_execution_options().get("reads_only")
    connection.exec_driver_sql("BEGIN" if reads_only else "BEGIN IMMEDIATE")
