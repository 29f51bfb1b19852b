"""What goes wrong within a program: its end, its disk, its clock, its own write, too much at once."""

from __future__ import annotations

import asyncio
import random
from typing import Any

from ibkr_gateway_server.broker.pacing import Priority
from ibkr_gateway_server.domain.errors import Exhausted
from ibkr_gateway_server.simulator import Fault, Rule

from tests.reliability.world import World

# The moments at which a program dies: between any two of them nothing of an order's way is durable or leaves.
MOMENTS = ("before_commit", "after_commit", "before_write", "after_write")
# Commits are many, and writes of orders few: many a plan to die at one of those comes to nothing.
MOMENT_WEIGHTS = (2, 3, 5, 6)


def write_fails(world: World, chance: random.Random) -> None:
    """The socket refuses the next order, or says so though it has taken it."""
    if (life := world.current) is not None:
        life.write_fails = chance.random() < 0.6


def lost_on_the_way(world: World, chance: random.Random) -> None:
    """The connection or the link is lost while something is being written to the record, and an order waits for it."""
    life = world.current
    if life is None:
        return
    rule = chance.choice((Rule(Fault.DISCONNECT), Rule(Fault.LINK_LOST, duration_s=5.0)))

    def lose() -> None:
        life.next_commit_s = chance.choice((0.1, 2.0))
        world.struck["O45 lost between record and write"] += 1
        world.loop.call_soon(world.inject, rule)

    def lose_with_a_command() -> None:
        if world.placing_count:
            lose()
        else:
            life.plan("commit_begins", 0, lose_with_a_command)

    life.plan("commit_begins", chance.randrange(3), lose_with_a_command)


def saturated(world: World, chance: random.Random) -> None:
    """Everybody asks for everything at once."""
    life = world.current
    if life is None:
        return
    pacer = life.pacer

    async def take(priority: Priority) -> None:
        try:
            await pacer.take(priority, 20.0)
        except Exhausted:
            return

    async def crowd() -> None:
        for _ in range(chance.choice((60, 200))):
            asyncio.get_running_loop().create_task(take(chance.choice((Priority.MARKET_DATA, Priority.ORDER))))

    world.struck["O43 messages saturated"] += 1
    world.loop.create_task(life.call(lambda _desk: crowd()))


def clock_jumps(world: World, chance: random.Random) -> None:
    """The program's clock is set, by a little or by an hour."""
    world.clock_offset_s += chance.choice((-3600.0, -30.0, 30.0, 3600.0))
    world.struck["D12 clock jumps"] += 1


def disk_full(world: World, chance: random.Random) -> None:
    """No page can be added to the record for a while."""
    life = world.current
    if life is None:
        return
    count = life.store.at_once(lambda tx: tx._connection.exec_driver_sql("PRAGMA page_count").scalar_one())
    _limit_pages(life, count)
    world.loop.call_later(chance.choice((1.0, 10.0, 40.0)), _limit_pages, life, 1_073_741_823)
    world.struck["D01 disk full"] += 1


def _limit_pages(life: Any, count: int) -> None:
    if not life.is_dead:
        life.store.at_once(lambda tx: tx._connection.exec_driver_sql(f"PRAGMA max_page_count = {count}"))


def record_locked(world: World, chance: random.Random) -> None:
    """Another program holds the record for longer than is waited for."""
    life = world.current
    if life is None:
        return

    world.hold_record(life)
    world.loop.call_later(chance.choice((0.5, 5.0, 30.0)), world.let_record_go)
    world.struck["D04 record locked"] += 1


def killed(world: World, chance: random.Random) -> None:
    """At a moment of an order's way, or at any time."""
    life = world.current
    moment, count, loses = chance.choices(MOMENTS, MOMENT_WEIGHTS)[0], chance.randrange(4), chance.random() < 0.5
    if life is None:
        world.next_killing = (moment, count * 2, loses)
    elif chance.random() < 0.15:
        life.loses_what_it_wrote = loses
        life.kill()
    else:
        life.loses_what_it_wrote = loses
        life.die_at(moment, count)
