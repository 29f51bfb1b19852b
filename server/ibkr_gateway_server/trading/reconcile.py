"""Reconciliation: what IBKR says becomes what the ledger holds, as it happens and again after every silence.

After every (re)connect, and while anything is unknown, IBKR is asked for all it knows of our orders. One evidence set
is every execution, every completed and every open order of the day, each to its end marker and all within one
connection. An incomplete set proves nothing. A complete one settles what it names; what it does not name is not
thereby gone: such an order is UNKNOWN, and `doubts` says when more may be concluded. Nothing is ever sent again.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from typing import Protocol

from ibkr_gateway_server.broker.connection import Connection
from ibkr_gateway_server.broker.session import LINK_RESTORED, Session
from ibkr_gateway_server.domain.errors import DomainError
from ibkr_gateway_server.domain.events import AlarmRaised
from ibkr_gateway_server.domain.evidence import Evidence, OpenOrderSeen, OrderErrorSeen
from ibkr_gateway_server.domain.orders import AlarmKind, OrderState
from ibkr_gateway_server.domain.sessions import SessionState
from ibkr_gateway_server.domain.tallies import ORDER_CONFLICTS, ORDERS_RESURRECTED
from ibkr_gateway_server.trading.conclusions import signed
from ibkr_gateway_server.trading.doubts import Doubts
from ibkr_gateway_server.trading.entries import Entry
from ibkr_gateway_server.trading.ledger import Ledger
from ibkr_gateway_server.trading.recorder import Recorder
from ibkr_gateway_server.trading.transitions import (
    CANCEL_REFUSED,
    CHANGE_REFUSED,
    DUPLICATE_ORDER_ID,
    ORDER_CANCELLED,
    Sign,
)

log = logging.getLogger(__name__)

# While an order's fate is unknown IBKR is asked again after these seconds, from then on at the last of them.
RETRY_AFTER_S = (2.0, 10.0, 30.0, 60.0, 120.0)
# Without any doubt: while orders are open, and otherwise.
OPEN_EVERY_S, IDLE_EVERY_S = 300.0, 1800.0

# After these what became of the order is for the evidence to say. So it is after the message that an order is cancelled
# when its status has not said so: the message alone changes nothing.
_RAISES_DOUBT = CANCEL_REFUSED | CHANGE_REFUSED | {DUPLICATE_ORDER_ID}

_COUNTED_ALARMS = {AlarmKind.CONFLICT: ORDER_CONFLICTS, AlarmKind.RESURRECTED: ORDERS_RESURRECTED}


class EvidenceSource(Protocol):
    """Has IBKR tell again what it knows; the answers arrive as evidence, before these return."""

    def attach(self, connection: Connection) -> None: ...
    async def ask_executions(self, connection: Connection, timeout_s: float) -> None: ...
    async def ask_completed_orders(self, connection: Connection, timeout_s: float) -> None: ...
    async def ask_open_orders(self, connection: Connection, timeout_s: float) -> None: ...
    async def ask_order_id(self, connection: Connection, timeout_s: float) -> None: ...


class Reconciler:
    """Hears evidence, keeps the ledger true to it, and asks for more when something is missing."""

    def __init__(
        self, session: Session, ledger: Ledger, recorder: Recorder, doubts: Doubts, evidence_timeout_s: float
    ) -> None:
        self._session = session
        self._ledger = ledger
        self._recorder = recorder
        self._doubts = doubts
        self._timeout_s = evidence_timeout_s
        self._source: EvidenceSource | None = None
        self._stirred = asyncio.Event()
        self._is_wanted = False
        self._epoch = 0
        # TWS has used a higher order id than it has told.
        self._ids_are_behind = False
        # A row that could not be read: what it says is missing from the evidence.
        self._is_torn = False
        self._sightings: list[dict[Entry, bool]] = []
        self._reconciled_hooks: list[Callable[[], None]] = []
        session.on_lost(self._lost)
        session.on_notice(self._noticed)
        session.on_undecodable(self._unreadable)

    def use(self, source: EvidenceSource) -> None:
        """Ask this source, in every new epoch before it is READY and whenever it is wanted."""
        self._source = source
        self._session.on_sync(self._sync)

    def hear(self, evidence: Evidence) -> None:
        """Take one piece of evidence: the ledger concludes, the recorder makes it durable and tells it."""
        now, client_id, recovering = self._session.now(), self._session.client_id, bool(self._sightings)
        known = self._ledger.entry_of(evidence, client_id)
        before = known.status.state if known is not None else None
        is_first_word = known is not None and not known.is_acknowledged
        changes = self._ledger.apply(evidence, client_id, now, recovering=recovering)
        self._recorder.put(changes)
        for change in changes:
            if isinstance(change.happening, AlarmRaised) and change.happening.kind in _COUNTED_ALARMS:
                self._session.tallies.add(_COUNTED_ALARMS[change.happening.kind])
        if isinstance(evidence, OrderErrorSeen) and evidence.code == DUPLICATE_ORDER_ID:
            self._ids_are_behind = True
        entry = self._ledger.entry_of(evidence, client_id)
        if entry is not None and entry.intent is not None:
            has_become = entry.status.state if entry.status.state is not before else None
            is_incomplete = has_become is OrderState.REJECTED and len(entry.intent.legs) > 1
            if has_become is OrderState.UNKNOWN or is_incomplete or _raises_doubt(evidence, entry):
                self.request()
            elif entry.told_filled or is_first_word:
                # Its executions mostly follow in a moment; where they do not, they are asked for. And while an order is
                # open, IBKR is asked more often than without any.
                self._stirred.set()
        if recovering and entry is not None:
            is_listed = isinstance(evidence, OpenOrderSeen) and not evidence.is_completed
            for sighted in self._sightings:
                sighted[entry] = sighted.get(entry, False) or is_listed

    def on_reconciled(self, hook: Callable[[], None]) -> None:
        """Called after each complete evidence set, once what it brought is durable and told."""
        self._reconciled_hooks.append(hook)

    def request(self) -> None:
        """Have an evidence set gathered soon."""
        self._is_wanted = True
        self._stirred.set()

    async def run(self) -> None:
        """Gather whenever it is wanted, again while something stays unknown, and now and then, until cancelled."""
        clock = asyncio.get_running_loop().time
        attempt, due = 0, clock() + self._next_s(0)
        while True:
            with suppress(TimeoutError):
                async with asyncio.timeout_at(due):
                    await self._stirred.wait()
            self._stirred.clear()
            if not self._is_wanted and clock() < due:
                attempt, due = 0, min(due, clock() + self._next_s(0))
                continue
            attempt = 0 if self._is_wanted else attempt + 1
            self._is_wanted = False
            try:
                await self._gather(self._session.linked())
            except DomainError as error:
                log.info("the evidence is incomplete and proves nothing", extra={"reason": error.reason})
            due = clock() + self._next_s(attempt)

    def _next_s(self, attempt: int) -> float:
        entries = self._ledger.open_entries()
        is_unclear = any(entry.status.state is OrderState.UNKNOWN or entry.change is not None for entry in entries)
        if is_unclear or self._is_torn or self._ledger.owing():
            wait_s = RETRY_AFTER_S[min(attempt, len(RETRY_AFTER_S) - 1)]
            return min(wait_s, self._doubts.next_s(entries) or wait_s)
        return OPEN_EVERY_S if entries else IDLE_EVERY_S

    async def sight_open_orders(self) -> set[Entry]:
        """Every order that IBKR names as open now, also those placed elsewhere.

        Raises when the list is not complete.
        """
        assert self._source is not None
        with self._sighting() as sighted:
            await self._source.ask_open_orders(self._session.linked(), self._timeout_s)
        return set(sighted)

    async def _sync(self, connection: Connection) -> None:
        assert self._source is not None
        if connection.epoch != self._epoch:
            # Also where the one before was lost before it was of use, so that nobody was told of its loss.
            self._epoch = connection.epoch
            self._doubts.interrupt()
        self._source.attach(connection)
        await self._gather(connection)
        # What it has left unclear is asked for again soon.
        self._stirred.set()

    async def _gather(self, connection: Connection) -> None:
        assert self._source is not None
        asked_of = self._ledger.open_entries()
        watch, self._is_torn = self._doubts.watch, False
        if self._ids_are_behind:
            await self._source.ask_order_id(connection, self._timeout_s)
            self._ids_are_behind = False
        with self._sighting() as sighted:
            # Executions first: an order that fills in between is then missing from neither.
            await self._source.ask_executions(connection, self._timeout_s)
            await self._source.ask_completed_orders(connection, self._timeout_s)
            await self._source.ask_open_orders(connection, self._timeout_s)
        if watch != self._doubts.watch or self._session.status.state is SessionState.LINK_DOWN:
            # The link was lost meanwhile, or before: TWS may have told what it held, not what IBKR holds.
            log.info("the evidence is of before and after a loss and proves nothing")
            return
        if self._is_torn:
            # Of which order the row was nobody can tell, so that none is absent for sure.
            log.warning("the evidence has a row that cannot be read and proves nothing")
            return
        for entry in asked_of:
            self._recorder.put(self._doubts.weigh(entry, sighted.get(entry), self._session.now()))
        for hook in self._reconciled_hooks:
            self._recorder.afterwards(hook)

    @contextmanager
    def _sighting(self) -> Iterator[dict[Entry, bool]]:
        """Note every order that evidence names meanwhile, and whether it is listed as open."""
        sighted: dict[Entry, bool] = {}
        self._sightings.append(sighted)
        try:
            yield sighted
        finally:
            # By identity: two that have seen the same are equal.
            self._sightings = [each for each in self._sightings if each is not sighted]

    def _lost(self, _reason: str) -> None:
        """What IBKR has not acknowledged by now may or may not have arrived."""
        self._doubts.interrupt()
        for entry in self._ledger.open_entries():
            self._recorder.put(signed(entry, Sign.SILENCE, self._session.now()))

    def _unreadable(self) -> None:
        """A message about an order could not be read. The same row is unreadable again when it is asked for again, so
        that within an evidence set there is no hurry."""
        self._is_torn = True
        if not self._sightings:
            self.request()

    def _noticed(self, code: int, _text: str) -> None:
        if code in LINK_RESTORED:
            # Unbroken is only the time from here on.
            self._doubts.interrupt()
            self.request()


def _raises_doubt(evidence: Evidence, entry: Entry) -> bool:
    if not isinstance(evidence, OrderErrorSeen):
        return False
    return evidence.code in _RAISES_DOUBT or (evidence.code == ORDER_CANCELLED and entry.status.state.is_open)
