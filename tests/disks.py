"""Disks that fail, under a record that is open: full ones, and ones that cannot be trusted any more."""

from __future__ import annotations

import shutil
import sqlite3
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager, contextmanager, suppress
from pathlib import Path
from typing import Any

from ibkr_gateway_server.audit.store import AuditStore
from ibkr_gateway_server.audit.transaction import Transaction
from ibkr_gateway_server.domain.errors import AuditUnavailable

# SQLite's own limit, which is none here.
_NO_LIMIT = 2**30


def pragma(tx: Transaction, text: str) -> Any:
    """Ask the connection of the record itself."""
    return tx._connection.exec_driver_sql(f"PRAGMA {text}").scalar()


async def room_for_little(store: AuditStore) -> None:
    """No page more may be taken, though the last ones have room for a line or two: an order's intent has none."""
    limit = await store.read(lambda tx: pragma(tx, f"max_page_count = {pragma(tx, 'page_count') + 4}"))
    while await store.read(lambda tx: pragma(tx, "page_count")) < limit:
        await store.transact(lambda tx: tx.append("test.filler", {"text": "x" * 700}))


@asynccontextmanager
async def full_disk(store: AuditStore) -> AsyncIterator[None]:
    """No page more may be taken, and those that there are have been filled: SQLite itself says SQLITE_FULL."""
    await store.read(lambda tx: pragma(tx, f"max_page_count = {pragma(tx, 'page_count')}"))
    for size in (3000, 300, 0):
        with suppress(AuditUnavailable):
            while True:
                await store.transact(lambda tx, size=size: tx.append("test.filler", {"text": "x" * size}))
    try:
        yield
    finally:
        await more_room(store)


async def more_room(store: AuditStore) -> None:
    """Somebody has freed space."""
    await store.read(lambda tx: pragma(tx, f"max_page_count = {_NO_LIMIT}"))


@contextmanager
def failing_fsync(store: AuditStore) -> Iterator[list[int]]:
    """Every commit ends as it does when the disk fails under fsync: the call through which all commits of the engine
    go raises what SQLite raises then. Gives the commits that were tried."""
    engine = store._writer._engine
    assert engine is not None
    tried: list[int] = []

    def commit(connection: sqlite3.Connection) -> None:
        if not connection.in_transaction or engine.dialect is None:
            return
        tried.append(1)
        error = sqlite3.OperationalError("disk I/O error")
        error.sqlite_errorcode = sqlite3.SQLITE_IOERR_FSYNC
        error.sqlite_errorname = "SQLITE_IOERR_FSYNC"
        raise error

    whole = engine.dialect.do_commit
    engine.dialect.do_commit = commit  # type: ignore[method-assign,assignment]  # the seam
    try:
        yield tried
    finally:
        engine.dialect.do_commit = whole  # type: ignore[method-assign]


def crash_image(record: Path, folder: Path) -> Path:
    """What a machine that dies now leaves of a record that is open. Returns the path of its database."""
    folder.mkdir()
    # The watermark first: it may be older than the database, as it may after a crash, and is never newer.
    for suffix in (".watermark", ".db", ".db-wal", ".key", ".anchor", ".open", ".emergency.jsonl"):
        path = record.with_name(record.stem + suffix)
        if path.exists():
            shutil.copy(path, folder / path.name)
    return folder / record.name
