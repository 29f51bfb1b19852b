"""The world of one seed: a simulated broker, a record on disk, and the gateway programs that live one after another.

Time is virtual and the network is in memory, so the same seed does the same things in the same order in every process.
Between the program and the broker stands a tap: it knows every order frame that a program has written, by which call.
"""

from __future__ import annotations

import asyncio
import hashlib
import itertools
import logging
import random
import shutil
import sqlite3
from collections import Counter
from collections.abc import AsyncIterator, Callable, Iterator, Sequence
from contextlib import asynccontextmanager, contextmanager
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from ibkr_gateway_server.broker.connection import BrokerAddress
from ibkr_gateway_server.broker.farms import LINK_LOST, LINK_RESTORED
from ibkr_gateway_server.domain.errors import DomainError
from ibkr_gateway_server.domain.events import OrderEvent
from ibkr_gateway_server.simulator import Behaviour, Fault, Rule, Simulator
from ibkr_gateway_server.simulator.faults.rules import AT_ONCE, LASTING
from ibkr_gateway_server.simulator.instruments import ContractQuery
from ibkr_gateway_server.simulator.orders import Order, Terms
from ibkr_gateway_server.trading.guard import TradingRules

from tests.reliability.life import ATTEMPT, Life, own_tasks
from tests.reliability.tap import CANCEL, PLACE, TappedLoop

# A Monday at 10:00 in New York: the day whose completed orders and executions IBKR tells is long enough for a run.
BEGIN = datetime(2026, 11, 23, 15, tzinfo=UTC).timestamp()
PORT = 4002
REF_PREFIX = b"g1."
# What is told of a fault of the program itself, not of the broker's: an exception that nobody expected.
EXPECTED_EXCEPTIONS = ("ConnectionError", "ConnectionResetError", "OSError")


@dataclass(frozen=True, slots=True)
class SentOrder:
    """One placeOrder frame that a program has written."""

    time: float
    life: int
    attempt: int
    order_id: int
    order_ref: str
    modify_id: str
    """The change that it is; empty: the order's first."""


@dataclass(frozen=True, slots=True)
class Moment:
    """When something happened: on the loop's clock, and after how much else that did at the broker."""

    time: float
    number: int


class World:
    """What there is besides the programs."""

    def __init__(self, seed: int, folder: Path, loop: TappedLoop, rules: TradingRules) -> None:
        self.seed = seed
        self.chance = random.Random(seed * 1_000_003 + 1)
        self.loop = loop
        loop.world = self
        loop.latency_s = self.chance.choice((0.0002, 0.001, 0.02))
        self._folder = folder
        # The key decides the orderRefs: with one of its own a run would not be repeatable.
        key_path = self._record_path(1).with_suffix(".key")
        key_path.parent.mkdir()
        key_path.write_bytes(hashlib.sha256(f"key {seed}".encode()).digest())
        key_path.chmod(0o600)
        self.locker: sqlite3.Connection | None = None
        """Another program that holds the record."""
        self.simulator = Simulator(
            seed=seed,
            clock=lambda: BEGIN + loop.time(),
            tick_interval_s=4.0,
            behaviour=Behaviour(exchange_s=self.chance.choice((0.02, 0.02, 0.5, 3.0))),
        )
        self._name = ""
        self._named: dict[int, tuple[Rule, str]] = {}
        self._watch_faults()
        self.late_until = 0.0
        """When the last order that is late has been taken, on the loop's clock."""
        self.well_at = 0.0
        """Before then nothing is well again, on the loop's clock."""
        self.interrupted_at: list[tuple[float, bool]] = []
        """When a program lost TWS, or TWS its link or got it back, and whether silence means something from then on:
        what was before and after does not add up."""
        self.clock_offset_s = 0.0
        self.struck: Counter[str] = Counter()
        self.frames: list[SentOrder] = []
        self.attempt_count = 0
        self.placing_count = 0
        """Orders that callers wait for at this moment."""
        self.on_events: Callable[[Life, Sequence[OrderEvent]], None] = lambda _life, _events: None
        self.bugs: list[str] = []
        self.found: list[tuple[str, str]] = []
        self.modify_ids: dict[int, str] = {}
        """Which change a call is about, by attempt."""
        self.taken: dict[int, Moment] = {}
        """When the broker has taken an order, by permId."""
        self.released: dict[int, Moment] = {}
        """When an order has gone to work, by permId: a leg that is kept back only with its plan."""
        self.changed: dict[int, list[tuple[float, Terms]]] = {}
        """The terms that an order has been given since it was taken, by permId, and when."""
        self.on_changed: list[Callable[[], None]] = []
        """What happens when the broker makes the next changes, one with each."""
        self._moments = itertools.count()
        self._watch_orders()
        self.trace: list[tuple[float, str]] = []
        self.life_count = 0
        self.next_killing: tuple[str, int, bool] | None = None
        """Moment, how many of them pass before, and whether what was written is lost: how the next life ends."""
        self._rules = rules
        self._digest = hashlib.sha256()
        self._life: Life | None = None
        self._lived = asyncio.Event()
        self._died = asyncio.Event()
        self.is_ending = False

    # --- time and traces -----------------------------------------------------------------------------------------

    def now(self) -> datetime:
        """The wall clock of the programs, which may jump."""
        return datetime.fromtimestamp(BEGIN + self.loop.time() + self.clock_offset_s, UTC)

    def note(self, text: str) -> None:
        """Something that happened, for the digest and for whoever reads the trace of a failure."""
        self._digest.update(f"{self.loop.time():.6f} {text}\n".encode())
        self.trace.append((self.loop.time(), text))

    @property
    def digest(self) -> str:
        """Of everything that happened so far."""
        return self._digest.hexdigest()

    def saw_written(self, life: Life, fields: list[bytes], data: bytes, *, is_lost: bool) -> None:
        """A program writes a message."""
        self._digest.update(f"{self.loop.time():.6f}".encode() + data)
        if fields[0] == PLACE:
            # The exits of a bracket have their entry's mark as well, before their own: it names their group.
            ref = next((field.decode() for field in reversed(fields) if field.startswith(REF_PREFIX)), "")
            state = life.session.status.state
            attempt = ATTEMPT.get()
            modify_id = self.modify_ids.get(attempt, "")
            self.frames.append(SentOrder(self.loop.time(), life.number, attempt, int(fields[1]), ref, modify_id))
            if not state.is_linked:
                self.found.append(("an order leaves only through a ready session", f"{ref} was written while {state}"))
            self.note(f"life {life.number} writes order {fields[1].decode()} {ref}{' into nowhere' * is_lost}")
        elif fields[0] == CANCEL:
            self.note(f"life {life.number} writes the cancel of {fields[1].decode()}")

    def write_failed(self, *, has_left: bool) -> None:
        """The socket refuses an order, or says so though it has taken it."""
        self.struck["O18 the write fails"] += 1
        self.note(f"the write fails{', and has left' * has_left}")

    def heard_of(self, _loop: asyncio.AbstractEventLoop, context: dict[str, Any]) -> None:
        """An exception that nobody took. Errors that a caller would have been told, had he waited, are none."""
        error = context.get("exception")
        if not isinstance(error, DomainError | ConnectionError):
            self.bugs.append(f"{context['message']}: {error!r}")

    # --- lives ---------------------------------------------------------------------------------------------------

    @asynccontextmanager
    async def turning(self) -> AsyncIterator[None]:
        """The broker listens, and a program lives; another one after each that dies."""
        own_tasks(self.loop)
        async with self.simulator.listen(port=PORT):
            tending = asyncio.create_task(self._tend())
            try:
                yield
            finally:
                self.is_ending = True
                self.let_record_go()
                if self._life is not None:
                    self._life.cause = "the end"
                    self._life.kill()
                await tending

    async def _tend(self) -> None:
        while not self.is_ending:
            life = await self._begin()
            await self._died.wait()
            self._died.clear()
            self._lived.clear()
            await life.buried()
            self.bugs += [f"life {life.number} ended by {error!r}" for error in life.faults_of_program]
            if not self.is_ending:
                await asyncio.sleep(self.chance.choice((0.01, 1.0, 20.0)))

    async def _begin(self) -> Life:
        self.life_count += 1
        address = BrokerAddress("127.0.0.1", PORT)
        jitter = random.Random(self.seed * 31 + self.life_count)
        life = Life(self.life_count, self._record_path(self.life_count), address, self.now, jitter, self._rules)
        life.on_killed = self._killed
        life.on_events = lambda events: self.on_events(life, events)
        if self.next_killing is not None:
            moment, count, life.loses_what_it_wrote = self.next_killing
            life.die_at(moment, count)
            self.next_killing = None
        self._life = life
        await life.start()
        self._interrupted()
        if not life.is_dead:
            life.session.on_lost(lambda _why: self._interrupted())
            life.session.on_notice(lambda code, _text: self._noticed(code))
            self.note(f"life {life.number} serves")
            self._lived.set()
        return life

    def _noticed(self, code: int) -> None:
        if code in LINK_RESTORED or code in LINK_LOST:
            self._interrupted(is_linked=code in LINK_RESTORED)

    def _interrupted(self, *, is_linked: bool = True) -> None:
        self.interrupted_at.append((self.loop.time(), is_linked))

    def _record_path(self, life: int) -> Path:
        return self._folder / f"life-{life}" / "audit.db"

    def hold_record(self, life: Life) -> None:
        """Let another program hold the record for as long as it likes."""
        if self.locker is None:
            self.locker = sqlite3.connect(life.record_path, isolation_level=None)
            self.locker.execute("BEGIN IMMEDIATE")

    def let_record_go(self) -> None:
        """It holds it no more."""
        if self.locker is not None:
            self.locker.close()
            self.locker = None

    def _killed(self, cause: str) -> None:
        # What the disk has at this very moment is what the next life begins with.
        path = self._record_path(self.life_count)
        self.let_record_go()
        shutil.copytree(path.parent, self._record_path(self.life_count + 1).parent)
        self.note(f"life {self.life_count} is killed: {cause}")
        if not self.is_ending:
            self.struck[f"O18 killed {cause}"] += 1
        self._died.set()

    async def life(self) -> Life:
        """The program that serves now, or the next that does."""
        await self._lived.wait()
        assert self._life is not None
        return self._life

    @property
    def current(self) -> Life | None:
        """The program that serves now, if one does."""
        return self._life if self._lived.is_set() and self._life is not None and not self._life.is_dead else None

    # --- the broker's truth --------------------------------------------------------------------------------------

    @contextmanager
    def counting(self, name: str) -> Iterator[None]:
        """What is injected meanwhile is counted under this name when it strikes."""
        self._name = name
        try:
            yield
        finally:
            self._name = ""

    def stay(self, seconds: float) -> None:
        """Things go wrong for at least so long from now on."""
        self.well_at = max(self.well_at, self.loop.time() + seconds)

    def inject(self, rule: Rule) -> None:
        """Let this go wrong at the broker."""
        if self._name:
            self._named[id(rule)] = (rule, self._name)
            if rule.fault in AT_ONCE:
                self._count(rule)
        self.simulator.inject(rule)

    def _count(self, rule: Rule) -> None:
        """A fault strikes. One that lasts counts once."""
        known = self._named.get(id(rule))
        if known is None:
            return
        if rule.fault in LASTING:
            del self._named[id(rule)]
        self.struck[known[1]] += 1
        self.note(f"strikes: {rule.fault.name} {rule.message_id or ''} {rule.value}")

    def _watch_faults(self) -> None:
        faults = self.simulator.faults
        struck, lasting = faults._struck, faults.lasting

        def noted(find: Callable[..., Rule | None]) -> Callable[..., Rule | None]:
            def found(*arguments: Any) -> Rule | None:
                rule = find(*arguments)
                if rule is not None:
                    self._count(rule)
                return rule

            return found

        faults._struck = noted(struck)  # type: ignore[method-assign]  # to be told when it strikes
        faults.lasting = noted(lasting)  # type: ignore[method-assign]

    def _watch_orders(self) -> None:
        gateway = self.simulator.gateway
        blotter, exchange = gateway._blotter, gateway._exchange
        enter, activate, change = blotter.enter, blotter.activate, exchange.change

        def entered(order: Order) -> None:
            self.taken[order.perm_id] = Moment(self.loop.time(), next(self._moments))
            enter(order)

        def activated(order: Order) -> None:
            self.released[order.perm_id] = Moment(self.loop.time(), next(self._moments))
            activate(order)

        def changed(order: Order, terms: Terms) -> None:
            change(order, terms)
            self.changed.setdefault(order.perm_id, []).append((self.loop.time(), terms))
            self.note(f"the broker changes order {order.order_id}: {terms.quantity:g} at {terms.limit_price}")
            if self.on_changed:
                self.on_changed.pop()()

        blotter.enter, blotter.activate = entered, activated  # type: ignore[method-assign]
        exchange.change = changed  # type: ignore[method-assign]

    def is_late(self, order: Order, quarantine_s: float) -> bool:
        """Whether the broker took an order so long after it was written that nobody could wait for it."""
        frame = next((frame for frame in self.frames if frame.order_ref == order.terms.order_ref), None)
        begun = self.released.get(order.perm_id) or self.taken[order.perm_id]
        return frame is not None and self.waited_s(frame.time, begun.time) > quarantine_s

    def waited_s(self, begin: float, end: float) -> float:
        """The longest unbroken time in which silence meant something: after the quarantine an order is given up."""
        breaks = [(begin, True), *(one for one in self.interrupted_at if begin < one[0] < end), (end, True)]
        spans = itertools.pairwise(breaks)
        return max(after - before for (before, is_linked), (after, _) in spans if is_linked)

    def price(self, symbol: str) -> float:
        """What a share trades at."""
        gateway = self.simulator.gateway
        return gateway.market.prices(
            gateway.catalogue.match(ContractQuery(symbol=symbol, sec_type="STK"))[0], gateway.now
        ).last

    def heal(self) -> None:
        """Nothing goes wrong any more; what has gone wrong stays so."""
        gateway = self.simulator.gateway
        gateway.faults.clear()
        if gateway.faults.outage.link_is_lost:
            self.inject(Rule(Fault.LINK_RESTORED))
        for farm in ("market", "history", "contracts"):
            self.inject(Rule(Fault.FARM_OK, value=farm))
        gateway.faults.outage.skew_s = 0.0
        self.clock_offset_s = 0.0
        self.next_killing = None
        self.on_changed.clear()
        if (life := self.current) is not None:
            life.forget_plans()
            life.write_fails = None
            self.let_record_go()
            life.store.at_once(lambda tx: tx._connection.exec_driver_sql("PRAGMA max_page_count = 1073741823"))
        self.note("everything is well again")


class BugHandler(logging.Handler):
    """Faults of the program itself that it has caught and logged: none is expected."""

    def __init__(self) -> None:
        super().__init__(logging.ERROR)
        self.found: list[str] = []

    def emit(self, record: logging.LogRecord) -> None:
        kind = record.exc_info[0].__name__ if record.exc_info and record.exc_info[0] is not None else ""
        if kind and kind not in EXPECTED_EXCEPTIONS:
            self.found.append(
                f"{record.name}: {record.getMessage()}: {kind}: {record.exc_info[1] if record.exc_info else ''}"
            )
