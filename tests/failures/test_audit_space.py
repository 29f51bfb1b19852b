"""The record while the gateway runs: a full disk, another program's lock, a disk that fails, a clock that jumps."""

from __future__ import annotations

import asyncio
import json
import sqlite3
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest
from ibkr_gateway import Unavailable, new_client_order_id, stock
from ibkr_gateway.v1 import common_pb2
from ibkr_gateway.v1 import market_data_service_pb2 as market_pb
from ibkr_gateway.v1 import orders_service_pb2 as orders_pb
from ibkr_gateway_server.audit.store import AuditStore
from ibkr_gateway_server.domain.audit import AuditFilter, PageRequest
from ibkr_gateway_server.domain.errors import AuditUnavailable
from ibkr_gateway_server.domain.tallies import AUDIT_BACKLOG, AUDIT_ERRORS

from tests.conftest import Gateway, MakeGateway, eventually
from tests.disks import crash_image, failing_fsync, full_disk, room_for_little
from tests.failures.conftest import eventually_recorded, recorded, tally
from tests.server.rpc.test_health import eventually_unwell, health_of

PLACE, CANCEL = 3, 4
BRACKET = {"order_type": orders_pb.ORDER_TYPE_BRACKET, "take_profit_price": "11.00", "stop_loss_price": "9.00"}


def order(**changed: Any) -> orders_pb.OrderSpec:
    terms = {
        "side": common_pb2.SIDE_BUY,
        "time_in_force": orders_pb.TIME_IN_FORCE_DAY,
        "quantity": "10",
        "order_type": orders_pb.ORDER_TYPE_LMT,
        "limit_price": "10.00",
    }
    return orders_pb.OrderSpec(instrument=stock("AAPL"), **{**terms, **changed})


async def place(gateway: Gateway, **changed: Any) -> str:
    """An order that rests. Returns its client_order_id."""
    key = new_client_order_id()
    await gateway.client.orders.PlaceOrder(orders_pb.PlaceOrderRequest(client_order_id=key, order=order(**changed)))
    return key


def of(gateway: Gateway) -> AuditStore:
    """Its record."""
    return gateway.running.desk._store


def journal(store: AuditStore) -> list[dict[str, Any]]:
    """What the emergency journal holds."""
    path = store.path.with_suffix(".emergency.jsonl")
    return [json.loads(line) for line in path.read_text().splitlines() if line] if path.exists() else []


async def events_until(stream: Any, is_enough: Any) -> list[orders_pb.OrderEvent]:
    """A stream's events up to the one that is enough."""
    told: list[orders_pb.OrderEvent] = []
    async with asyncio.timeout(20):
        async for response in stream:
            for event in response.events:
                told.append(event)
                if is_enough(event):
                    return told
    raise AssertionError("the stream ended")


async def test_D01_the_disk_is_full_when_an_order_is_placed(gateway: Gateway) -> None:
    """The disk is full when an order's intent is to be recorded.

    AUDIT_UNAVAILABLE with nothing sent; OrdersService is NOT_SERVING, everything else goes on, and orders are taken
    again by themselves once there is space.
    """
    store = of(gateway)
    await room_for_little(store)
    before = (await store.verify()).checked_count
    with pytest.raises(Unavailable) as refused:
        # The intent of three legs is more than a page.
        await place(gateway, **BRACKET)
    assert refused.value.reason == "AUDIT_UNAVAILABLE"
    assert gateway.simulator.frames_received(PLACE) == 0
    assert tally(gateway, AUDIT_ERRORS, "full") >= 1
    assert [line["kind"] for line in journal(store)] == ["audit.failed"]
    async with health_of(gateway) as health, full_disk(store):
        await eventually_unwell(health, "Orders")
        request = market_pb.GetQuoteRequest(instrument=stock("AAPL"))
        assert (await gateway.client.market_data.GetQuote(request)).quote.instrument.symbol == "AAPL"
        listed = await gateway.client.orders.ListOrders(orders_pb.ListOrdersRequest())
        assert not listed.orders
        kinds = {event.kind for event in await store.events_after(before, 1000)}
        assert not kinds & {"order.intent", "order.send"}
    async with health_of(gateway) as health:
        await eventually_unwell(health)
    await place(gateway)
    (merged, *_) = await eventually_recorded(gateway, "emergency.merged", len)
    assert (merged["kind"], merged["body"], merged["is_authentic"]) == ("audit.failed", {"fault": "full"}, True)
    assert (await store.verify()).is_valid


async def test_D02_the_disk_is_full_when_an_order_fills(gateway: Gateway) -> None:
    """The disk is full when a fill arrives.

    The fill is streamed at once, flagged `audit_pending` and without a sequence; once there is space it is told again
    with its sequence. Orders are refused meanwhile.
    """
    store = of(gateway)
    key = await place(gateway)
    stream: Any = gateway.client.orders.StreamOrderEvents(orders_pb.StreamOrderEventsRequest(client_order_id=key))
    await events_until(stream, lambda event: event.HasField("snapshot_end"))
    async with full_disk(store):
        gateway.simulator.set_quote("AAPL", 9.0, 9.5, 9.5)
        told = await events_until(stream, lambda event: event.HasField("execution"))
        fill = told[-1]
        assert (fill.audit_pending, fill.sequence) == (True, 0)
        assert tally(gateway, AUDIT_BACKLOG) >= 1
        with pytest.raises(Unavailable) as refused:
            await place(gateway)
        assert refused.value.reason == "AUDIT_UNAVAILABLE"
        # Who comes later is told as well, after what is recorded.
        late: Any = gateway.client.orders.StreamOrderEvents(orders_pb.StreamOrderEventsRequest(client_order_id=key))
        again = await events_until(late, lambda event: event.HasField("execution"))
        assert again[-1].execution.execution_id == fill.execution.execution_id
        await late.aclose()
    told = await events_until(stream, lambda event: event.HasField("execution") and not event.audit_pending)
    assert told[-1].execution.execution_id == fill.execution.execution_id
    assert told[-1].sequence > 0
    await stream.aclose()
    await eventually(lambda: tally(gateway, AUDIT_BACKLOG) == 0)
    assert len(await recorded(gateway, "execution")) == 1
    async with asyncio.timeout(10):
        while not gateway.running.desk.trading_status().can_send_orders:
            await asyncio.sleep(0.01)


async def test_D03_an_order_is_cancelled_while_the_disk_is_full(make_gateway: MakeGateway, tmp_path: Path) -> None:
    """An order is cancelled while the disk is full, and the gateway is started again after that.

    The cancel is sent and confirmed: it is noted beside the record first, in space that was kept for it, and is in the
    record as `emergency.merged` after the next start.
    """
    gateway = await make_gateway()
    store, key = of(gateway), await place(gateway)
    assert store.path.with_suffix(".ballast").stat().st_size == 8 * 1024 * 1024
    async with full_disk(store):
        request = orders_pb.CancelOrderRequest(order=orders_pb.OrderKey(client_order_id=key))
        status = (await gateway.client.orders.CancelOrder(request)).status
        assert status.state == orders_pb.ORDER_STATE_CANCELLED
        assert gateway.simulator.frames_received(CANCEL) == 1
        assert not store.path.with_suffix(".ballast").exists()
        (line,) = [line for line in journal(store) if line["kind"] == "order.cancel"]
        assert line["client_order_id"] == key
        crashed = crash_image(store.path, tmp_path / "crashed")
    restarted = await make_gateway(audit_db_path=crashed)
    merged = [body for body in await recorded(restarted, "emergency.merged") if body["kind"] == "order.cancel"]
    assert [body["is_authentic"] for body in merged] == [True]
    found = (await of(restarted).query(AuditFilter(kind="emergency.merged", client_order_id=key), PageRequest())).items
    assert len(found) == 1
    assert not journal(of(restarted))


async def test_D04_another_program_holds_the_database(gateway: Gateway) -> None:
    """Another program holds the database's lock for longer than the gateway waits.

    AUDIT_UNAVAILABLE with nothing sent and nothing half recorded; orders are taken again by themselves once it lets go.
    """
    store = of(gateway)
    before = await store.last_sequence()
    other = sqlite3.connect(store.path, isolation_level=None)
    try:
        other.execute("BEGIN IMMEDIATE")
        with pytest.raises(Unavailable) as refused:
            await place(gateway)
        assert refused.value.reason == "AUDIT_UNAVAILABLE"
        assert gateway.simulator.frames_received(PLACE) == 0
        assert tally(gateway, AUDIT_ERRORS, "busy") >= 1
        assert not (await gateway.client.orders.ListOrders(orders_pb.ListOrdersRequest())).orders
        other.execute("ROLLBACK")
    finally:
        other.close()
    await eventually(lambda: gateway.running.desk.trading_status().can_send_orders)
    await place(gateway)
    kinds = [event.kind for event in await store.events_after(before, 1000)]
    assert kinds.count("order.intent") == 1
    assert (await store.verify()).is_valid


async def test_D09_the_disk_fails(gateway: Gateway) -> None:
    """The disk answers a commit's fsync with EIO, once.

    AUDIT_UNAVAILABLE with nothing sent, and so is every order until the gateway is started again: what the disk holds
    is not known. Reads go on, and so do cancels.
    """
    store, key = of(gateway), await place(gateway)
    await gateway.running.desk.recorder.settle()
    with failing_fsync(store) as tried:
        with pytest.raises(Unavailable) as refused:
            await place(gateway)
        assert refused.value.reason == "AUDIT_UNAVAILABLE"
    assert tried
    assert tally(gateway, AUDIT_ERRORS, "io") == 1
    for _ in range(3):
        with pytest.raises(AuditUnavailable):
            await store.transact(lambda tx: tx.append("test", {}))
    with pytest.raises(Unavailable):
        await place(gateway)
    assert gateway.simulator.frames_received(PLACE) == 1
    listed = await gateway.client.orders.ListOrders(orders_pb.ListOrdersRequest())
    assert [each.client_order_id for each in listed.orders] == [key]
    request = orders_pb.CancelOrderRequest(order=orders_pb.OrderKey(client_order_id=key))
    status = (await gateway.client.orders.CancelOrder(request)).status
    assert status.state == orders_pb.ORDER_STATE_CANCELLED
    assert "order.cancel" in [line["kind"] for line in journal(store)]


async def test_D12_the_clock_steps_back_an_hour(tmp_path: Path) -> None:
    """The machine's clock is set back by an hour.

    Events keep the order in which they happened; each has the time that the clock told and one that never goes back.
    """
    clock = datetime(2026, 11, 23, 15, tzinfo=UTC)
    async with AuditStore(tmp_path / "audit.db", now=lambda: clock) as store:
        await store.transact(lambda tx: tx.append("test", {}))
        clock -= timedelta(hours=1)
        await store.transact(lambda tx: tx.append("test", {}))
        first, second = await store.events_after(0, 10)
        assert (first.sequence, second.sequence) == (1, 2)
        assert second.record_time == first.record_time - timedelta(hours=1)
        assert (await store.verify()).is_valid
    with sqlite3.connect(store.path) as database:
        early, late = (row[0] for row in database.execute("SELECT monotonic_ns FROM events ORDER BY sequence"))
    database.close()
    assert early < late
