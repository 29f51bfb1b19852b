"""The switch that stops trading: at once, over restarts, until somebody with the right to it resumes.

It is engaged by a caller, by a signal, or by a file named HALT beside the record, which is looked for before every
order and every second. A level is never lowered by another halt. What stops orders is in memory from the first instant;
the record follows, and a record that cannot be written delays nothing.
"""

from __future__ import annotations

import asyncio
import logging
import stat
from collections.abc import Callable
from contextlib import suppress
from dataclasses import asdict, dataclass, field, replace
from datetime import datetime
from pathlib import Path
from typing import Protocol

from pydantic import TypeAdapter

from ibkr_gateway_server.audit.store import AuditStore
from ibkr_gateway_server.audit.stored import Cause
from ibkr_gateway_server.audit.transaction import Transaction
from ibkr_gateway_server.domain.errors import AuditUnavailable, DomainError, TradingHalted
from ibkr_gateway_server.domain.halts import Halt, HaltLevel, halt_level_in
from ibkr_gateway_server.domain.orders import OrderState, OrderStatus

log = logging.getLogger(__name__)

FILE_NAME = "HALT"
SWITCH = "halt"

LOOK_S = 1.0
# An order that is open all the same is cancelled again so long after its cancel was sent, or could not be.
ASK_AGAIN_S = 10.0
TRY_AGAIN_S = 2.0
# Of the file; more of it is not read.
MAX_FILE_BYTES = 1024

_HALT = TypeAdapter(Halt)


class OpenOrders(Protocol):
    """What the halt needs of the desk."""

    def own_open_orders(self) -> tuple[OrderStatus, ...]:
        """This gateway's orders that may still fill."""
        ...

    async def cancel_open(self, *, reason: str) -> int:
        """Ask IBKR to cancel them. Returns how many cancels were sent; what could not be is logged."""
        ...

    async def cancel_global(self) -> int:
        """Ask IBKR to cancel every order of the login. Raises a DomainError when it could not be asked."""
        ...


@dataclass(eq=False, slots=True)
class _Request:
    """One engagement that the worker has not seen to yet; `answer` gets the number of cancels that were sent."""

    halt: Halt
    cause: Cause
    source: str
    answer: asyncio.Future[int] = field(default_factory=lambda: asyncio.get_running_loop().create_future())


class HaltSwitch:
    """Engaged or not. `halt` is how it stands; `run` writes the record and sends the cancels."""

    def __init__(self, store: AuditStore, orders: OpenOrders, now: Callable[[], datetime]) -> None:
        self.file = store.path.with_name(FILE_NAME)
        self._store = store
        self._orders = orders
        self._now = now
        self._halt: Halt | None = None
        self._waiting: list[_Request] = []
        self._unrecorded: list[_Request] = []
        self._due_at: dict[tuple[str, int], float] = {}
        self._work = asyncio.Event()
        self._recording = asyncio.Lock()

    async def load(self) -> None:
        """What the last life left engaged, and the file if it is there. Raises AuditUnavailable."""
        stored = await self._store.transact(lambda tx: tx.switch(SWITCH))
        if stored is not None:
            self._halt = _HALT.validate_json(stored)
            log.warning("trading is halted since before the start", extra={"level": self._halt.level})
        self.look()

    def look(self) -> Halt | None:
        """The halt as it stands at this moment, the file looked at; None: trading is not halted."""
        found = _read(self.file)
        if found is not None:
            level = halt_level_in(found)
            if self._halt is None or self._halt.level.rank < level.rank:
                self._engage(level, f"the file {FILE_NAME}", Cause(), "file")
        return self._halt

    async def engage(self, level: HaltLevel, comment: str, cause: Cause, *, wait_s: float | None = None) -> int:
        """Stop trading, now, and send the cancels of the level. Returns how many were sent within `wait_s`.

        Before anything is waited for, no order leaves any more; what is not sent in time is sent all the same.
        """
        request = self._engage(level, comment, cause, "call")
        with suppress(TimeoutError):
            async with asyncio.timeout(wait_s):
                return await request.answer
        return 0

    def engage_at_once(self, level: HaltLevel, source: str) -> None:
        """Stop trading, now; the rest follows. For a signal."""
        self._engage(level, source, Cause(), source)

    async def release(self, comment: str, cause: Cause) -> None:
        """Let orders go again; harmless when they do.

        Raises TradingHalted while the file is there, AuditUnavailable with the halt still engaged.
        """
        if (halt := self.look()) is None:
            return
        if _read(self.file) is not None:
            raise halted(halt)
        async with self._recording:
            # Engagements that are still to be recorded are, before their end is.
            taken, batch = self._take(), list(self._unrecorded)
            try:
                await self._store.transact(lambda tx: _record_release(tx, batch, comment, cause))
            finally:
                _answer(taken, 0)
            del self._unrecorded[: len(batch)]
            if self._halt is not halt:  # somebody has halted again meanwhile, and that is not recorded yet
                return
            self._halt = None
            self._due_at.clear()
        log.warning("trading goes on", extra={"comment": comment})

    async def run(self) -> None:
        """See to engagements as they come, and to the file and open orders every second, until cancelled."""
        try:
            while True:
                self.look()
                self._work.clear()
                waiting = self._take()
                await self._record()
                _answer(waiting, await self._cancel(anew=bool(waiting)))
                with suppress(TimeoutError):
                    async with asyncio.timeout(LOOK_S):
                        await self._work.wait()
        finally:
            # The gateway is stopping, and the record is still open.
            self._take()
            await self._record()

    def _take(self) -> list[_Request]:
        """What waits, which the record is told of from now on."""
        waiting, self._waiting = self._waiting, []
        self._unrecorded += waiting
        return waiting

    def _engage(self, level: HaltLevel, comment: str, cause: Cause, source: str) -> _Request:
        before = self._halt
        if before is None:
            halt = Halt(level, self._now(), comment)
        else:
            # A new one even when nothing in it changes: a release that is under way must not end it.
            raised = level.rank > before.level.rank
            halt = replace(before, level=level if raised else before.level, comment=comment or before.comment)
        if level is HaltLevel.GLOBAL_CANCEL:
            halt = replace(halt, owes_global_cancel=True)
        self._halt = halt
        log.warning("trading is halted", extra={"level": halt.level, "source": source, "comment": halt.comment})
        request = _Request(halt, cause, source)
        self._waiting.append(request)
        self._work.set()
        return request

    async def _record(self) -> None:
        async with self._recording:
            if not (batch := list(self._unrecorded)):
                return
            halt = self._halt
            try:
                # Shielded: what is cancelled halfway would be neither here nor there.
                await asyncio.shield(self._store.transact(lambda tx: _record_engagements(tx, batch, halt)))
            except AuditUnavailable:
                log.error("the halt is engaged, and the record does not know of it yet; trying again")
                return
            del self._unrecorded[: len(batch)]

    async def _cancel(self, *, anew: bool) -> int:
        """Send the cancels that the level asks for and that were not sent yet. Returns how many."""
        halt = self._halt
        if halt is None or halt.level is HaltLevel.BLOCK_NEW:
            return 0
        if halt.owes_global_cancel:
            await self._cancel_global(halt)
        if anew:
            self._due_at.clear()
        now = asyncio.get_running_loop().time()
        due = self._orders_to_cancel(now)
        if not due:
            return 0
        count = await self._orders.cancel_open(reason=f"halt {halt.level}")
        self._due_at |= dict.fromkeys(due, now + (ASK_AGAIN_S if count >= len(due) else TRY_AGAIN_S))
        return count

    def _orders_to_cancel(self, now: float) -> list[tuple[str, int]]:
        """Open orders of ours that nobody has asked to cancel, or so long ago that it has come to nothing."""
        orders = {(order.client_order_id, order.order_id): order for order in self._orders.own_open_orders()}
        self._due_at = {key: at for key, at in self._due_at.items() if key in orders}
        return [
            key
            for key, order in orders.items()
            if order.state is not OrderState.CANCEL_PENDING and self._due_at.get(key, now) <= now
        ]

    async def _cancel_global(self, halt: Halt) -> None:
        try:
            await self._orders.cancel_global()
        except DomainError as error:
            log.error("the login's orders could not be cancelled yet; trying again", extra={"reason": error.reason})
            return
        if self._halt is halt:
            self._halt = replace(halt, owes_global_cancel=False)
            self._unrecorded.append(_Request(self._halt, Cause(), "global cancel sent"))
            await self._record()


def halted(halt: Halt) -> TradingHalted:
    """The refusal that says how hard and since when."""
    return TradingHalted(halt.level, halt.since_time.strftime("%Y-%m-%d %H:%M:%SZ"))


def _record_engagements(tx: Transaction, requests: list[_Request], halt: Halt | None) -> None:
    for request in requests:
        body = {**asdict(request.halt), "since_time": request.halt.since_time.isoformat(), "source": request.source}
        tx.append("halt.engaged", body, cause=request.cause)
    if halt is not None:
        tx.set_switch(SWITCH, _HALT.dump_json(halt).decode())


def _record_release(tx: Transaction, requests: list[_Request], comment: str, cause: Cause) -> None:
    _record_engagements(tx, requests, None)
    tx.append("halt.released", {"comment": comment}, cause=cause)
    tx.set_switch(SWITCH, None)


def _answer(requests: list[_Request], count: int) -> None:
    """Tell who still waits how many cancels were sent."""
    for request in requests:
        if not request.answer.done():
            request.answer.set_result(count)


def _read(path: Path) -> str | None:
    """What is in the file; None: it is not there. Empty when it cannot be read, or is something else than a file."""
    try:
        if not stat.S_ISREG(path.lstat().st_mode):
            return ""
        with path.open("rb") as file:
            return file.read(MAX_FILE_BYTES).decode("utf-8", "replace")
    except FileNotFoundError:
        return None
    except OSError:
        return ""
