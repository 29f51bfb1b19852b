"""What it costs to have something on the disk before it leaves: commits of the record with synchronous=FULL."""

from __future__ import annotations

import asyncio
import sqlite3
import tempfile
from collections.abc import Callable
from contextlib import closing
from functools import partial
from pathlib import Path
from time import perf_counter

from ibkr_gateway_server.audit.store import AuditStore
from ibkr_gateway_server.audit.transaction import Transaction

from benchmarks.harness import ROOT, Benchmark

EVENT, INTENT, BATCH = "an event", "an intent and its send", "20 events in one commit"
MARKED = "an intent and its send, with the watermark"
BARE = "bare sqlite3, a row as long"
# Of the size of an order's intent.
BODY = {"spec": "x" * 900}


def benchmark(*, quick: bool) -> Benchmark:
    """From the event loop and back, on the disk that this repository is on; beside SQLite alone."""
    count = 200 if quick else 2_000
    cases: dict[str, Callable[[], dict[str, float]]] = {
        EVENT: partial(_run, _event, count),
        INTENT: partial(_run, _intent, count),
        MARKED: partial(_run, _intent, count, with_watermark=True),
        BATCH: partial(_run, _batch, count),
        BARE: partial(_bare, count),
    }
    return Benchmark(
        name="audit-commits",
        question="time until what is recorded is on the disk",
        cases=cases,
        units={"p50": "ms", "p99": "ms"},
    )


def _event(tx: Transaction) -> None:
    tx.append("order.status", BODY)


def _intent(tx: Transaction) -> None:
    tx.append("order.intent", BODY)
    tx.append("order.send", {"order_id": 1})
    tx.raise_floor(1, 1)


def _batch(tx: Transaction) -> None:
    for _ in range(20):
        tx.append("order.status", BODY)


def _run(work: Callable[[Transaction], None], count: int, *, with_watermark: bool = False) -> dict[str, float]:
    with _folder() as folder:
        return _percentiles(asyncio.run(_commits(Path(folder), work, count, with_watermark)))


async def _commits(folder: Path, work: Callable[[Transaction], None], count: int, with_watermark: bool) -> list[float]:
    took = []
    async with AuditStore(folder / "audit.db") as store:
        for _ in range(count):
            began = perf_counter()
            await store.transact(work)
            committed = perf_counter()
            # The thread's next work comes after the watermark.
            await store.last_sequence()
            took.append((perf_counter() if with_watermark else committed) - began)
    return took


def _bare(count: int) -> dict[str, float]:
    took = []
    with _folder() as folder, closing(sqlite3.connect(Path(folder) / "bare.db", isolation_level=None)) as database:
        database.execute("PRAGMA journal_mode = WAL")
        database.execute("PRAGMA synchronous = FULL")
        database.execute("CREATE TABLE events (sequence INTEGER PRIMARY KEY, body TEXT)")
        for _ in range(count):
            began = perf_counter()
            database.execute("INSERT INTO events (body) VALUES (?)", ("x" * 1_200,))
            took.append(perf_counter() - began)
    return _percentiles(took)


def _folder() -> tempfile.TemporaryDirectory[str]:
    """On the disk: /tmp may be in memory."""
    return tempfile.TemporaryDirectory(dir=ROOT, prefix=".bench-")


def _percentiles(took: list[float]) -> dict[str, float]:
    ordered = sorted(took)
    return {f"p{part}": ordered[len(ordered) * part // 100] * 1000 for part in (50, 99)}
