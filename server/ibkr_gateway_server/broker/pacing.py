"""Pacing: every message to TWS takes a token here first.

TWS allows 50 messages a second and disconnects whoever sends more, so 45 are used. Cancels and orders have room that
nothing else can take: a burst of market-data requests delays neither. Source: TWS API, message limits (code 100).
"""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import Callable
from enum import IntEnum

from ibkr_gateway_server.domain.errors import OrderRate, RateLimited
from ibkr_gateway_server.domain.usage import Usage

MESSAGES_PER_SECOND = 45
RESERVED_FOR_ORDERS = 10
RESERVED_FOR_CANCELS = 10


class Priority(IntEnum):
    """Who goes first when there is not room for all."""

    CANCEL = 0
    ORDER = 1
    HEARTBEAT = 2
    ACCOUNT = 3
    MARKET_DATA = 4
    HISTORY = 5


# Tokens of a full second that each priority must leave for those before it.
_LEAVES = {Priority.CANCEL: 0, Priority.ORDER: RESERVED_FOR_CANCELS}
_LEAVES_OTHERS = RESERVED_FOR_CANCELS + RESERVED_FOR_ORDERS


class Pacer:
    """A sliding second of messages.

    `clock` is monotonic, in seconds; `observe_order_wait` is told how long each message for an order waited for room.
    """

    def __init__(
        self, clock: Callable[[], float], *, observe_order_wait: Callable[[float], object] = lambda _: None
    ) -> None:
        self._clock = clock
        self._observe_order_wait = observe_order_wait
        self._sent: deque[float] = deque()
        self._waiting: list[int] = [0] * len(Priority)
        self._held_until = 0.0

    async def take(self, priority: Priority, timeout_s: float, *, count: int = 1) -> None:
        """Wait for room for `count` messages. Raises OrderRate or RateLimited when there will be none in time."""
        began = self._clock()
        deadline = began + timeout_s
        self._waiting[priority] += 1
        try:
            while (wait_s := self._wait_s(priority, count)) > 0:
                if self._clock() + wait_s > deadline:
                    refused = OrderRate if priority <= Priority.ORDER else RateLimited
                    raise refused(retry_after_s=round(wait_s, 3))
                await asyncio.sleep(wait_s)
            self._sent.extend([self._clock()] * count)
            if priority is Priority.ORDER:
                self._observe_order_wait(self._clock() - began)
        finally:
            self._waiting[priority] -= 1

    def hold(self, seconds: float) -> None:
        """Let nothing through for so long, whatever its priority."""
        self._held_until = max(self._held_until, self._clock() + seconds)

    @property
    def used_count(self) -> int:
        """Messages of the last second."""
        self._forget(self._clock())
        return len(self._sent)

    def usage(self) -> Usage:
        """Messages of the last second, and how many there may be."""
        return Usage("messages", self.used_count, MESSAGES_PER_SECOND, window_s=1.0)

    def _wait_s(self, priority: Priority, count: int) -> float:
        """Seconds until this priority may send so many; 0: now."""
        now = self._clock()
        if now < self._held_until:
            return self._held_until - now + 0.001
        self._forget(now)
        allowed = MESSAGES_PER_SECOND - _LEAVES.get(priority, _LEAVES_OTHERS) - sum(self._waiting[:priority])
        excess = len(self._sent) - max(allowed, count) + count
        if excess <= 0:
            return 0.0
        # Room comes when the oldest of those in excess leaves the second; a little later, since clocks are coarse.
        return self._sent[min(excess, len(self._sent)) - 1] + 1.0 - now + 0.001

    def _forget(self, now: float) -> None:
        while self._sent and self._sent[0] <= now - 1.0:
            self._sent.popleft()
