"""Order event streams: from the durable record, then live, with nothing left out and nothing told twice.

A subscriber starts to listen first and reads the record after; what both hold is told once, by its sequence. A reader
that lets too much gather is cut off with its cursor: resuming from there loses nothing.
"""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import AsyncIterator, Callable, Sequence
from datetime import UTC, datetime
from types import TracebackType
from typing import Self

from ibkr_gateway_server.audit.order_events import decode
from ibkr_gateway_server.audit.store import AuditStore
from ibkr_gateway_server.domain.errors import SlowConsumer
from ibkr_gateway_server.domain.events import OrderEvent, StatusChanged
from ibkr_gateway_server.domain.orders import OrderStatus
from ibkr_gateway_server.domain.sessions import SessionStatus
from ibkr_gateway_server.domain.streams import Draining, Gap, Heartbeat, Resumed, SnapshotBegin, SnapshotEnd
from ibkr_gateway_server.streams.hub import Hub

# Events that may wait for one reader, and records read from the store at a time.
WAITING_LIMIT = 10_000
PAGE = 500

OrderStreamItem = OrderEvent | SnapshotBegin | SnapshotEnd | Heartbeat | Gap | Resumed | Draining
OpenOrders = Callable[[], Sequence[OrderStatus]]


class OrderEvents(Hub["OrderSubscription"]):
    """Opens order streams. `put` takes every event once it is durable, and before when it cannot be; `pending` gives
    those that cannot be made durable now."""

    def __init__(
        self,
        store: AuditStore,
        open_orders: OpenOrders,
        session_status: Callable[[], SessionStatus],
        pending: Callable[[], Sequence[OrderEvent]] = tuple,
    ) -> None:
        self._store = store
        self._pending = pending
        self._open_orders = open_orders
        super().__init__(session_status)
        self._gap: Gap | None = None

    def put(self, events: Sequence[OrderEvent]) -> None:
        """Tell every stream."""
        for subscription in self._open:
            subscription.put(events)

    def lost(self, reason: str) -> None:
        """The session is lost: what happens at IBKR now arrives later, as recovered events."""
        if self._gap is None:
            self._gap = Gap(reason, datetime.now(UTC))
            for subscription in self._open:
                subscription.put((self._gap,))

    def recovered(self) -> None:
        """The session is back, and its orders are reconciled."""
        gap, self._gap = self._gap, None
        if gap is not None:
            for subscription in self._open:
                subscription.put((Resumed(recovered=True, gap_start_time=gap.start_time),))

    def subscribe(
        self, *, resume_after_sequence: int | None = None, client_order_id: str = "", heartbeat_s: float = 15.0
    ) -> OrderSubscription:
        """A stream: enter it, then iterate it for batches. Raises ShuttingDown."""
        self._refuse_when_draining()
        return OrderSubscription(self, resume_after_sequence, client_order_id, heartbeat_s)


class OrderSubscription:
    """One subscriber. An async context manager and an async iterator of non-empty batches, oldest first."""

    def __init__(self, hub: OrderEvents, after: int | None, client_order_id: str, heartbeat_s: float) -> None:
        self._hub = hub
        self._after = after
        self._client_order_id = client_order_id
        self._heartbeat_s = heartbeat_s
        self._waiting: deque[OrderStreamItem] = deque()
        self._wake = asyncio.Event()
        self._is_ended = False
        self._is_overrun = False
        self._told = after or 0

    async def __aenter__(self) -> Self:
        # Listening begins before the record is read, so that nothing falls in between.
        self._hub._open.add(self)
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._hub._open.discard(self)

    async def __aiter__(self) -> AsyncIterator[tuple[OrderStreamItem, ...]]:
        if self._after is None:
            yield await self._snapshot()
        else:
            async for batch in self._recorded():
                yield batch
        if pending := self._take_pending():
            yield pending
        if self._hub._gap is not None:
            yield (self._hub._gap,)
        loop = asyncio.get_running_loop()
        heartbeat_at = loop.time() + self._heartbeat_s
        while True:
            try:
                async with asyncio.timeout_at(heartbeat_at):
                    await self._wake.wait()
            except TimeoutError:
                pass
            self._wake.clear()
            news = self._take()
            if loop.time() >= heartbeat_at:
                heartbeat_at = loop.time() + self._heartbeat_s
                news.append(self._hub.heartbeat())
            if news:
                yield tuple(news)
            if self._is_overrun:
                raise SlowConsumer(self._told)
            if self._is_ended and not self._waiting:
                return

    def put(self, items: Sequence[OrderStreamItem]) -> None:
        """Keep what happened until the reader takes it."""
        if self._is_overrun:
            return
        if len(self._waiting) + len(items) > WAITING_LIMIT:
            self._is_overrun = True
        else:
            self._waiting.extend(items)
        self._wake.set()

    def end(self, draining: Draining) -> None:
        """Tell the subscriber that the server stops; its iteration ends after that."""
        self.put((draining,))
        self._is_ended = True

    async def _snapshot(self) -> tuple[OrderStreamItem, ...]:
        """Open orders as they stand, each under the sequence of its last event; what follows is newer."""
        orders = [status for status in self._hub._open_orders() if self._wants(status.client_order_id)]
        orders.sort(key=lambda status: status.last_sequence)
        last = await self._hub._store.last_sequence()
        self._told = max([last, *(status.last_sequence for status in orders)], default=0)
        # Already contained in the statuses, or of orders that have closed.
        self._waiting = deque(item for item in self._waiting if not _is_event_up_to(item, self._told))
        return (SnapshotBegin(), *(_as_event(status) for status in orders), SnapshotEnd())

    async def _recorded(self) -> AsyncIterator[tuple[OrderStreamItem, ...]]:
        """Everything the record holds after the cursor, in pages."""
        position = self._told
        while records := await self._hub._store.events_after(position, PAGE):
            position = records[-1].sequence
            events = [event for record in records if (event := decode(record)) is not None]
            wanted = tuple(event for event in events if self._wants(event.client_order_id))
            self._told = position
            if wanted:
                yield wanted

    def _take(self) -> list[OrderStreamItem]:
        batch: list[OrderStreamItem] = []
        while self._waiting:
            item = self._waiting.popleft()
            if isinstance(item, OrderEvent):
                # What is not durable yet has no place to resume from, and is told again with its sequence.
                if not item.audit_pending:
                    if item.sequence <= self._told:
                        continue
                    self._told = item.sequence
                if not self._wants(item.client_order_id):
                    continue
            batch.append(item)
        return batch

    def _take_pending(self) -> tuple[OrderStreamItem, ...]:
        """What happened before this and is not durable yet; of it nothing waits to be told a second time."""
        self._waiting = deque(item for item in self._waiting if not _is_pending(item))
        return tuple(event for event in self._hub._pending() if self._wants(event.client_order_id))

    def _wants(self, client_order_id: str) -> bool:
        return self._client_order_id in ("", client_order_id)


def _is_event_up_to(item: OrderStreamItem, sequence: int) -> bool:
    return isinstance(item, OrderEvent) and item.sequence <= sequence and not item.audit_pending


def _is_pending(item: OrderStreamItem) -> bool:
    return isinstance(item, OrderEvent) and item.audit_pending


def _as_event(status: OrderStatus) -> OrderEvent:
    return OrderEvent(
        sequence=status.last_sequence,
        occurred_time=status.update_time,
        client_order_id=status.client_order_id,
        order_id=status.order_id,
        perm_id=status.perm_id,
        account_id=status.account_id,
        happening=StatusChanged(status),
    )
