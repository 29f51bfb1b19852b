"""The record's files between two lives of the gateway: damaged, changed, gone, old, open to others; after kills."""

from __future__ import annotations

import asyncio
import random
import shutil
import sqlite3
import subprocess
import sys
from collections.abc import Callable
from contextlib import closing
from pathlib import Path
from typing import Any

import pytest
from ibkr_gateway import Refused
from ibkr_gateway.v1 import audit_service_pb2 as audit_pb
from ibkr_gateway.v1 import orders_service_pb2 as orders_pb
from ibkr_gateway_server.__main__ import main
from ibkr_gateway_server.audit.chain import COVERED, link
from ibkr_gateway_server.audit.files import RecordUnusable
from ibkr_gateway_server.audit.opening import ANCHOR_LAG
from ibkr_gateway_server.audit.store import AuditStore

from tests.conftest import Gateway, MakeGateway
from tests.disks import crash_image
from tests.failures.conftest import recorded
from tests.failures.test_audit_space import PLACE, of, place

COUNT = 12
KILLS = 15


async def append(store: AuditStore, count: int, kind: str = "test") -> None:
    for number in range(count):
        await store.transact(lambda tx, number=number: tx.append(kind, {"number": number, "word": "unmistakable"}))


async def closed_record(folder: Path) -> Path:
    """A record of some events that was closed."""
    async with AuditStore(folder / "audit.db") as store:
        await append(store, COUNT)
    return store.path


async def killed_record(folder: Path) -> Path:
    """A record of some events whose gateway was killed: all of them are in the write-ahead log."""
    (folder / "alive").mkdir()
    async with AuditStore(folder / "alive" / "audit.db") as store:
        await append(store, COUNT, "order.intent")
        return crash_image(store.path, folder / "killed")


def flip(path: Path, offset: int) -> None:
    data = bytearray(path.read_bytes())
    data[offset] ^= 0x20
    path.write_bytes(data)


def flip_text(path: Path) -> None:
    """A bit in the body of an event."""
    flip(path, path.read_bytes().index(b"unmistakable"))


def flip_pages(path: Path) -> None:
    """A bit in the head of every page but the first, which is the root of a tree."""
    for start in range(4096, path.stat().st_size, 4096):
        flip(path, start)


def halve(path: Path) -> None:
    """Only the first half is left."""
    data = path.read_bytes()
    path.write_bytes(data[: len(data) // 2])


def beside(path: Path, suffix: str) -> Path:
    return path.with_name(path.name + suffix)


DAMAGE: dict[str, tuple[Any, Callable[[Path], object], str]] = {
    "an event": (closed_record, flip_text, "was changed or removed"),
    "pages": (closed_record, flip_pages, "audit.db"),
    "the head": (closed_record, lambda path: flip(path, 3), "not a database"),
    "half of it": (
        closed_record,
        halve,
        "audit",
    ),
    "all of it": (closed_record, lambda path: path.write_bytes(b""), "is gone or empty"),
    "the file": (closed_record, lambda path: path.unlink(), "is gone or empty"),
    "the key": (closed_record, lambda path: path.with_suffix(".key").unlink(), "is gone"),
    "the watermark": (closed_record, lambda path: flip(path.with_suffix(".watermark"), 14), "was changed"),
    "the write-ahead log": (killed_record, lambda path: flip_text(beside(path, "-wal")), "is missing or damaged"),
    "no write-ahead log": (killed_record, lambda path: beside(path, "-wal").unlink(), "-wal"),
}


@pytest.mark.parametrize("damage", DAMAGE)
def test_D05_the_record_is_damaged(
    tmp_path: Path, damage: str, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """Bytes of the database, of its write-ahead log or of its key are changed or gone when the gateway starts.

    It does not start: exit code 65, with what is wrong and what to do, and no file is made anew.
    """
    make, break_it, told = DAMAGE[damage]
    path = asyncio.run(make(tmp_path))
    break_it(path)
    before = {each.name: each.read_bytes() for each in path.parent.glob("audit.*") if each.suffix in (".db", ".key")}
    monkeypatch.chdir(tmp_path)
    code = main(["--mode", "simulation", "--port", "0", "--audit-db", str(path)])
    stderr = capsys.readouterr().err
    assert code == 65, stderr
    assert stderr.startswith("AUDIT_DB_PATH: the record cannot be opened: ")
    assert told in stderr
    assert "put" in stderr.partition(";")[2]
    after = {each.name: each.read_bytes() for each in path.parent.glob("audit.*") if each.suffix in (".db", ".key")}
    assert after.keys() == before.keys()
    if make is closed_record:
        assert after == before


def forge(database: sqlite3.Connection, key: bytes) -> None:
    """Change an event and sign it and all that follow, with a key that is not the record's."""
    database.execute("UPDATE events SET body_json = '[]' WHERE sequence = 4")
    (previous,) = database.execute("SELECT mac FROM events WHERE sequence = 3").fetchone()
    for row in database.execute(f"SELECT {', '.join(COVERED)} FROM events WHERE sequence >= 4").fetchall():
        mac = link(key, previous, row)
        database.execute("UPDATE events SET previous_mac = ?, mac = ? WHERE sequence = ?", (previous, mac, row[0]))
        previous = mac


TAMPERING: dict[str, tuple[Callable[[sqlite3.Connection], object], int]] = {
    "edited": (lambda database: database.execute("UPDATE events SET body_json = '[]' WHERE sequence = 5"), 5),
    "removed": (lambda database: database.execute("DELETE FROM events WHERE sequence = 3"), 3),
    "signed again": (lambda database: forge(database, bytes(32)), 4),
}


@pytest.mark.parametrize("how", TAMPERING)
async def test_D06_an_event_is_changed_behind_the_gateways_back(gateway: Gateway, how: str) -> None:
    """Another program changes an event, removes one from the middle, or changes one and signs all that follow.

    VerifyAuditChain, and `ibkr-gateway audit verify` with exit code 1, name the first event that does not fit.
    """
    tamper, first_bad = TAMPERING[how]
    await append(of(gateway), COUNT)
    with closing(sqlite3.connect(of(gateway).path)) as database, database:
        database.execute("DROP TRIGGER events_are_final")
        database.execute("DROP TRIGGER events_stay")
        tamper(database)
    found = await gateway.client.audit.VerifyAuditChain(audit_pb.VerifyAuditChainRequest())
    assert (found.is_valid, found.first_bad_sequence) == (False, first_bad)


def cut_tail(path: Path, backup: Path) -> None:
    """Remove the last events of a closed record."""
    with closing(sqlite3.connect(path)) as database, database:
        database.execute("DROP TRIGGER events_stay")
        database.execute("DELETE FROM events WHERE sequence > (SELECT max(sequence) - 5 FROM events)")


def restore(path: Path, backup: Path) -> None:
    """Put an old backup in the record's place."""
    shutil.copy(backup, path)


def restore_and_forget(path: Path, backup: Path) -> None:
    """The same, and the watermark is removed as well."""
    shutil.copy(backup, path)
    path.with_suffix(".watermark").unlink()


@pytest.mark.parametrize("roll_back", [cut_tail, restore, restore_and_forget])
async def test_D07_the_end_of_the_record_is_missing(
    make_gateway: MakeGateway, tmp_path: Path, roll_back: Callable[[Path, Path], None]
) -> None:
    """The record's last events are removed, or an old backup is put in its place, while the gateway is down.

    Orders are refused with AUDIT_ROLLED_BACK, also after another start, while reads go on; AcceptAuditRollback, by one
    who says where the record ends now, has orders sent again and is itself recorded.
    """
    path, backup = tmp_path / "audit.db", tmp_path / "backup.db"
    async with AuditStore(path) as store:
        await append(store, 3)
    shutil.copy(path, backup)
    async with AuditStore(path) as store:
        await append(store, COUNT)
    roll_back(path, backup)
    async with AuditStore(path) as store:
        # A life of the gateway in which nobody looked, and in which the record grew beyond what it was.
        await append(store, 3 * COUNT)
    gateway = await make_gateway(audit_db_path=path)
    with pytest.raises(Refused) as refused:
        await place(gateway)
    assert refused.value.reason == "AUDIT_ROLLED_BACK"
    assert gateway.simulator.frames_received(PLACE) == 0
    assert not (await gateway.client.orders.ListOrders(orders_pb.ListOrdersRequest())).orders
    found = await gateway.client.audit.VerifyAuditChain(audit_pb.VerifyAuditChainRequest())
    known = 0 if roll_back is restore_and_forget else 3 + COUNT
    assert (found.is_valid, found.watermark_sequence) == (True, known)
    guessed = audit_pb.AcceptAuditRollbackRequest(head_sequence=found.checked_count + 1000)
    with pytest.raises(Exception, match="not at"):
        await gateway.client.audit.AcceptAuditRollback(guessed)
    request = audit_pb.AcceptAuditRollbackRequest(head_sequence=found.checked_count, comment="compared")
    lost = (await gateway.client.audit.AcceptAuditRollback(request)).lost_count
    assert lost == (5 if roll_back is cut_tail else COUNT if roll_back is restore else 0)
    await place(gateway)
    (accepted,) = await recorded(gateway, "rollback.accepted")
    assert (accepted["comment"], accepted["lost_count"]) == ("compared", lost)


_APPENDS = """
import asyncio, sys
from pathlib import Path
from ibkr_gateway_server.audit.store import AuditStore

async def main() -> None:
    async with AuditStore(Path(sys.argv[1])) as store:
        print("checked", store.checked_count, flush=True)
        while True:
            appended = await store.transact(lambda tx: tx.append("order.intent", {"text": "x" * 200}))
            print("has", appended.sequence, flush=True)

asyncio.run(main())
"""


def test_D08_the_gateway_is_killed_while_it_writes(tmp_path: Path) -> None:
    """The process is killed (SIGKILL) at random moments while it records, again and again.

    No event that was acknowledged is missing, the chain holds, and each start finds the record sound without help.
    """
    path, chance, acknowledged = tmp_path / "audit.db", random.Random(8), 0
    for _ in range(KILLS):
        child = subprocess.Popen([sys.executable, "-c", _APPENDS, str(path)], stdout=subprocess.PIPE, text=True)
        assert child.stdout is not None
        first = child.stdout.readline().split()
        assert first[:1] == ["checked"], first
        # The chain has been checked up to what was acknowledged, at least.
        assert int(first[1]) >= acknowledged
        told = "".join(child.stdout.readline() for _ in range(chance.randrange(1, 60)))
        child.kill()
        told += child.stdout.read()
        child.wait(10)
        child.stdout.close()
        *lines, _torn = told.split("\n")
        acknowledged = int(lines[-1].split()[1])
    with closing(sqlite3.connect(path)) as database:
        sequences = [row[0] for row in database.execute("SELECT sequence FROM events ORDER BY sequence")]
    assert acknowledged > KILLS
    assert sequences == list(range(1, len(sequences) + 1))
    assert len(sequences) >= acknowledged


async def test_D10_the_record_is_open_to_others(tmp_path: Path) -> None:
    """The record's files can be read by others, are a link, or belong to somebody else.

    What can be read by others is taken from them at the start; a link and a stranger's file are refused.
    """
    path = await closed_record(tmp_path)
    for suffix in (".db", ".key", ".watermark"):
        path.with_suffix(suffix).chmod(0o644)
    async with AuditStore(path) as store:
        for name in ("audit.db", "audit.key", "audit.watermark", "audit.open", "audit.ballast", "audit.db-wal"):
            assert path.with_name(name).stat().st_mode & 0o777 == 0o600, name
        await append(store, 1)
    for suffix in (".key", ".watermark", ".db"):
        real, moved = path.with_suffix(suffix), path.with_suffix(".moved")
        real.rename(moved)
        real.symlink_to(moved)
        with pytest.raises(RecordUnusable, match="is a link"):
            async with AuditStore(path):
                pass
        real.unlink()
        moved.rename(real)


async def test_D10_the_record_belongs_to_another_user(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The gateway is started as another user than the one who owns the record.

    It does not start, and names both.
    """
    path = await closed_record(tmp_path)
    owner = path.stat().st_uid
    monkeypatch.setattr("os.geteuid", lambda: owner + 1)
    with pytest.raises(RecordUnusable, match=f"belongs to user {owner} and the gateway runs as {owner + 1}"):
        async with AuditStore(path):
            pass


def test_D10_the_record_cannot_be_written(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """AUDIT_DB_PATH is where nothing can be written.

    The gateway does not start: exit code 65, with the path.
    """
    monkeypatch.chdir(tmp_path)
    code = main(["--mode", "simulation", "--port", "0", "--audit-db", "/proc/ibkr-gateway/audit.db"])
    assert code == 65
    assert "/proc/ibkr-gateway" in capsys.readouterr().err


async def test_D11_the_record_is_large(tmp_path: Path) -> None:
    """The record has very many events.

    A start checks no more of them than a bound that does not grow with them, and another event costs the database as
    many steps as it did before.
    """
    path = tmp_path / "audit.db"

    def many(tx: Any) -> None:
        for _ in range(5_000):
            tx.append("test", {})

    async with AuditStore(path, durable=False) as store:
        await append(store, 100)
        few = await steps_of_an_append(store)
        for _ in range(4):
            await store.transact(many)
        await store.transact(lambda tx: tx.append("order.intent", {}))
        assert await steps_of_an_append(store) < 2 * few
    async with AuditStore(path, durable=False) as store:
        assert ANCHOR_LAG <= store.checked_count <= 2 * ANCHOR_LAG
        assert (await store.verify()).checked_count > 20_000
    path.with_suffix(".anchor").unlink()
    for bound in (30_000, ANCHOR_LAG):
        # Without an anchor all of it is checked, once.
        async with AuditStore(path, durable=False) as store:
            assert store.checked_count <= bound


async def steps_of_an_append(store: AuditStore) -> int:
    """Steps of SQLite's virtual machine that one more event takes."""
    steps = 0

    def step() -> int:
        nonlocal steps
        steps += 1
        return 0

    def work(tx: Any) -> None:
        connection = tx._connection.connection.driver_connection
        connection.set_progress_handler(step, 1)
        tx.append("test", {})
        connection.set_progress_handler(None, 0)

    await store.transact(work)
    return steps
