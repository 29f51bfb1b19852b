"""Many subscriptions on one connection: quotes, books, ticks and bars, begun and ended by commands.

Each subscription is a stream of its own kind, whose rule stands: quotes and books give way to newer ones, ticks and
bars wait up to their limit. Each hands over one batch at a time and takes no more from its feed until the connection's
reader has had that, so that nothing gathers here. Commands are read at the same pace as their answers are taken.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterable, AsyncIterator, Callable, Iterable, Sequence
from contextlib import AbstractAsyncContextManager, suppress
from dataclasses import dataclass
from enum import StrEnum
from types import TracebackType
from typing import Any, Protocol, Self

from ibkr_gateway_server.domain.bars import BarSize, LiveBarsRequest
from ibkr_gateway_server.domain.depth import DepthRequest
from ibkr_gateway_server.domain.errors import (
    DomainError,
    FieldsInvalid,
    FieldViolation,
    SessionAway,
    TooManySubscriptions,
)
from ibkr_gateway_server.domain.instruments import Instrument
from ibkr_gateway_server.domain.sessions import SessionStatus
from ibkr_gateway_server.domain.streams import (
    Draining,
    Gap,
    Heartbeat,
    QuoteEvent,
    SnapshotBegin,
    SnapshotEnd,
    TickEvent,
)
from ibkr_gateway_server.domain.ticks import TickType
from ibkr_gateway_server.streams.bars import BarHub
from ibkr_gateway_server.streams.depth import BookShown, DepthHub
from ibkr_gateway_server.streams.hub import Hub
from ibkr_gateway_server.streams.opening import early_gap, once_served
from ibkr_gateway_server.streams.quotes import QuoteHub
from ibkr_gateway_server.streams.ticks import TickHub

MAX_SUBSCRIPTIONS = 100
# The connection has heartbeats of its own; those of its subscriptions are left out, and few.
_NEVER_S = 86_400.0
# What a single stream says of itself and a connection does not repeat for each of its subscriptions.
_LEFT_OUT = (Heartbeat, Draining, SnapshotBegin, SnapshotEnd)


class Channel(StrEnum):
    """Kinds of live data."""

    QUOTES = "QUOTES"
    DEPTH = "DEPTH"
    TICKS = "TICKS"
    REAL_TIME_BARS = "REAL_TIME_BARS"


@dataclass(frozen=True, slots=True)
class Subscribe:
    """Begin a subscription. Rows are for books alone, the tick type for ticks alone."""

    instrument: Instrument
    channel: Channel
    row_count: int = 5
    tick_type: TickType = TickType.LAST


@dataclass(frozen=True, slots=True)
class Unsubscribe:
    """End the subscription that was begun under this id."""

    request_id: str


@dataclass(frozen=True, slots=True)
class ListOpen:
    """Which subscriptions are open?"""


@dataclass(frozen=True, slots=True)
class Beat:
    """Heartbeats so often from now on."""

    interval_s: float


@dataclass(frozen=True, slots=True)
class Command:
    """One command under the caller's id; an error where it could not be read."""

    request_id: str
    action: Subscribe | Unsubscribe | ListOpen | Beat | DomainError


@dataclass(frozen=True, slots=True)
class Accepted:
    """The command was accepted; of a subscription: the contract that it is of."""

    instrument: Instrument | None = None


@dataclass(frozen=True, slots=True)
class Open:
    """Ids of the open subscriptions, the oldest first."""

    request_ids: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class Item:
    """One event of a connection. No id: of the connection as a whole."""

    request_id: str
    happening: Any
    conflated_count: int = 0


class Resolver(Protocol):
    """Who knows contracts."""

    async def resolve(self, instrument: Instrument) -> Instrument: ...
    async def until_served(self) -> None: ...


@dataclass(frozen=True, slots=True)
class Hubs:
    """Who opens the streams of each kind."""

    quotes: QuoteHub
    ticks: TickHub
    bars: BarHub
    books: DepthHub


class MarketDataHub(Hub["MarketDataConnection"]):
    """Opens connections, and ends them all when the server drains."""

    def __init__(self, hubs: Hubs, contracts: Resolver, session_status: Callable[[], SessionStatus]) -> None:
        super().__init__(session_status)
        self.hubs = hubs
        self.contracts = contracts

    def connect(self, commands: AsyncIterable[Command], *, heartbeat_s: float = 15.0) -> MarketDataConnection:
        """A connection: enter it to have its commands obeyed, iterate it for batches. Raises ShuttingDown."""
        self._refuse_when_draining()
        return MarketDataConnection(self, commands, heartbeat_s)


class MarketDataConnection:
    """One client's subscriptions. An async context manager and an async iterator of non-empty batches.

    When there are no more commands the subscriptions go on; iterating ends with the last of them.
    """

    def __init__(self, hub: MarketDataHub, commands: AsyncIterable[Command], heartbeat_s: float) -> None:
        self._hub = hub
        self._commands = commands
        self._heartbeat_s = heartbeat_s
        self._handed: asyncio.Queue[Sequence[Item]] = asyncio.Queue(maxsize=1)
        self._open: dict[str, asyncio.Task[None]] = {}
        self._reader: asyncio.Task[None] | None = None
        self._draining: Draining | None = None
        self._fault: BaseException | None = None

    async def __aenter__(self) -> Self:
        self._hub.enter(self)
        self._reader = self._start(self._obey_all())
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._hub.leave(self)
        tasks = [*self._open.values(), *([self._reader] if self._reader is not None else [])]
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)

    async def __aiter__(self) -> AsyncIterator[Sequence[Item]]:
        loop = asyncio.get_running_loop()
        beaten_at = loop.time()
        while self._draining is None:
            handed: Sequence[Item] = ()
            with suppress(TimeoutError):
                async with asyncio.timeout_at(beaten_at + self._heartbeat_s):
                    handed = await self._handed.get()
            if self._fault is not None:
                raise self._fault
            items = list(handed)
            if loop.time() >= beaten_at + self._heartbeat_s:
                beaten_at = loop.time()
                items.append(Item("", self._hub.heartbeat()))
            if items:
                yield items
            if self._is_over and self._handed.empty():
                return
        yield (Item("", self._draining),)

    def end(self, draining: Draining) -> None:
        """Tell the client that the server stops; its iteration ends after that."""
        self._draining = draining
        self._poke()

    # --- commands ------------------------------------------------------------------------------------------------

    async def _obey_all(self) -> None:
        async for command in self._commands:
            answer: Accepted | Open | DomainError | None
            try:
                answer = await self._obey(command)
            except DomainError as error:
                answer = error
            if answer is not None:
                await self._handed.put((Item(command.request_id, answer),))

    async def _obey(self, command: Command) -> Accepted | Open | None:
        """Do it; returns the answer, unless that comes later. Raises what it is refused with."""
        request_id, action = command.request_id, command.action
        if isinstance(action, DomainError):
            raise action
        if request_id in self._open:
            raise _wrong("request_id", f"{request_id} is a subscription that is open; choose another")
        if isinstance(action, Subscribe):
            if len(self._open) >= MAX_SUBSCRIPTIONS:
                raise TooManySubscriptions(MAX_SUBSCRIPTIONS)
            self._open[request_id] = self._start(self._follow(request_id, action))
            return None
        if isinstance(action, ListOpen):
            return Open(tuple(self._open))
        if isinstance(action, Beat):
            self._heartbeat_s = action.interval_s
            return Accepted()
        task = self._open.get(action.request_id)
        if task is None:
            raise _wrong("unsubscribe_request_id", f"{action.request_id} is no subscription that is open")
        task.cancel()
        await asyncio.wait((task,))
        # One that was ended before it began could not do this itself.
        self._open.pop(action.request_id, None)
        return Accepted()

    # --- subscriptions -------------------------------------------------------------------------------------------

    async def _follow(self, request_id: str, wanted: Subscribe) -> None:
        """One subscription, from its beginning to its end; its error is its last item, and nobody else's."""
        try:
            resolved, early = await self._resolved(request_id, wanted.instrument)
            async with self._stream(resolved, wanted, early) as batches:
                await self._handed.put((Item(request_id, Accepted(resolved)),))
                async for batch in batches:
                    items, error = _items(request_id, batch)
                    if items:
                        await self._handed.put(items)
                    if error is not None:
                        raise error
        except DomainError as error:
            await self._handed.put((Item(request_id, error),))
        finally:
            self._open.pop(request_id, None)

    async def _resolved(self, request_id: str, named: Instrument) -> tuple[Instrument, Gap | None]:
        """The contract, with the gap that the subscription begins with where that could not be asked for at once."""
        contracts = self._hub.contracts
        try:
            return await contracts.resolve(named), None
        except SessionAway as away:
            gap = early_gap(away)
            await self._handed.put((Item(request_id, gap),))
            return await once_served(lambda: contracts.resolve(named), contracts.until_served), gap

    def _stream(self, resolved: Instrument, wanted: Subscribe, early: Gap | None) -> AbstractAsyncContextManager[Any]:
        hubs = self._hub.hubs
        if wanted.channel is Channel.QUOTES:
            return hubs.quotes.subscribe((resolved,), heartbeat_s=_NEVER_S, early=early)
        if wanted.channel is Channel.DEPTH:
            return hubs.books.subscribe(DepthRequest(resolved, wanted.row_count), heartbeat_s=_NEVER_S, early=early)
        if wanted.channel is Channel.TICKS:
            return hubs.ticks.subscribe(resolved, wanted.tick_type, heartbeat_s=_NEVER_S, early=early)
        bars = LiveBarsRequest(resolved, BarSize.SECS_5, is_real_time=True)
        return hubs.bars.subscribe(bars, heartbeat_s=_NEVER_S, early=early)

    # --- tasks ---------------------------------------------------------------------------------------------------

    @property
    def _is_over(self) -> bool:
        """No command will come, and nothing is open."""
        return self._reader is not None and self._reader.done() and not self._open

    def _start(self, work: Any) -> asyncio.Task[None]:
        task: asyncio.Task[None] = asyncio.ensure_future(work)
        task.add_done_callback(self._ended)
        return task

    def _ended(self, task: asyncio.Task[None]) -> None:
        if not task.cancelled() and (fault := task.exception()) is not None:
            self._fault = self._fault or fault
        self._poke()

    def _poke(self) -> None:
        """Have the iteration look at what has changed; one that has a batch to take does so anyway."""
        with suppress(asyncio.QueueFull):
            self._handed.put_nowait(())


def _items(request_id: str, batch: Iterable[Any]) -> tuple[list[Item], DomainError | None]:
    """A stream's batch as items, and the error that ends it."""
    items: list[Item] = []
    for event in batch:
        happening, conflated_count = event, 0
        if isinstance(event, QuoteEvent):
            happening, conflated_count = event.happening, event.conflated_count
        elif isinstance(event, TickEvent):
            happening = event.happening
        elif isinstance(event, BookShown):
            happening, conflated_count = event.book, event.conflated_count
        if isinstance(happening, DomainError):
            return items, happening
        if not isinstance(happening, _LEFT_OUT):
            items.append(Item(request_id, happening, conflated_count))
    return items, None


def _wrong(field: str, description: str) -> DomainError:
    return FieldsInvalid((FieldViolation(field, description),))
