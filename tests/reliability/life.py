"""One life of the gateway program: the real order core on the real record, ended at any moment as by SIGKILL.

Everything that a life does happens in tasks that belong to it. When it is killed, nothing of it has any effect any
more, from that very instruction on: what it has committed stays, what it has written to the socket may or may not
arrive, everything else is lost.
"""

from __future__ import annotations

import asyncio
import contextvars
import random
from collections.abc import Awaitable, Callable, Sequence
from contextlib import AsyncExitStack
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Self, TypeVar

from ibkr_gateway_server.audit.store import AuditStore
from ibkr_gateway_server.audit.transaction import Transaction
from ibkr_gateway_server.broker.accounts import Accounts
from ibkr_gateway_server.broker.connection import BrokerAddress
from ibkr_gateway_server.broker.contracts import Contracts
from ibkr_gateway_server.broker.market_data import MarketData
from ibkr_gateway_server.broker.pacing import Pacer
from ibkr_gateway_server.broker.session import Session
from ibkr_gateway_server.domain.events import OrderEvent
from ibkr_gateway_server.domain.restarts import RestartWindows
from ibkr_gateway_server.streams.orders import OrderEvents
from ibkr_gateway_server.trading.desk import Desk
from ibkr_gateway_server.trading.guard import TradingRules
from ibkr_gateway_server.trading.session_record import SessionRecord

from tests.reliability.intents import Word

T = TypeVar("T")

CLIENT_ID = 1

OWNER: contextvars.ContextVar[Life | None] = contextvars.ContextVar("owner", default=None)
"""The life that the running code belongs to; None: the world around it."""
ATTEMPT: contextvars.ContextVar[int] = contextvars.ContextVar("attempt", default=0)
"""The call that the running code works on."""


class Gone(Exception):
    """The program died, or the caller no longer waited: nothing is known of what was asked."""


class MortalStore(AuditStore):
    """The record of one life, on a disk that takes its time: one thing after another, and nothing after its death."""

    def __init__(self, path: Path, life: Life) -> None:
        super().__init__(path, inline=True, durable=False, now=life.now)
        self._life = life
        self._turn = asyncio.Lock()
        self._is_open = False

    async def __aenter__(self) -> Self:
        await super().__aenter__()
        # The world's other programs do not wait in real time for one that holds the record.
        self.at_once(lambda tx: tx._connection.exec_driver_sql("PRAGMA busy_timeout = 0"))
        self._is_open = True
        return self

    async def __aexit__(self, *why: Any) -> None:
        self._is_open = False
        await super().__aexit__(*why)

    async def _run(self, work: Callable[[], T]) -> T:
        """As on the store's thread: it goes on when nobody waits for it any more.

        Raises CancelledError in a life that has ended.
        """
        if not self._is_open:
            return work()
        return await asyncio.shield(asyncio.ensure_future(self._in_turn(work)))

    async def _in_turn(self, work: Callable[[], T]) -> T:
        async with self._turn:
            self._life.pass_by("commit_begins")
            await asyncio.sleep(self._life.disk_s())
            self._life.pass_by("before_commit")
            try:
                return work()
            finally:
                self._life.pass_by("after_commit")

    def at_once(self, work: Callable[[Transaction], T]) -> T:
        """A look, or a word, of the world itself."""
        return self._writer.read(work)


@dataclass(slots=True)
class _Plan:
    """What happens at a moment, once so many of its kind have passed."""

    moment: str
    left: int
    act: Callable[[], None]


class Life:
    """One process: `start` it, `call` into it, `kill` it."""

    def __init__(
        self,
        number: int,
        record_path: Path,
        address: BrokerAddress,
        now: Callable[[], Any],
        chance: random.Random,
        rules: TradingRules,
    ) -> None:
        self.number = number
        self.tasks: dict[asyncio.Task[Any], None] = {}
        self.pipes: list[Any] = []
        self.is_dead = False
        self.write_fails: bool | None = None
        """Not None: the next order's write raises; True: though its bytes have left."""
        self.faults_of_program: list[BaseException] = []
        self.cause = "at a time"
        """What kills it, in the words that it is counted under."""
        self.next_commit_s: float | None = None
        self.restarts: RestartWindows | None = None
        """When TWS restarts as planned; set before it starts."""
        self._plans: list[_Plan] = []
        self.on_killed: Callable[[str], None] = lambda _moment: None
        self.loses_what_it_wrote = False
        self.store: MortalStore
        self.session: Session
        self.desk: Desk
        self.pacer: Pacer
        self.events: OrderEvents
        self.record_path = record_path
        self._address = address
        self.now = now
        self._chance = chance
        self._rules = rules
        self._started = asyncio.Event()
        self._killed = asyncio.Event()
        self.on_events: Callable[[Sequence[OrderEvent]], None] = lambda _events: None
        self._context = contextvars.copy_context()
        self._context.run(OWNER.set, self)
        self._root: asyncio.Task[None] | None = None

    @property
    def word(self) -> Word:
        """What it says of orders."""
        return Word(self.store.order_ref, self.desk.order)

    # --- living --------------------------------------------------------------------------------------------------

    async def start(self) -> None:
        """Returns once it serves. Raises what keeps it from starting."""
        loop = asyncio.get_running_loop()
        self._root = loop.create_task(self._run(), context=self._context)
        waits = [asyncio.ensure_future(event.wait()) for event in (self._started, self._killed)]
        await asyncio.wait((self._root, *waits), return_when=asyncio.FIRST_COMPLETED)
        for wait in waits:
            wait.cancel()
        if self._root.done() and not self._root.cancelled():
            self._root.result()

    async def call(
        self, work: Callable[[Desk], Awaitable[T]], *, attempt: int = 0, deadline_s: float | None = None
    ) -> T:
        """A caller's call, as through gRPC. Raises Gone when the life ends or the deadline passes meanwhile."""
        if self.is_dead:
            raise Gone
        context = self._context.copy()
        context.run(ATTEMPT.set, attempt)
        task = asyncio.get_running_loop().create_task(_awaited(work(self.desk)), context=context)
        await asyncio.wait((task,), timeout=deadline_s)
        if not task.done():
            task.cancel()
            raise Gone
        if task.cancelled():
            raise Gone
        return task.result()

    async def _run(self) -> None:
        loop = asyncio.get_running_loop()
        async with AsyncExitStack() as stack:
            self.store = await stack.enter_async_context(MortalStore(self.record_path, self))
            self.pacer = Pacer(loop.time)
            session = self.session = Session(
                self._address, CLIENT_ID, self.pacer, jitter=self._chance, now=self.now, restarts=self.restarts
            )
            accounts = Accounts(session, self.pacer)
            contracts = Contracts(session, self.pacer, today=lambda: self.now().date())
            market_data = MarketData(session, contracts, self.pacer)
            desk = self.desk = Desk(self._rules, session, self.pacer, contracts, market_data, accounts, self.store)
            record = SessionRecord(self.store, lambda: None)
            session.on_event(record.put)
            desk.on_reconciled(record.reconciled)
            events = self.events = OrderEvents(
                self.store, desk.own_open_orders, lambda: session.status, desk.recorder.pending
            )
            desk.recorder.listen(events.put)
            desk.recorder.listen_pending(events.put)
            desk.recorder.listen(lambda told: self.on_events(told))
            session.on_lost(events.lost)
            desk.on_reconciled(events.recovered)
            await stack.enter_async_context(desk.running())
            async with asyncio.TaskGroup() as group:
                for work in (session.run(), market_data.run(), record.run()):
                    group.create_task(work)
                self._started.set()

    # --- dying ---------------------------------------------------------------------------------------------------

    def disk_s(self) -> float:
        """Seconds that the next commit takes: most are quick, some are not."""
        planned, self.next_commit_s = self.next_commit_s, None
        if planned is not None:
            return planned
        return 0.0003 if self._chance.random() < 0.95 else self._chance.choice((0.02, 0.2, 1.0))

    def plan(self, moment: str, count: int, act: Callable[[], None]) -> None:
        """At such a moment of the life's own code, after `count` others of its kind, let this happen."""
        self._plans.append(_Plan(moment, count, act))

    def forget_plans(self) -> None:
        """Nothing that was planned happens any more."""
        self._plans.clear()

    def pass_by(self, moment: str) -> None:
        """The life's own code is at such a moment. Raises CancelledError when it is, or was, its last."""
        for plan in [plan for plan in self._plans if plan.moment == moment and not self.is_dead]:
            plan.left -= 1
            if plan.left < 0:
                self._plans.remove(plan)
                plan.act()
        if self.is_dead:
            raise asyncio.CancelledError

    def die_at(self, moment: str, count: int) -> None:
        """Plan its end."""

        def end() -> None:
            self.cause = moment.replace("_", " ")
            self.kill()

        self.plan(moment, count, end)

    def kill(self) -> None:
        """End it, now: nothing it does from here on has an effect."""
        if self.is_dead:
            return
        self.is_dead = True
        self._killed.set()
        for pipe in self.pipes:
            pipe.die(loses_what_it_wrote=self.loses_what_it_wrote)
        self.on_killed(self.cause)

    async def buried(self) -> None:
        """Returns when no task of a killed life is left; its record is closed then."""
        assert self.is_dead
        while self.tasks:
            remains = list(self.tasks)
            for task in remains:
                task.cancel()
            await asyncio.wait(remains, timeout=0.001)
        if self._root is not None and self._root.done() and not self._root.cancelled():
            error = self._root.exception()
            if error is not None:
                self.faults_of_program.append(error)


async def _awaited(work: Awaitable[T]) -> T:
    return await work


def own_tasks(loop: asyncio.AbstractEventLoop) -> None:
    """Have every task of this loop belong to the life whose code makes it."""

    def make(loop: asyncio.AbstractEventLoop, work: Any, **options: Any) -> asyncio.Task[Any]:
        task = asyncio.Task(work, loop=loop, **options)
        context = options.get("context")
        owner = OWNER.get() if context is None else context.get(OWNER)
        if owner is not None:
            owner.tasks[task] = None
            task.add_done_callback(lambda done: owner.tasks.pop(done, None))
        return task

    loop.set_task_factory(make)
