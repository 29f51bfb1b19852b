"""Waiting for IBKR's word: as long as a caller likes, and never longer than its silence means something."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Coroutine, Iterable
from contextlib import suppress
from datetime import datetime
from typing import Any, TypeVar

from ibkr_gateway_server.domain.orders import OrderState, OrderStatus
from ibkr_gateway_server.trading.conclusions import signed
from ibkr_gateway_server.trading.entries import Entry
from ibkr_gateway_server.trading.recorder import Recorder
from ibkr_gateway_server.trading.transitions import Sign

T = TypeVar("T")

# The last state of an order is durable this soon after IBKR's word, or its absence, at the latest.
RECORDING_GRACE_S = 1.0

AWAITING_WORD = frozenset({OrderState.PENDING, OrderState.SENT})


class Waiting:
    """Runs commands to their end and waits for what they lead to. `in_doubt` has evidence gathered."""

    def __init__(
        self, recorder: Recorder, now: Callable[[], datetime], ack_timeout_s: float, in_doubt: Callable[[], None]
    ) -> None:
        self._recorder = recorder
        self._now = now
        self._ack_timeout_s = ack_timeout_s
        self._in_doubt = in_doubt
        self._commands: set[asyncio.Task[Any]] = set()

    async def command(self, command: Coroutine[Any, Any, T]) -> T:
        """Run a command that a caller's going away must not interrupt halfway."""
        task = asyncio.create_task(command)
        self._commands.add(task)
        task.add_done_callback(self._commands.discard)
        # Its error is nobody's once its caller has gone.
        task.add_done_callback(lambda done: done.cancelled() or done.exception())
        return await asyncio.shield(task)

    def expect_word(self, entry: Entry) -> None:
        """Without IBKR's word in time the order's fate is unknown, whether or not a caller still waits."""
        asyncio.get_running_loop().call_later(self._ack_timeout_s, self._overdue, entry)

    def _overdue(self, entry: Entry) -> None:
        if entry.status.state is OrderState.SENT:
            self._recorder.put(signed(entry, Sign.SILENCE, self._now()))
        if entry.status.state in (OrderState.UNKNOWN, OrderState.CANCEL_PENDING) or entry.change is not None:
            self._in_doubt()

    async def told(
        self, entries: Iterable[Entry], enough: Callable[[Entry, OrderStatus], bool], wait_s: float | None
    ) -> None:
        """Wait for orders whose statuses, as they are shown, are enough, but not longer than IBKR's word may take."""
        entries = list(entries)
        longest_s = self._ack_timeout_s + RECORDING_GRACE_S
        with suppress(TimeoutError):
            async with asyncio.timeout(longest_s if wait_s is None else min(wait_s, longest_s)):
                # What has been heard by now is told, not what was known before it.
                await self._recorder.settle()
                while not all(self._is_enough(entry, enough) for entry in entries):
                    await self._recorder.next_commit()

    def _is_enough(self, entry: Entry, enough: Callable[[Entry, OrderStatus], bool]) -> bool:
        shown = self._recorder.shown(entry)
        return shown is not None and enough(entry, shown)

    async def end(self) -> None:
        """Let commands under way come to their answer, and what they led to become durable."""
        if self._commands:
            await asyncio.wait(set(self._commands), timeout=self._ack_timeout_s)
        with suppress(TimeoutError):
            async with asyncio.timeout(self._ack_timeout_s):
                await self._recorder.settle()
