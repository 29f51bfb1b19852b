"""Pacing: 45 messages a second, with room that only orders and cancels can take."""

from __future__ import annotations

import asyncio

import pytest
from ibkr_gateway_server.broker.pacing import MESSAGES_PER_SECOND, Pacer, Priority
from ibkr_gateway_server.domain.errors import OrderRate, RateLimited


class Clock:
    now = 100.0

    def __call__(self) -> float:
        return self.now


async def fill(pacer: Pacer, priority: Priority) -> int:
    """Take until refused; how many were given."""
    count = 0
    while True:
        try:
            await pacer.take(priority, 0.0)
        except (RateLimited, OrderRate):
            return count
        count += 1


async def test_no_second_holds_more_than_the_limit() -> None:
    assert await fill(Pacer(Clock()), Priority.CANCEL) == MESSAGES_PER_SECOND


async def test_market_data_leaves_room_for_orders_and_orders_leave_room_for_cancels() -> None:
    pacer = Pacer(Clock())
    assert await fill(pacer, Priority.MARKET_DATA) == 25
    assert await fill(pacer, Priority.ORDER) == 10
    assert await fill(pacer, Priority.CANCEL) == 10


async def test_a_refusal_says_how_long_to_wait_and_room_is_there_then() -> None:
    clock = Clock()
    pacer = Pacer(clock)
    await fill(pacer, Priority.HISTORY)
    with pytest.raises(RateLimited) as refused:
        await pacer.take(Priority.HISTORY, 0.5)
    assert 0.5 < refused.value.retry_after_s <= 1.01
    clock.now += refused.value.retry_after_s
    await pacer.take(Priority.HISTORY, 0.0)


async def test_orders_are_refused_as_orders() -> None:
    pacer = Pacer(Clock())
    await fill(pacer, Priority.ORDER)
    with pytest.raises(OrderRate):
        await pacer.take(Priority.ORDER, 0.25)


async def test_how_long_orders_wait_for_room_is_told_and_nothing_else_is() -> None:
    waits: list[float] = []
    clock = asyncio.get_running_loop().time
    pacer = Pacer(clock, observe_order_wait=waits.append)
    await fill(pacer, Priority.MARKET_DATA)
    await pacer.take(Priority.ORDER, 0.0)
    pacer.hold(0.05)
    await pacer.take(Priority.ORDER, 5.0)
    await pacer.take(Priority.CANCEL, 5.0)
    assert len(waits) == 2
    assert waits[1] >= 0.05
