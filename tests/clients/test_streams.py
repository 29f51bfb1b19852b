"""Streams that are kept for good, against servers that die, stop, and cut their readers off."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncGenerator, Iterator
from contextlib import aclosing
from pathlib import Path
from typing import Any, TypeVar

import pytest
from ibkr_gateway import (
    AsyncGateway,
    InvalidRequest,
    MarketState,
    connect,
    connect_sync,
    follow_orders,
    follow_orders_sync,
    follow_quotes,
    follow_quotes_sync,
    limit_order,
    new_client_order_id,
)
from ibkr_gateway.v1 import orders_service_pb2 as pb
from ibkr_gateway_server.streams import orders as order_streams

from tests.conftest import Gateway
from tests.lives import free_port, life

T = TypeVar("T")
WAIT_S = 60.0


async def place(client: AsyncGateway, note: str = "") -> str:
    """A far limit order, once the gateway takes one; its client_order_id."""
    request = pb.PlaceOrderRequest(
        client_order_id=new_client_order_id(), order=limit_order("AAPL", "BUY", 1, "100", note=note)
    )
    async with asyncio.timeout(WAIT_S):
        while True:
            try:
                await client.orders.PlaceOrder(request)
            except Exception:
                await asyncio.sleep(0.05)
            else:
                return request.client_order_id


async def until(stream: AsyncGenerator[T, None], wanted: Any) -> list[T]:
    """What a stream says until something is wanted, with it."""
    said = []
    async with asyncio.timeout(WAIT_S):
        async for item in stream:
            said.append(item)
            if wanted(item):
                return said
    raise AssertionError(f"the stream ended: {said[-3:]}")


def is_working(client_order_id: str) -> Any:
    def check(event: pb.OrderEvent) -> bool:
        return event.client_order_id == client_order_id and event.status.state == pb.ORDER_STATE_WORKING

    return check


@pytest.mark.parametrize("death", ["kill", "terminate"])
async def test_orders_are_followed_over_the_death_of_the_server_without_a_hole(death: str, tmp_path: Path) -> None:
    port = free_port()
    async with connect(f"127.0.0.1:{port}") as client, aclosing(follow_orders(client, after=0)) as events:
        with life(port, tmp_path) as (process, _):
            said = await until(events, is_working(await place(client)))
            getattr(process, death)()
            said += await until(events, lambda event: event.HasField("gap") and event.gap.reason.startswith("GATEWAY"))
        with life(port, tmp_path):
            second = await place(client)
            said += await until(events, is_working(second))
            kinds = [event.WhichOneof("event") for event in said]
            assert "resumed" in kinds[kinds.index("gap") :]
            told = [event.sequence for event in said if event.sequence]
            async with aclosing(follow_orders(client, after=0)) as again:
                recorded = [event.sequence for event in await until(again, is_working(second)) if event.sequence]
            assert told == recorded


async def test_a_reader_that_is_cut_off_for_being_slow_goes_on_where_it_was(
    gateway: Gateway, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(order_streams, "WAITING_LIMIT", 0)
    async with aclosing(follow_orders(gateway.client, heartbeat_s=1)) as events:
        said = await until(events, lambda event: event.HasField("snapshot_end"))
        placed = await place(gateway.client)
        said += await until(events, is_working(placed))
    assert "SLOW_CONSUMER" in [event.gap.reason for event in said if event.HasField("gap")]
    states = [event.status.state for event in said if event.HasField("status")]
    assert states[:2] == [pb.ORDER_STATE_PENDING, pb.ORDER_STATE_SENT]


async def test_only_one_order_is_followed_where_only_one_is_asked_for(gateway: Gateway) -> None:
    await place(gateway.client)
    placed = await place(gateway.client, note="followed")
    async with aclosing(follow_orders(gateway.client, after=0, client_order_id=placed)) as events:
        said = await until(events, is_working(placed))
    assert {event.client_order_id for event in said} == {placed}


async def test_quotes_are_followed_over_the_death_of_the_server_and_say_that_they_are_missing(tmp_path: Path) -> None:
    port = free_port()
    async with connect(f"127.0.0.1:{port}") as client, aclosing(follow_quotes(client, ["AAPL"])) as updates:
        (missing,) = await until(updates, lambda update: True)
        assert (missing.state, missing.reason, missing.quote) == (MarketState.GAP, "GATEWAY_DISCONNECTED", None)
        with life(port, tmp_path) as (process, _):
            await until(updates, lambda update: update.state is MarketState.LIVE)
            process.kill()
            *_, gap = await until(updates, lambda update: update.reason == "GATEWAY_DISCONNECTED")
            assert gap.quote is not None
        with life(port, tmp_path):
            await until(updates, lambda update: update.state is MarketState.LIVE)


async def test_a_symbol_that_is_not_there_ends_and_the_others_go_on(gateway: Gateway) -> None:
    async with aclosing(follow_quotes(gateway.client, ["NOSUCH", "AAPL"])) as updates:
        said = await until(updates, lambda update: update.state is MarketState.LIVE)
        said += (
            await until(updates, lambda update: update.state is MarketState.ENDED)
            if not any(update.state is MarketState.ENDED for update in said)
            else []
        )
    assert [update.reason for update in said if update.instrument.symbol == "NOSUCH"] == ["CONTRACT_NOT_FOUND"]


async def test_a_request_that_is_wrong_is_raised_and_not_tried_for_ever(gateway: Gateway) -> None:
    async with aclosing(follow_orders(gateway.client, after=-1)) as events:
        with pytest.raises(InvalidRequest):
            await until(events, lambda event: True)
    async with aclosing(follow_quotes(gateway.client, [])) as updates:
        with pytest.raises(InvalidRequest):
            await until(updates, lambda update: True)


def first(stream: Iterator[T], wanted: Any) -> T:
    return next(item for item in stream if wanted(item))


def test_the_synchronous_twins_follow_over_a_death_as_well(tmp_path: Path) -> None:
    port = free_port()
    with connect_sync(f"127.0.0.1:{port}") as client:
        updates, events = follow_quotes_sync(client, ["AAPL"]), follow_orders_sync(client)
        with life(port, tmp_path) as (process, _):
            first(updates, lambda update: update.state is MarketState.LIVE)
            first(events, lambda event: event.HasField("snapshot_end"))
            process.kill()
            first(updates, lambda update: update.reason == "GATEWAY_DISCONNECTED")
            first(events, lambda event: event.gap.reason == "GATEWAY_DISCONNECTED")
        with life(port, tmp_path):
            first(updates, lambda update: update.state is MarketState.LIVE)
            first(events, lambda event: event.HasField("resumed") or event.HasField("heartbeat"))
