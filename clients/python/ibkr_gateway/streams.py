"""Streams that are kept for good: opened again when they end, from where they were, and honest about what is missing.

    async for event in follow_orders(gateway, after=cursor):
        ...
    for update in follow_quotes_sync(gateway, ["AAPL", "MES:FUT"]):
        print(update.state, update.quote)

They end when the caller leaves them. An error that trying again does not help is raised: a wrong request, a token that
is not valid, a cursor that is older than the record. That the gateway cannot be reached is not one, also not at first.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncGenerator, Awaitable, Callable, Iterable, Iterator
from contextlib import aclosing
from typing import Any

import grpc

from ibkr_gateway.connection import AsyncGateway, SyncGateway
from ibkr_gateway.errors import GatewayError, Unavailable
from ibkr_gateway.following import Following, OrderFollowing, QuoteFollowing, QuoteUpdate, Told
from ibkr_gateway.inputs import parse_instrument
from ibkr_gateway.orders import Named
from ibkr_gateway.v1 import audit_service_pb2 as audit_pb
from ibkr_gateway.v1 import common_pb2
from ibkr_gateway.v1 import orders_service_pb2 as orders_pb

ORDERS_HEARTBEAT_S, QUOTES_HEARTBEAT_S = 15.0, 5.0
_NEWEST = audit_pb.QueryAuditEventsRequest(page_size=1)


async def follow_orders(
    gateway: AsyncGateway,
    *,
    after: int | None = None,
    client_order_id: str = "",
    heartbeat_s: float = ORDERS_HEARTBEAT_S,
) -> AsyncGenerator[orders_pb.OrderEvent, None]:
    """Order events, none missed and none told twice, over restarts of the gateway and over being too slow for it.

    `after`: the last sequence seen; 0: from the beginning of the record; None: open orders as a snapshot first.
    Keep the `sequence` of what was dealt with, to go on from there in another life. While the gateway is away a gap is
    told, GATEWAY_DISCONNECTED or SLOW_CONSUMER, and resumed when it is back; what happened meanwhile follows.

    A connection on which nothing comes for two heartbeats and a half is dead, and opened again.
    """
    following = OrderFollowing(after, client_order_id, heartbeat_s)

    async def open_stream() -> Any:
        if following.cursor is None:
            # Should the snapshot be empty, this is where the live events after it begin.
            following.cursor = _sequence(await gateway.audit.QueryAuditEvents(_NEWEST))
        return gateway.orders.StreamOrderEvents(following.request())

    async with aclosing(_followed(following, open_stream)) as events:
        async for event in events:
            yield event


def follow_orders_sync(
    gateway: SyncGateway,
    *,
    after: int | None = None,
    client_order_id: str = "",
    heartbeat_s: float = ORDERS_HEARTBEAT_S,
) -> Iterator[orders_pb.OrderEvent]:
    """As `follow_orders`, without a loop. A dead connection is found by gRPC's keepalive instead, within 40 s."""
    following = OrderFollowing(after, client_order_id, heartbeat_s)

    def open_stream() -> Any:
        if following.cursor is None:
            following.cursor = _sequence(gateway.audit.QueryAuditEvents(_NEWEST))
        return gateway.orders.StreamOrderEvents(following.request())

    yield from _followed_sync(following, open_stream)


async def follow_quotes(
    gateway: AsyncGateway,
    instruments: Iterable[Named],
    *,
    min_interval_s: float = 0.0,
    heartbeat_s: float = QUOTES_HEARTBEAT_S,
) -> AsyncGenerator[QuoteUpdate, None]:
    """The newest quote of each instrument with how far it may be believed, told whenever one of the two changes.

    `min_interval_s`: least time between two messages; quotes in between are conflated. A quote that did not change for
    a heartbeat is QUIET, as long as heartbeats come; without them, or without the gateway, it is GAP.
    """
    following = QuoteFollowing(_named(instruments), min_interval_s, heartbeat_s)

    async def open_stream() -> Any:
        return gateway.market_data.StreamQuotes(following.request())

    async with aclosing(_followed(following, open_stream)) as updates:
        async for update in updates:
            yield update


def follow_quotes_sync(
    gateway: SyncGateway,
    instruments: Iterable[Named],
    *,
    min_interval_s: float = 0.0,
    heartbeat_s: float = QUOTES_HEARTBEAT_S,
) -> Iterator[QuoteUpdate]:
    """As `follow_quotes`, without a loop. A dead connection is found by gRPC's keepalive instead, within 40 s."""
    following = QuoteFollowing(_named(instruments), min_interval_s, heartbeat_s)
    yield from _followed_sync(following, lambda: gateway.market_data.StreamQuotes(following.request()))


async def _followed(
    following: Following[Told], open_stream: Callable[[], Awaitable[Any]]
) -> AsyncGenerator[Told, None]:
    """What there is to tell of a stream that is opened again whenever it ends."""
    while True:
        try:
            async with aclosing(_alive(await open_stream(), following.silence_s)) as responses:
                async for response in responses:
                    for told in following.take(response):
                        yield told
            lost = following.lost(None)
        except GatewayError as error:
            lost = following.lost(error)
        for told in lost:
            yield told
        await asyncio.sleep(following.backoff_s())


def _followed_sync(following: Following[Told], open_stream: Callable[[], Any]) -> Iterator[Told]:
    """As `_followed`, without a loop."""
    while True:
        try:
            for response in open_stream():
                yield from following.take(response)
            lost = following.lost(None)
        except GatewayError as error:
            lost = following.lost(error)
        yield from lost
        time.sleep(following.backoff_s())


async def _alive(stream: Any, silence_s: float) -> AsyncGenerator[Any, None]:
    """The messages of a stream. Raises Unavailable when none comes for so long that the connection must be dead."""
    try:
        while True:
            try:
                async with asyncio.timeout(silence_s):
                    message = await anext(stream)
            except StopAsyncIteration:
                return
            except TimeoutError:
                raise _silent(silence_s) from None
            yield message
    finally:
        await stream.aclose()


def _silent(silence_s: float) -> Unavailable:
    return Unavailable(f"no heartbeat for {silence_s:g} s", code=grpc.StatusCode.UNAVAILABLE)


def _sequence(newest: audit_pb.QueryAuditEventsResponse) -> int:
    return newest.events[0].sequence if newest.events else 0


def _named(instruments: Iterable[Named]) -> list[common_pb2.Instrument]:
    return [parse_instrument(each) if isinstance(each, str) else each for each in instruments]
