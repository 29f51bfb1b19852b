"""One seed: callers, mishaps, then quiet; and what is found."""

from __future__ import annotations

import asyncio
import logging
import random
import tempfile
import time
from collections import Counter
from collections.abc import Sequence
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path

from ibkr_gateway_server.domain.errors import BrokerTimeout, OrderNotFound
from ibkr_gateway_server.domain.orders import OrderKey
from ibkr_gateway_server.trading.guard import TradingRules

from tests.reliability.callers import Caller, Follower, Tally
from tests.reliability.intents import Intent, all_kinds_of
from tests.reliability.invariants import WHOLE, Finding, broken, sent_twice, streamed, unsettled
from tests.reliability.life import Life
from tests.reliability.mishaps import strike
from tests.reliability.plans import planned
from tests.reliability.tap import TappedLoop
from tests.reliability.watch import Watch
from tests.reliability.world import BugHandler, World

# Virtual seconds. An order may be late by 90 s, and evidence of its absence must be older than that.
LOOK_S = 10.0
QUIET_S = 2000.0
# A run that does nothing but wait would never end.
LONGEST_S = 20_000.0

_FAST_FILES = Path("/dev/shm")


@dataclass(slots=True)
class Outcome:
    """What one seed was."""

    seed: int
    digest: str = ""
    findings: list[Finding] = field(default_factory=list)
    intents: int = 0
    orders: int = 0
    fills: int = 0
    lives: int = 0
    calls: Counter[str] = field(default_factory=Counter)
    states: Counter[str] = field(default_factory=Counter)
    changes: Counter[str] = field(default_factory=Counter)
    """Those that were recorded, by how they ended."""
    struck: Counter[str] = field(default_factory=Counter)
    settled_s: float = 0.0
    seconds: float = 0.0
    """Of processor time."""
    trace: list[str] = field(default_factory=list)


def run(seed: int) -> Outcome:
    """Explore one seed, from nothing to its findings."""
    began = time.process_time()
    bugs = BugHandler()
    logger = logging.getLogger("ibkr_gateway_server")
    logger.addHandler(bugs)
    logger.propagate = False
    # What it says of lost connections is expected, and said of every one.
    logging.getLogger("ib_async").setLevel(logging.CRITICAL + 1)
    try:
        with tempfile.TemporaryDirectory(dir=_FAST_FILES if _FAST_FILES.is_dir() else None) as folder:
            outcome = _explored(seed, Path(folder))
    finally:
        logger.removeHandler(bugs)
        logger.propagate = True
    outcome.findings += [(WHOLE, text) for text in bugs.found]
    outcome.seconds = time.process_time() - began
    return outcome


def _explored(seed: int, folder: Path) -> Outcome:
    with asyncio.Runner(loop_factory=TappedLoop) as runner:
        loop = runner.get_loop()
        assert isinstance(loop, TappedLoop)
        return runner.run(_explore(seed, folder, loop))


async def _explore(seed: int, folder: Path, loop: TappedLoop) -> Outcome:
    world = World(seed, folder, loop, TradingRules(orders_enabled=True))
    loop.set_exception_handler(world.heard_of)
    chance = random.Random(seed)
    outcome = Outcome(seed)
    try:
        async with asyncio.timeout(LONGEST_S), world.turning():
            await _lived(world, chance, outcome)
    except Exception as error:
        outcome.findings.append((WHOLE, f"the run ended by {error!r}"))
    outcome.findings += [(WHOLE, text) for text in world.bugs]
    outcome.digest = world.digest
    outcome.struck, outcome.lives = world.struck, world.life_count
    outcome.trace = [f"{at:10.4f}  {text}" for at, text in world.trace]
    return outcome


async def _lived(world: World, chance: random.Random, outcome: Outcome) -> None:
    name = f"intent-{world.seed:08d}"
    intents = all_kinds_of(name, world.price, chance, chance.choice((6, 7, 8, 10)))
    tally, follower, watch = Tally(), Follower(world, random.Random(world.seed + 77)), Watch(world, intents)
    world.on_events = watch.look
    following = asyncio.create_task(follower.run())
    count = chance.choice((2, 3, 4))
    shares = [intents[number::count] for number in range(count)]
    callers = [
        Caller(world, tally, share, random.Random(world.seed * 7 + number)) for number, share in enumerate(shares)
    ]
    if chance.random() < 0.9:
        with suppress(BrokerTimeout):
            await (await world.life()).session.wait_until_ready(20.0)
    striking = asyncio.create_task(_strike(world, random.Random(world.seed * 13), chance.choice((0, 5, 9, 12, 17))))
    await asyncio.gather(*(caller.run() for caller in callers))
    striking.cancel()
    await asyncio.sleep(max(world.well_at - world.loop.time(), 0.0))
    world.heal()
    began = world.loop.time()
    outcome.findings += await _settled(world, intents)
    outcome.settled_s = world.loop.time() - began
    life = await world.life()
    await life.desk.recorder.settle()
    await _until_followed(life, follower)
    records = life.store.at_once(lambda tx: tx.events_after(0, 1_000_000))
    changes = life.store.at_once(lambda tx: tx.all_modifications())
    check = await life.store.verify()
    outcome.findings += broken(world.simulator.gateway, life.word, intents, records, check)
    outcome.findings += [*sent_twice(world), *follower.wrong, *streamed(follower.told, life.word, intents, records)]
    outcome.findings += planned(world, life.word, intents, changes)
    outcome.findings += watch.overlooked() + tally.wrong + world.found
    following.cancel()
    outcome.intents = len(intents)
    outcome.orders = len({frame.order_ref for frame in world.frames})
    outcome.fills = len(world.simulator.gateway.executions)
    outcome.calls, outcome.states = tally.calls, _final_states(life, intents)
    outcome.changes = Counter(change.state.value for change in changes)


async def _strike(world: World, chance: random.Random, count: int) -> None:
    for _ in range(count):
        strike(world, chance)
        await asyncio.sleep(chance.choice((0.0, 0.01, 0.3, 1.0, 3.0, 8.0)))


async def _settled(world: World, intents: Sequence[Intent]) -> list[Finding]:
    """Let time pass until the gateway's word is the truth; what it is not by then, it never will be."""
    loop = world.loop
    deadline = max(loop.time(), world.late_until) + QUIET_S
    quiet = 0
    while True:
        await asyncio.sleep(LOOK_S)
        life = await world.life()
        found = unsettled(world.simulator.gateway, life.word, intents)
        quiet = 0 if found or loop.time() < world.late_until else quiet + 1
        # Twice in a row: what is on its way at the first look has come at the second.
        if quiet == 2 or (loop.time() > deadline and world.current is not None):
            return found


async def _until_followed(life: Life, follower: Follower) -> None:
    """The follower has had time to read all there is; whether it did is looked at later."""
    for _ in range(20):
        if life.store.at_once(lambda tx: tx.last_sequence()) == follower.cursor:
            return
        await asyncio.sleep(5.0)


def _final_states(life: Life, intents: Sequence[Intent]) -> Counter[str]:
    states: Counter[str] = Counter()
    for intent in intents:
        for role in intent.roles:
            with suppress(OrderNotFound):
                states[life.desk.status(OrderKey(intent.key, leg_role=role)).state.value] += 1
    return states


__all__ = ["Outcome", "run"]
