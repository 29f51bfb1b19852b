"""Opening a stream while the session with IBKR is not there yet: it waits with its reader, who knows why.

What a stream is of can only be taken while the session serves data, since a contract may have to be asked for first.
One that is opened earlier begins with a gap; what it is of is taken as soon as the session comes, and the first value
ends the gap. What waiting cannot mend fails the stream, now or then.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Awaitable, Callable
from datetime import UTC, datetime
from typing import Protocol, TypeVar

from ibkr_gateway_server.domain.errors import DomainError, SessionAway
from ibkr_gateway_server.domain.streams import Gap

log = logging.getLogger(__name__)

# Until it is tried again where the session said that it serves data, and then did not.
PAUSE_S = 1.0

T = TypeVar("T")
UntilServed = Callable[[], Awaitable[None]]


def early_gap(away: SessionAway) -> Gap:
    """The gap that a stream begins with when the session is away."""
    return Gap(str(away.reason), datetime.now(UTC))


async def once_served(take: Callable[[], Awaitable[T]], until_served: UntilServed) -> T:
    """What `take` gives, as soon as the session serves data. Raises what waiting cannot mend."""
    while True:
        await until_served()
        try:
            return await take()
        except SessionAway:
            await asyncio.sleep(PAUSE_S)


class Opener(Protocol):
    """A reader of one thing."""

    async def take(self) -> None:
        """Take it and listen to it, where that is not done yet. Raises what taking it raises."""
        ...

    def begin_in_gap(self, gap: Gap) -> None:
        """It cannot be taken yet: what is told begins with this gap, unless its reader is in one already."""
        ...

    def failed(self, error: DomainError) -> None:
        """It cannot be taken at all."""
        ...


class Opening:
    """The beginning of one reader, from `begin` until it has been taken, or until `end`."""

    def __init__(self, opener: Opener, until_served: UntilServed) -> None:
        self._opener = opener
        self._until_served = until_served
        self._waiting: asyncio.Task[None] | None = None

    async def begin(self) -> None:
        """Take it now, or go on trying in the background. Raises what waiting cannot mend."""
        try:
            await self._opener.take()
        except SessionAway as away:
            self._opener.begin_in_gap(early_gap(away))
            self._waiting = asyncio.create_task(self._wait())

    async def end(self) -> None:
        """Its reader leaves: nothing more is tried, and nothing of it is left when this returns."""
        waiting, self._waiting = self._waiting, None
        if waiting is not None:
            waiting.cancel()
            await asyncio.wait((waiting,))

    async def _wait(self) -> None:
        try:
            await once_served(self._opener.take, self._until_served)
        except DomainError as error:
            self._opener.failed(error)
        except Exception:
            # Nobody awaits this task: its reader must hear of a fault as it would have heard before.
            log.exception("a stream that waited for the session could not be opened")
            self._opener.failed(DomainError())
