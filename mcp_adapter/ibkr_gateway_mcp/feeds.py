"""What has changed at the gateway, for those who subscribe to a resource: one stream a resource, whoever holds it."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import AsyncIterator, Awaitable, Callable, Iterable
from contextlib import asynccontextmanager
from types import TracebackType
from typing import Any, Self

from google.protobuf.duration_pb2 import Duration
from ibkr_gateway import AsyncGateway, GatewayError
from ibkr_gateway.v1 import account_service_pb2 as account_pb
from ibkr_gateway.v1 import gateway_service_pb2 as gateway_pb
from ibkr_gateway.v1 import market_data_service_pb2 as market_pb
from ibkr_gateway.v1 import orders_service_pb2 as orders_pb

from ibkr_gateway_mcp.inputs import listed

log = logging.getLogger(__name__)

POSITIONS, OPEN_ORDERS, TRADING_STATUS = "ibkr://positions", "ibkr://orders/open", "ibkr://trading-status"
QUOTES = "ibkr://quotes/"
LEAST_INTERVAL_S = 1.0
"""Between two notices of one resource: each makes the client read it again."""
FIRST_WAIT_S, LONGEST_WAIT_S = 1.0, 30.0
MOST_FEEDS = 50

Tell = Callable[[str], Awaitable[None]]


class Feeds:
    """Streams of the gateway that are held open by subscriptions."""

    def __init__(self, gateway: AsyncGateway) -> None:
        self._gateway = gateway
        self._tasks = asyncio.TaskGroup()
        self._held: dict[str, int] = {}
        self._running: dict[str, asyncio.Task[None]] = {}
        self._listeners: list[Tell] = []

    async def __aenter__(self) -> Self:
        await self._tasks.__aenter__()
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        for task in self._running.values():
            task.cancel()
        await self._tasks.__aexit__(kind, error, trace)

    def listen(self, tell: Tell) -> None:
        """Have `tell` called with the URI of every resource that has changed."""
        self._listeners.append(tell)

    @property
    def open_uris(self) -> frozenset[str]:
        """Resources that are followed now."""
        return frozenset(self._running)

    def hold(self, uri: str) -> bool:
        """Follow a resource until `release`. False: there is no such resource, or too many are followed."""
        if uri not in self._held and (len(self._held) >= MOST_FEEDS or not self._is_known(uri)):
            return False
        self._held[uri] = self._held.get(uri, 0) + 1
        if uri not in self._running:
            self._running[uri] = self._tasks.create_task(self._follow(uri))
        return True

    def release(self, uri: str) -> None:
        """Undo one `hold`; with the last of them the stream ends, and with it what it costs at IBKR."""
        left = self._held.get(uri, 0) - 1
        if left > 0:
            self._held[uri] = left
            return
        self._held.pop(uri, None)
        if (task := self._running.pop(uri, None)) is not None:
            task.cancel()

    @asynccontextmanager
    async def holding(self, uris: Iterable[str]) -> AsyncIterator[None]:
        """Follow resources as long as the context lasts."""
        held = [uri for uri in dict.fromkeys(uris) if self.hold(uri)]
        try:
            yield
        finally:
            for uri in held:
                self.release(uri)

    async def _follow(self, uri: str) -> None:
        """Tell of every change of a resource, and go on when its stream breaks."""
        wait_s = FIRST_WAIT_S
        while True:
            changed = asyncio.Event()
            telling = self._tasks.create_task(self._tell(uri, changed))
            try:
                async for is_change in self._changes(uri):
                    if is_change:
                        wait_s = FIRST_WAIT_S
                        changed.set()
            except GatewayError as error:
                log.warning("stream of a resource broke", extra={"uri": uri, "reason": error.reason or error.code.name})
            finally:
                telling.cancel()
            await self._publish(uri)
            await asyncio.sleep(wait_s)
            wait_s = min(2 * wait_s, LONGEST_WAIT_S)

    async def _tell(self, uri: str, changed: asyncio.Event) -> None:
        while True:
            await changed.wait()
            changed.clear()
            await self._publish(uri)
            await asyncio.sleep(LEAST_INTERVAL_S)

    async def _publish(self, uri: str) -> None:
        for tell in self._listeners:
            await tell(uri)

    async def _changes(self, uri: str) -> AsyncIterator[bool]:
        """For every event of a resource's stream, whether the resource may have changed by it."""
        async for response in self._stream(uri):
            # One service has its events in frames, another sends each by itself.
            for event in getattr(response, "events", None) or (response,):
                yield event.WhichOneof("event") != "heartbeat"

    def _stream(self, uri: str) -> AsyncIterator[Any]:
        gateway = self._gateway
        if uri == POSITIONS:
            return aiter(gateway.account.StreamPositions(account_pb.StreamPositionsRequest()))
        if uri == OPEN_ORDERS:
            return aiter(gateway.orders.StreamOrderEvents(orders_pb.StreamOrderEventsRequest()))
        if uri == TRADING_STATUS:
            return aiter(gateway.gateway.WatchTradingStatus(gateway_pb.WatchTradingStatusRequest()))
        request = market_pb.StreamQuotesRequest(
            instruments=[listed(uri.removeprefix(QUOTES))], min_interval=Duration(seconds=1)
        )
        return aiter(gateway.market_data.StreamQuotes(request))

    @staticmethod
    def _is_known(uri: str) -> bool:
        if uri in (POSITIONS, OPEN_ORDERS, TRADING_STATUS):
            return True
        symbol = uri.removeprefix(QUOTES)
        if symbol == uri:
            return False
        try:
            listed(symbol)
        except ValueError:
            return False
        return True
