"""The session in the record: what changed and why, once, and in nobody's way."""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any, TypeVar

from ibkr_gateway import new_client_order_id, stock
from ibkr_gateway.v1 import common_pb2
from ibkr_gateway.v1 import orders_service_pb2 as orders_pb
from ibkr_gateway_server.audit.store import AuditStore
from ibkr_gateway_server.audit.transaction import Transaction
from ibkr_gateway_server.domain.audit import AuditFilter, PageRequest
from ibkr_gateway_server.domain.errors import AccountNotPinned, AuditUnavailable, DomainError
from ibkr_gateway_server.domain.sessions import SessionEvent
from ibkr_gateway_server.trading.session_record import SessionRecord

from tests.conftest import Gateway, eventually

T = TypeVar("T")


class Unwilling(AuditStore):
    """A record that cannot be written so many times."""

    failures = 0

    async def transact(self, work: Callable[[Transaction], T]) -> T:
        if self.failures:
            self.failures -= 1
            raise AuditUnavailable
        return await super().transact(work)


def change(before: str, after: str, reason: str = "", epoch: int = 1) -> SessionEvent:
    return SessionEvent("session.transition", epoch, {"from": before, "to": after, "reason": reason})


@asynccontextmanager
async def writing(record: SessionRecord) -> AsyncIterator[None]:
    """It writes; at the end all that waits is written."""
    running = asyncio.ensure_future(record.run())
    await asyncio.sleep(0)
    yield
    running.cancel()
    await asyncio.wait([running])


async def written(store: AuditStore) -> list[tuple[str, dict[str, Any]]]:
    """Everything in the record, oldest first."""
    found = (await store.query(AuditFilter(), PageRequest())).items
    return [(record.kind, json.loads(record.body_json)) for record in reversed(found)]


async def test_a_night_without_tws_is_a_few_rows_and_each_morning_is_news(tmp_path: Path) -> None:
    async with AuditStore(tmp_path / "audit.db") as store:
        record = SessionRecord(store, lambda: None)
        async with writing(record):
            night = [change("RECONNECTING", "CONNECTING", "x"), change("CONNECTING", "RECONNECTING", "x")]
            for event in [*night * 500, change("SYNCING", "READY"), *night * 500, change("SYNCING", "READY")]:
                record.put(event)
        kinds = [body["to"] for _, body in await written(store)]
        assert kinds == ["CONNECTING", "RECONNECTING", "READY"] * 2


async def test_a_login_with_the_wrong_accounts_is_told_once_until_it_is_another_one(tmp_path: Path) -> None:
    wrong: list[DomainError] = [AccountNotPinned()]
    async with AuditStore(tmp_path / "audit.db") as store:
        record = SessionRecord(store, lambda: wrong[0] if wrong else None)
        async with writing(record):
            record.put(change("SYNCING", "READY"))
            record.put(change("SYNCING", "READY", epoch=2))
            wrong.clear()
            record.put(change("SYNCING", "READY", epoch=3))
            wrong.append(AccountNotPinned())
            record.put(change("SYNCING", "READY", epoch=4))
        assert [kind for kind, _ in await written(store)].count("account.mismatch") == 2


async def test_what_cannot_be_written_is_written_later_in_its_order(tmp_path: Path) -> None:
    async with Unwilling(tmp_path / "audit.db") as store:
        store.failures = 1
        record = SessionRecord(store, lambda: None)
        async with writing(record):
            record.put(change("A", "B"))
            await eventually(lambda: store.failures == 0)
            record.put(change("B", "C"))
        assert [body["to"] for _, body in await written(store)] == ["B", "C"]


async def test_streams_of_orders_leave_the_session_out_of_what_they_resume(gateway: Gateway) -> None:
    spec = orders_pb.OrderSpec(
        instrument=stock("AAPL"), side=common_pb2.SIDE_BUY, quantity="1", order_type=orders_pb.ORDER_TYPE_MKT
    )
    key = new_client_order_id()
    await gateway.client.orders.PlaceOrder(orders_pb.PlaceOrderRequest(client_order_id=key, order=spec))
    request = orders_pb.StreamOrderEventsRequest(resume_after_sequence=0)
    async with asyncio.timeout(15):
        async for response in gateway.client.orders.StreamOrderEvents(request):
            # The session's rows are first in the record.
            assert response.events[0].sequence > 3
            assert {event.client_order_id for event in response.events} == {key}
            break
