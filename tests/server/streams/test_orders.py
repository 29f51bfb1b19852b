"""Order streams: everything, once, in order, whatever the reader missed."""

from __future__ import annotations

import asyncio
import uuid
from decimal import Decimal

import pytest
from ibkr_gateway_server.domain.events import Filled, OrderEvent, StatusChanged
from ibkr_gateway_server.domain.instruments import Instrument, SecurityType
from ibkr_gateway_server.domain.orders import OrderKey, OrderSpec, OrderState, OrderType, Side
from ibkr_gateway_server.domain.streams import Gap, Heartbeat, Resumed, SnapshotBegin, SnapshotEnd
from ibkr_gateway_server.streams.orders import OrderEvents, OrderStreamItem

from tests.conftest import Gateway, eventually

AAPL = Instrument(symbol="AAPL", security_type=SecurityType.STK)


@pytest.fixture
def events(gateway: Gateway) -> OrderEvents:
    """Streams beside the server's own, on the same record."""
    desk, session = gateway.running.desk, gateway.running.session
    made = OrderEvents(desk._store, desk.own_open_orders, lambda: session.status)
    desk.recorder.listen(made.put)
    session.on_lost(made.lost)
    desk.on_reconciled(made.recovered)
    return made


async def trade(gateway: Gateway, *, rest: bool = False) -> str:
    key, desk = uuid.uuid4().hex, gateway.running.desk
    price = Decimal("10.00") if rest else None
    kind = OrderType.LMT if rest else OrderType.MKT
    await desk.place(key, OrderSpec(AAPL, Side.BUY, Decimal(10), kind, price))
    if not rest:
        await eventually(lambda: desk.status(OrderKey(key)).commission is not None)
    await desk.recorder.settle()
    return key


async def until_heartbeat(events: OrderEvents, after: int | None, key: str = "") -> list[OrderStreamItem]:
    """Everything a stream tells before its first heartbeat."""
    items: list[OrderStreamItem] = []
    async with (
        asyncio.timeout(30),
        events.subscribe(resume_after_sequence=after, client_order_id=key, heartbeat_s=0.2) as stream,
    ):
        async for batch in stream:
            items += batch
            if any(isinstance(item, Heartbeat) for item in batch):
                break
    return [item for item in items if not isinstance(item, Heartbeat)]


async def test_resuming_anywhere_gives_exactly_what_followed(gateway: Gateway, events: OrderEvents) -> None:
    await trade(gateway)
    whole = await until_heartbeat(events, 0)
    assert len(whole) >= 6
    for index, item in enumerate(whole):
        assert isinstance(item, OrderEvent)
        assert await until_heartbeat(events, item.sequence) == whole[index + 1 :]


async def test_what_is_told_live_is_what_the_record_tells_later(gateway: Gateway, events: OrderEvents) -> None:
    live: list[OrderStreamItem] = []
    async with asyncio.timeout(30), events.subscribe(resume_after_sequence=0, heartbeat_s=0.3) as stream:
        placing = asyncio.ensure_future(trade(gateway))
        async for batch in stream:
            live += batch
            if placing.done() and any(isinstance(item, Heartbeat) for item in batch):
                break
    assert [item for item in live if isinstance(item, OrderEvent)] == await until_heartbeat(events, 0)


async def test_without_a_cursor_a_stream_begins_with_the_open_orders(gateway: Gateway, events: OrderEvents) -> None:
    await trade(gateway)
    resting = await trade(gateway, rest=True)
    items = await until_heartbeat(events, None)
    begin, *middle = items[: items.index(SnapshotEnd())]
    assert isinstance(begin, SnapshotBegin)
    (shown,) = middle
    assert isinstance(shown, OrderEvent)
    assert isinstance(shown.happening, StatusChanged)
    assert (shown.client_order_id, shown.happening.status.state) == (resting, OrderState.WORKING)


async def test_one_orders_stream_is_about_that_order(gateway: Gateway, events: OrderEvents) -> None:
    await trade(gateway)
    key = await trade(gateway, rest=True)
    items = await until_heartbeat(events, 0, key)
    assert {item.client_order_id for item in items if isinstance(item, OrderEvent)} == {key}


async def test_every_event_of_an_acknowledged_order_carries_all_ids(gateway: Gateway, events: OrderEvents) -> None:
    key = await trade(gateway)
    acknowledged = [item for item in await until_heartbeat(events, 0) if isinstance(item, OrderEvent) and item.perm_id]
    assert len(acknowledged) >= 3
    for item in acknowledged:
        assert (item.client_order_id, item.account_id) == (key, "DU1234567")
        assert item.order_id > 0


async def test_a_lost_session_is_a_gap_and_its_return_resumes_with_nothing_missing(
    gateway: Gateway, events: OrderEvents
) -> None:
    async with asyncio.timeout(30), events.subscribe(heartbeat_s=60) as stream:
        items = aiter(stream)
        await anext(items)
        gateway.simulator.drop_connections()
        (gap,) = await anext(items)
        assert isinstance(gap, Gap)
        (resumed,) = await anext(items)
        assert resumed == Resumed(recovered=True, gap_start_time=gap.start_time)


async def test_what_was_missed_is_told_before_the_gap_ends(gateway: Gateway, events: OrderEvents) -> None:
    told: list[OrderStreamItem] = []
    gateway.running.session.connection().callbacks.order_listener = None
    async with asyncio.timeout(30), events.subscribe(heartbeat_s=60) as stream:
        desk, key = gateway.running.desk, uuid.uuid4().hex
        placing = asyncio.ensure_future(desk.place(key, OrderSpec(AAPL, Side.BUY, Decimal(10), OrderType.MKT)))
        await eventually(lambda: gateway.simulator.gateway.executions)
        gateway.simulator.drop_connections()
        async for batch in stream:
            told += batch
            if any(isinstance(item, Resumed) for item in batch):
                break
        await placing
    kinds = [type(item.happening if isinstance(item, OrderEvent) else item) for item in told]
    assert kinds.index(Gap) < kinds.index(Filled) < kinds.index(Resumed)
    assert all(item.recovered for item in told if isinstance(item, OrderEvent) and isinstance(item.happening, Filled))
