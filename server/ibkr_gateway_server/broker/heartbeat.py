"""The heartbeat: IBKR is asked for the time again and again, which shows that it answers, how fast, and its clock."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable
from datetime import UTC, datetime, timedelta

from ibkr_gateway_server.broker.connection import Connection
from ibkr_gateway_server.broker.pacing import Pacer, Priority
from ibkr_gateway_server.broker.timings import SessionTimings
from ibkr_gateway_server.domain.errors import BrokerTimeout, Exhausted
from ibkr_gateway_server.domain.tallies import CLOCK_SKEW_SECONDS, HEARTBEAT_MISSES, HEARTBEAT_SECONDS, Tallies

log = logging.getLogger(__name__)

# TWS silently ignores a second time request within a second.
TIME_KEPT_S = 1.0
MISSES = 2
# Of more misses in a row, while data flows, each so many-th is logged.
LOGGED_EACH = 60


class Heartbeat:
    """Of one connection. `beaten` is called after each answer and each miss."""

    def __init__(
        self,
        connection: Connection,
        pacer: Pacer,
        timings: SessionTimings,
        now: Callable[[], datetime],
        tallies: Tallies,
        beaten: Callable[[], None],
    ) -> None:
        self.clock_skew: timedelta | None = None
        """IBKR's clock ahead of ours, to the second; None: it has not answered yet."""
        self._connection = connection
        self._pacer = pacer
        self._timings = timings
        self._now = now
        self._tallies = tallies
        self._beaten = beaten
        self._last: tuple[datetime, datetime] | None = None

    async def watch(self) -> None:
        """Ask until the connection is lost or silent. Raises BrokerDisconnected, BrokerTimeout.

        Silence alone is no proof, nor are missed answers while ticks flow: both together are. After a miss the next
        question follows at once, so that a dead connection is known soon after the silence has lasted long enough.
        """
        connection, misses = self._connection, 0
        while True:
            if not misses:
                await self._rest()
            try:
                await self.time(self._timings.heartbeat_timeout_s)
                misses = 0
            except Exhausted:
                # No room for the question: that says nothing of TWS.
                await self._rest()
            except BrokerTimeout:
                misses += 1
                self._tallies.add(HEARTBEAT_MISSES)
                if misses <= MISSES or misses % LOGGED_EACH == 0:
                    log.warning("heartbeat missed", extra={"misses": misses})
            self._beaten()
            silence_s = asyncio.get_running_loop().time() - connection.callbacks.received_at
            if misses >= MISSES and silence_s >= self._timings.silence_limit_s:
                raise BrokerTimeout("the heartbeat", self._timings.silence_limit_s)

    async def time(self, timeout_s: float) -> tuple[datetime, datetime]:
        """IBKR's clock (whole seconds) and ours when it answered, UTC. Costs one message, at most one a second."""
        if self._last is not None:
            age = self._now() - self._last[1]
            if timedelta(0) <= age < timedelta(seconds=TIME_KEPT_S):
                return self._last[0] + age, self._last[1] + age
        return await self._ask(timeout_s)

    async def _ask(self, timeout_s: float) -> tuple[datetime, datetime]:
        await self._pacer.take(Priority.HEARTBEAT, timeout_s)
        loop, connection = asyncio.get_running_loop(), self._connection
        asked = loop.time()
        rows = await connection.ask_shared("currentTime", connection.client.reqCurrentTime, timeout_s=timeout_s)
        took_s = loop.time() - asked
        self._last = (datetime.fromtimestamp(rows[0], UTC), self._now())
        self._note(self._last, took_s)
        return self._last

    def _note(self, answer: tuple[datetime, datetime], took_s: float) -> None:
        broker_time, gateway_time = answer
        # It was said half of the time ago, and up to a second after the whole second it names.
        ahead_s = (broker_time - gateway_time).total_seconds() + took_s / 2 + 0.5
        self.clock_skew = timedelta(seconds=round(ahead_s))
        self._tallies.set(HEARTBEAT_SECONDS, took_s)
        self._tallies.set(CLOCK_SKEW_SECONDS, ahead_s)

    async def _rest(self) -> None:
        """Until the next question. Raises BrokerDisconnected when the connection is lost meanwhile."""
        try:
            async with asyncio.timeout(self._timings.heartbeat_interval_s):
                await self._connection.closed.wait()
        except TimeoutError:
            return
        raise self._connection.disconnected()
