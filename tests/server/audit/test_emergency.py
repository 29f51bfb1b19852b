"""The emergency journal, the ballast and the watermark, beside the database."""

from __future__ import annotations

import json
import shutil
from pathlib import Path
from typing import Any

import pytest
from ibkr_gateway_server.audit.files import RecordUnusable
from ibkr_gateway_server.audit.store import AuditStore
from ibkr_gateway_server.audit.stored import Cause, OrderIds
from ibkr_gateway_server.domain.audit import AuditFilter, PageRequest
from ibkr_gateway_server.domain.errors import AuditUnavailable

from tests.conftest import eventually
from tests.disks import crash_image, failing_fsync, full_disk
from tests.server.trading.conftest import KEY, entry

ORDER = entry().status


async def merged(store: AuditStore) -> list[dict[str, Any]]:
    """What became an event from the journal, oldest first."""
    found = (await store.query(AuditFilter(kind="emergency.merged"), PageRequest(1000))).items
    return [json.loads(record.body_json) for record in reversed(found)]


async def cancel(store: AuditStore) -> None:
    await store.append_or_journal("order.cancel", {"n": 1}, order=ORDER, cause=Cause("me", "call-1"), epoch=3)


async def test_a_record_that_works_needs_no_journal(tmp_path: Path) -> None:
    async with AuditStore(tmp_path / "audit.db") as store:
        await cancel(store)
        (event,) = await store.events_after(0, 10)
        assert (event.kind, event.principal, event.correlation_id, event.epoch) == ("order.cancel", "me", "call-1", 3)
        assert not store.path.with_suffix(".emergency.jsonl").exists()


async def test_what_was_noted_becomes_an_event_of_the_order_and_its_cause_once_there_is_space(tmp_path: Path) -> None:
    async with AuditStore(tmp_path / "audit.db") as store:
        async with full_disk(store):
            await cancel(store)
        await eventually(lambda: not store.path.with_suffix(".emergency.jsonl").exists())
        found = (await store.query(AuditFilter(kind="emergency.merged", client_order_id=KEY), PageRequest())).items
        (event,) = found
        assert (event.principal, event.correlation_id, event.order_id, event.epoch) == ("me", "call-1", 7, 3)
        body = json.loads(event.body_json)
        assert (body["kind"], body["body"], body["is_authentic"]) == ("order.cancel", {"n": 1}, True)
        # There is plenty of space here, so that some is kept again.
        await eventually(store.path.with_suffix(".ballast").exists)
        assert (await store.verify()).is_valid
    assert not store.path.with_suffix(".ballast").exists()


async def test_a_torn_line_and_a_forged_one_are_kept_and_marked(tmp_path: Path) -> None:
    async with AuditStore(tmp_path / "audit.db") as store, full_disk(store):
        await cancel(store)
        path = crash_image(store.path, tmp_path / "crashed")
    journal = path.with_suffix(".emergency.jsonl")
    whole = journal.read_text()
    forged = whole.splitlines()[-1].replace("order.cancel", "order.nothing")
    journal.write_text(f"{whole}{forged}\n[]\n{whole[:40]}")
    async with AuditStore(path) as store:
        bodies = [body for body in await merged(store) if body.get("kind") != "audit.failed"]
    assert [body["is_authentic"] for body in bodies] == [True, False, False, False]
    assert [body.get("text") for body in bodies] == [None, forged, "[]", whole[:40]]


async def test_a_crash_between_the_merge_and_the_journals_end_merges_nothing_twice(tmp_path: Path) -> None:
    async with AuditStore(tmp_path / "audit.db") as store:
        async with full_disk(store):
            await cancel(store)
            journal = store.path.with_suffix(".emergency.jsonl")
            shutil.copy(journal, tmp_path / "kept")
        await eventually(lambda: not journal.exists())
        before = await merged(store)
    shutil.copy(tmp_path / "kept", journal)
    journal.chmod(0o600)
    async with AuditStore(store.path) as store:
        assert await merged(store) == before
        assert not journal.exists()


async def test_after_a_failed_fsync_only_a_restart_helps_and_what_was_noted_is_merged_then(tmp_path: Path) -> None:
    async with AuditStore(tmp_path / "audit.db") as store:
        with failing_fsync(store), pytest.raises(AuditUnavailable):
            await store.transact(lambda tx: tx.append("test", {}))
        await cancel(store)
        with pytest.raises(AuditUnavailable):
            store.check()
    async with AuditStore(store.path) as store:
        store.check()
        assert [body["kind"] for body in await merged(store)] == ["audit.failed", "order.cancel"]


async def test_the_watermark_follows_a_command_at_once_and_anything_else_soon(tmp_path: Path) -> None:
    async with AuditStore(tmp_path / "audit.db") as store:
        watermark = store.path.with_suffix(".watermark")

        def sequence() -> int:
            return int(json.loads(watermark.read_text())["sequence"])

        await store.transact(lambda tx: tx.append("order.intent", {}, order=OrderIds(KEY)))
        # Whatever is done after it finds it there.
        assert await store.read(lambda _: sequence()) == 1
        await store.transact(lambda tx: tx.append("execution", {}))
        await eventually(lambda: sequence() == 2)
        await store.transact(lambda tx: tx.append("execution", {}))
    assert sequence() == 3


async def test_orders_wait_for_a_watermark_that_cannot_be_written(tmp_path: Path) -> None:
    async with AuditStore(tmp_path / "audit.db") as store:
        # Whatever stands in the way of the new file: here a folder has its name.
        obstacle = store.path.with_name("audit.watermark.new")
        obstacle.mkdir()
        await store.transact(lambda tx: tx.append("order.intent", {}))
        await store.last_sequence()
        with pytest.raises(AuditUnavailable):
            store.check()
        obstacle.rmdir()

        def is_well() -> bool:
            try:
                store.check()
            except AuditUnavailable:
                return False
            return True

        await eventually(is_well)
        assert json.loads(store.path.with_suffix(".watermark").read_text())["sequence"] == 1


async def test_a_mark_of_another_kind_does_not_stand_for_the_watermark(tmp_path: Path) -> None:
    async with AuditStore(tmp_path / "audit.db") as store:
        await store.transact(lambda tx: tx.append("order.intent", {}))
    shutil.copy(store.path.with_suffix(".watermark"), store.path.with_suffix(".anchor"))
    with pytest.raises(RecordUnusable, match="anchor was changed"):
        async with AuditStore(store.path):
            pass
