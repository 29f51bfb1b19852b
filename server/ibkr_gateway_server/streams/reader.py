"""One subscriber of one feed: what all kinds share but quotes and orders.

Whatever has gathered is taken at once when the reader is ready for more; how much may gather, and what of it a newer
value replaces, is the kind's own rule.
"""

from __future__ import annotations

import asyncio
from abc import ABC, abstractmethod
from collections.abc import AsyncIterator
from types import TracebackType
from typing import Generic, Self, TypeVar

from ibkr_gateway_server.domain.errors import DomainError
from ibkr_gateway_server.domain.streams import Draining, Gap, Heartbeat, Resumed
from ibkr_gateway_server.streams.hub import Hub
from ibkr_gateway_server.streams.opening import Opening, UntilServed

H = TypeVar("H")


class Reader(ABC, Generic[H]):
    """An async context manager and an async iterator of non-empty batches, oldest first.

    When its feed fails, the last of them is the error, which iterating then raises.
    """

    def __init__(
        self, hub: Hub[Reader[H]], heartbeat_s: float, until_served: UntilServed, early: Gap | None = None
    ) -> None:
        self._hub = hub
        self._opening = Opening(self, until_served)
        # The gap that it began with, until its feed flows.
        self._early = early
        self._heartbeat_s = heartbeat_s
        self._wake = asyncio.Event()
        self._failure: DomainError | None = None
        self._draining: Draining | None = None

    async def __aenter__(self) -> Self:
        self._hub.enter(self)
        try:
            await self._opening.begin()
        except BaseException:
            await self.__aexit__(None, None, None)
            raise
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._hub.leave(self)
        await self._opening.end()
        self._close()

    async def __aiter__(self) -> AsyncIterator[tuple[H | Heartbeat | Draining | DomainError, ...]]:
        loop = asyncio.get_running_loop()
        heartbeat_at = loop.time() + self._heartbeat_s
        while True:
            try:
                async with asyncio.timeout_at(heartbeat_at):
                    await self._wake.wait()
            except TimeoutError:
                pass
            self._wake.clear()
            events: list[H | Heartbeat | Draining | DomainError] = [*self._take()]
            failure, draining = self._failure, self._draining
            if failure is not None:
                events.append(failure)
            elif draining is not None:
                events.append(draining)
            elif loop.time() >= heartbeat_at:
                # A busy stream needs its heartbeats as well: they carry the session's state.
                heartbeat_at = loop.time() + self._heartbeat_s
                events.append(self._hub.heartbeat())
            if events:
                yield tuple(events)
            if failure is not None:
                raise failure
            if draining is not None:
                return

    def begin_in_gap(self, gap: Gap) -> None:
        if self._early is None:
            self._early = gap
            self._say(gap)

    def gap(self, gap: Gap) -> None:
        """Values may be missing from here on."""
        if self._early is None:
            self._say(gap)

    def resumed(self, resumed: Resumed) -> None:
        """The gap has ended; to the reader it began when the reader was told of it."""
        early, self._early = self._early, None
        self._say(resumed if early is None else Resumed(resumed.recovered, early.start_time))

    def flows(self) -> None:
        """The feed has values and is in no gap of its own: nor is its reader any more."""
        if self._early is not None:
            self.resumed(Resumed(recovered=False, gap_start_time=self._early.start_time))

    def failed(self, error: DomainError) -> None:
        """Nothing comes after this."""
        self._failure = self._failure or error
        self._wake.set()

    def end(self, draining: Draining) -> None:
        """Tell the subscriber that the server stops; its iteration ends after that."""
        self._draining = draining
        self._wake.set()

    # --- what differs by kind ------------------------------------------------------------------------------------

    @abstractmethod
    async def take(self) -> None:
        """Take the feed and listen to it, where that is not done yet. Raises what taking it raises."""

    @abstractmethod
    def _say(self, said: Gap | Resumed) -> None:
        """Have this told, in order."""

    @abstractmethod
    def _close(self) -> None:
        """Give the feed back, if it was taken."""

    @abstractmethod
    def _take(self) -> list[H]:
        """What has gathered, which is then forgotten here."""
