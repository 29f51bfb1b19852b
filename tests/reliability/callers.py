"""Who uses the gateway: callers that place and change orders and repeat their keys, and a client that follows them.

They know what any client can know: the answers to their calls. A caller never makes a second order of one intent; it
repeats the key, at once, from several places, or much later, whatever it has been told.
"""

from __future__ import annotations

import asyncio
import random
from collections import Counter
from collections.abc import Awaitable, Callable
from dataclasses import dataclass, field, replace

from ibkr_gateway_server.domain.errors import (
    ClientOrderIdConflict,
    DomainError,
    NotCancellable,
    OrderNotFound,
)
from ibkr_gateway_server.domain.events import OrderEvent, StatusChanged
from ibkr_gateway_server.domain.orders import OrderKey, OrderSpec, OrderStatus
from ibkr_gateway_server.trading.desk import Desk

from tests.reliability.intents import Intent, change_of, leg_name
from tests.reliability.invariants import CHANGED
from tests.reliability.life import Gone, Life
from tests.reliability.world import World


@dataclass(slots=True)
class Tally:
    """What callers have done and found."""

    calls: Counter[str] = field(default_factory=Counter)
    wrong: list[tuple[str, str]] = field(default_factory=list)
    """Invariants that an answer broke at once, with what happened."""


class Caller:
    """One program with some intents of its own."""

    def __init__(self, world: World, tally: Tally, intents: list[Intent], chance: random.Random) -> None:
        self._world = world
        self._tally = tally
        self._intents = intents
        self._chance = chance

    async def run(self) -> None:
        """Place every order, and do what callers do besides; ends when it has lost interest."""
        chance = self._chance
        async with asyncio.TaskGroup() as tasks:
            for intent in self._intents:
                await asyncio.sleep(chance.choice((0.0, 0.003, 0.03, 1.0, 6.0, 15.0)))
                tasks.create_task(self._pursue(intent))

    async def _pursue(self, intent: Intent) -> None:
        chance = self._chance
        if chance.random() < 0.2:
            await asyncio.gather(*(self._place(intent) for _ in range(chance.choice((2, 8)))))
        for _ in range(chance.choice((1, 2, 4, 8))):
            if await self._place(intent):
                break
            await asyncio.sleep(chance.choice((0.02, 0.7, 3.0)))
        if intent.may_rest and chance.random() < 0.5:
            await self._change_one_after_another(intent)
        if chance.random() < 0.5:
            await asyncio.sleep(chance.choice((0.0, 0.004, 0.05, 2.0, 30.0)))
            for _ in range(chance.choice((1, 2, 5))):
                await self._cancel(intent)
                await asyncio.sleep(chance.choice((0.05, 4.0)))
        if chance.random() < 0.4:
            await asyncio.sleep(chance.choice((5.0, 40.0)))
            await self._place(intent)
        if intent.is_acknowledged and chance.random() < 0.2:
            await self._place_another_under_the_key(intent)

    async def _place(self, intent: Intent) -> bool:
        """One call. True: it was answered with a state."""
        deadline_s = self._chance.choice((0.001, 0.03, 1.0, 15.0, 15.0, 15.0))
        wait_s = self._chance.choice((0.0, 0.5, None))
        status = await self._call(
            intent, "place", lambda desk: desk.place(intent.key, intent.spec, wait_s=wait_s), deadline_s
        )
        return status is not None

    async def _cancel(self, intent: Intent) -> None:
        intent.is_cancel_asked = True
        # Of a bracket all that is left, or one of its orders.
        role = self._chance.choice((None, None, *intent.roles)) if len(intent.roles) > 1 else None
        wait_s = self._chance.choice((0.0, None))
        key = OrderKey(intent.key, leg_role=role)
        await self._call(intent, "cancel", lambda desk: desk.cancel(key, wait_s=wait_s), 15.0)

    async def _change_one_after_another(self, intent: Intent) -> None:
        """Each under an id of its own, which is repeated: at once, in between, and when a newer one has been made."""
        chance = self._chance
        for _ in range(chance.choice((1, 2, 3))):
            await asyncio.sleep(chance.choice((0.0, 0.05, 2.0, 2.0, 30.0)))
            newest = change_of(intent, chance)
            if chance.random() < 0.2:
                await asyncio.gather(*(self._change(intent, newest) for _ in range(3)))
            for _ in range(chance.choice((1, 2, 4))):
                if await self._change(intent, newest) and chance.random() < 0.7:
                    break
                await asyncio.sleep(chance.choice((0.05, 2.0, 8.0)))
            if len(intent.changes) > 1 and chance.random() < 0.5:
                await self._change(intent, chance.choice(list(intent.changes)))
        if chance.random() < 0.3:
            # Long after its fate has been settled.
            await asyncio.sleep(chance.choice((40.0, 200.0)))
            await self._change(intent, chance.choice(list(intent.changes)))

    async def _change(self, intent: Intent, modify_id: str) -> bool:
        """One call. True: it was answered with a state."""
        spec, wait_s = intent.changes[modify_id], self._chance.choice((0.0, 0.5, None))
        deadline_s = self._chance.choice((0.001, 0.03, 1.0, 15.0, 15.0, 15.0))
        status = await self._call(
            intent,
            "change",
            lambda desk: self._changed(desk, intent, modify_id, spec, wait_s),
            deadline_s,
            modify_id,
        )
        return status is not None

    async def _changed(
        self, desk: Desk, intent: Intent, modify_id: str, spec: OrderSpec, wait_s: float | None
    ) -> OrderStatus:
        status = await desk.modify(intent.key, modify_id, spec, wait_s=wait_s)
        change = desk._ledger.change(modify_id)
        is_told = any(leg.pending_modify_id for leg in desk.order(OrderKey(intent.key)).legs)
        if change is not None and change.state.is_pending and not is_told:
            self._tally.wrong.append((CHANGED, f"{modify_id} is answered as if it were settled, and is {change.state}"))
        return status

    async def _place_another_under_the_key(self, intent: Intent) -> None:
        """The same key with other terms is a conflict, and nothing is sent."""
        other = replace(intent.spec, quantity=intent.spec.quantity + 1)
        frames = len(self._frames_of(attempt := self._new_attempt()))
        try:
            life = await self._world.life()
            await life.call(lambda desk: desk.place(intent.key, other), attempt=attempt, deadline_s=15.0)
        except ClientOrderIdConflict:
            self._tally.calls["conflict"] += 1
        except (DomainError, Gone):
            return
        else:
            self._tally.wrong.append(("one key is one order", f"{intent.key} was taken with other terms"))
        if len(self._frames_of(attempt)) > frames:
            self._tally.wrong.append(("an error means unsent", f"{intent.key}: a conflict was sent"))

    async def _call(
        self,
        intent: Intent,
        name: str,
        work: Callable[[Desk], Awaitable[OrderStatus]],
        deadline_s: float,
        modify_id: str = "",
    ) -> OrderStatus | None:
        world, attempt = self._world, self._new_attempt()
        world.modify_ids[attempt] = modify_id
        self._tally.calls[name] += 1
        life = await world.life()
        world.placing_count += name in ("place", "change")
        try:
            status = await life.call(work, attempt=attempt, deadline_s=deadline_s)
        except Gone:
            told = "nothing"
        except DomainError as error:
            told = f"error {error.reason}"
            if name in ("place", "change") and self._frames_of(attempt):
                self._tally.wrong.append(("an error means unsent", f"{intent.key}: {told}, but {name} was written"))
            if isinstance(error, OrderNotFound) and intent.is_acknowledged:
                self._tally.wrong.append(("nothing is lost", f"{intent.key}: {name} says {told}"))
            if isinstance(error, NotCancellable):
                self._tally.calls["not cancellable"] += 1
        else:
            told = status.state.value
            self._tally.calls[f"{name} answered"] += 1
            intent.is_acknowledged = True
        finally:
            world.placing_count -= name in ("place", "change")
        intent.answers.append(f"{name}: {told}")
        world.note(f"{name} {modify_id or intent.key}: {told}")
        return status if told[:5] != "error" and told != "nothing" else None

    def _frames_of(self, attempt: int) -> list[object]:
        return [frame for frame in self._world.frames if frame.attempt == attempt]

    def _new_attempt(self) -> int:
        self._world.attempt_count += 1
        return self._world.attempt_count


class Follower:
    """A client of the order stream: breaks off and comes back with its cursor, over every life."""

    def __init__(self, world: World, chance: random.Random) -> None:
        self.events: list[OrderEvent] = []
        self.wrong: list[tuple[str, str]] = []
        self._world = world
        self._chance = chance

    @property
    def cursor(self) -> int:
        """The sequence of the last event."""
        return self.events[-1].sequence if self.events else 0

    @property
    def told(self) -> list[tuple[int, str, str]]:
        """Sequence, leg and, where there is one, the state of each."""
        return [
            (
                one.sequence,
                leg_name(one.client_order_id, one.leg_role),
                one.happening.status.state if isinstance(one.happening, StatusChanged) else "",
            )
            for one in self.events
        ]

    async def run(self) -> None:
        """Follow until cancelled."""
        while True:
            life = await self._world.life()
            try:
                await life.call(lambda _desk: self._read(life), deadline_s=self._chance.choice((3.0, 60.0, 1e6)))  # noqa: B023
            except (Gone, DomainError):
                await asyncio.sleep(self._chance.choice((0.0, 0.01, 5.0)))

    async def _read(self, life: Life) -> None:
        async with life.events.subscribe(resume_after_sequence=self.cursor, heartbeat_s=3600.0) as stream:
            async for batch in stream:
                for item in batch:
                    if isinstance(item, OrderEvent) and not item.audit_pending:
                        if item.sequence <= self.cursor:
                            text = f"sequence {item.sequence} after {self.cursor}"
                            self.wrong.append(("each event once, in order", text))
                        self.events.append(item)
