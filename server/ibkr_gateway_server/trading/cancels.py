"""Cancels: of one order, of several, of all. Repeating one is harmless, and a halt, a limit or a lost link is no reason
to refuse one: it may be what saves somebody's money."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable, Iterable

from ibkr_gateway_server.audit.stored import Cause
from ibkr_gateway_server.broker.connection import Connection
from ibkr_gateway_server.broker.pacing import Priority
from ibkr_gateway_server.domain.errors import DomainError, NotCancellable, ScopeMissing, TradingDisabled
from ibkr_gateway_server.domain.orders import LegRole, OrderState, OrderStatus
from ibkr_gateway_server.domain.sessions import SessionState
from ibkr_gateway_server.logs import principal
from ibkr_gateway_server.trading.changes import CHANGEABLE
from ibkr_gateway_server.trading.conclusions import signed
from ibkr_gateway_server.trading.entries import CancelSent, Entry, Intent
from ibkr_gateway_server.trading.submission import Means, Wire, ids_of
from ibkr_gateway_server.trading.transitions import Sign

log = logging.getLogger(__name__)

# Cancels that were owed are sent once more, each by this cause.
RECOVERY = Cause("gateway", "")

_NEVER_THERE = frozenset({OrderState.PRESUMED_NOT_PLACED, OrderState.REJECTED})


class Cancels:
    """Sends cancels, and once more those that a lost link may have swallowed."""

    def __init__(
        self,
        wire: Wire,
        means: Means,
        *,
        ack_timeout_s: float,
        pacing_timeout_s: float,
        expect_word: Callable[[Entry], None],
    ) -> None:
        self._wire = wire
        self._means = means
        self._ack_timeout_s = ack_timeout_s
        self._pacing_timeout_s = pacing_timeout_s
        self._expect_word = expect_word
        self._owed: list[tuple[Entry, str]] = []
        self._work = asyncio.Event()

    def is_lost(self, entry: Entry) -> bool:
        """Whether no cancel of an order that IBKR lists as working can be under way."""
        cancel = entry.cancel
        if cancel is None:
            return True
        return not cancel.is_owed and self._clock() - cancel.at >= self._ack_timeout_s

    def targets(self, intent: Intent, role: LegRole | None) -> list[Entry]:
        """Which orders a cancel of an intent is for: the leg that is named; else the entry, with which IBKR cancels
        what is attached to it; once that has ended, all that is left."""
        if role is not None:
            return [intent.legs[role]] if role in intent.legs else []
        entry = intent.entry
        if entry.status.state.is_open or len(intent.legs) == 1:
            return [entry]
        left = [leg for leg in intent if leg.status.state.is_open]
        return left or [entry]

    @staticmethod
    def check_owner(entry: Entry, *, may_touch_others: bool) -> None:
        """Orders placed elsewhere, or with another token, are for the scope admin alone. Raises ScopeMissing."""
        is_callers = entry.intent is not None and entry.intent.principal == principal.get()
        if not is_callers and not may_touch_others:
            raise ScopeMissing("admin")

    def check(self, entry: Entry, *, may_touch_others: bool = False) -> None:
        """Raises ScopeMissing, NotCancellable."""
        self.check_owner(entry, may_touch_others=may_touch_others)
        if not entry.status.state.is_open or (entry.intent is None and not self._can_name(entry)):
            raise NotCancellable(entry.status.state)

    def _can_name(self, entry: Entry) -> bool:
        """Whether the order id means this order alone: one placed by hand has none, and ours go first."""
        order_id = entry.status.order_id
        own = self._means.ledger.find(client_id=self._means.session.client_id, order_id=order_id)
        return order_id > 0 and own is entry

    async def send(self, entries: Iterable[Entry], *, timeout_s: float | None = None) -> int:
        """Cancel these orders. Returns how many cancels were sent.

        Raises TradingDisabled, BrokerDisconnected, OrderRate with nothing of the next one sent.
        """
        count, cause = 0, Cause.of_caller()
        timeout_s = self._pacing_timeout_s if timeout_s is None else timeout_s
        for entry in entries:
            await self._send(entry, cause, "order.cancel", timeout_s)
            count += 1
        return count

    async def send_all(self) -> int:
        """Cancel every order of the login, also those placed elsewhere. Returns how many of ours that is."""
        self._means.guard.authorize_cancel()
        connection = self._means.session.connection()
        await self._means.pacer.take(Priority.CANCEL, self._ack_timeout_s)
        entries = self._means.ledger.open_entries()
        cause = Cause.of_caller()
        body = {"open_count": len(entries)}
        # A record that cannot be written is no reason either: the cancel is noted beside it.
        await self._means.store.append_or_journal("order.cancel_all", body, cause=cause, epoch=connection.epoch)
        if self._means.session.connection() is not connection:
            raise connection.disconnected()
        self._write(lambda: self._wire.cancel_all(connection), {"open_orders": len(entries)})
        for entry in entries:
            self._note_sent(entry, connection)
        return len(entries)

    async def _send(self, entry: Entry, cause: Cause, kind: str, timeout_s: float) -> None:
        self._means.guard.authorize_cancel()
        connection = self._means.session.connection()
        await self._means.pacer.take(Priority.CANCEL, timeout_s)
        status = entry.status
        await self._means.store.append_or_journal(kind, {}, order=status, cause=cause, epoch=connection.epoch)
        if self._means.session.connection() is not connection:
            raise connection.disconnected()
        self._write(lambda: self._wire.cancel(connection, entry.status.order_id), ids_of(entry))
        self._note_sent(entry, connection)
        log.info("cancel sent", extra=ids_of(entry))

    @staticmethod
    def _write(write: Callable[[], None], about: dict[str, object]) -> None:
        try:
            write()
        except TradingDisabled:
            raise
        except Exception:
            # Whether it has left is not known; the evidence will say, and repeating it is harmless.
            log.exception("writing a cancel failed", extra=about)

    def _note_sent(self, entry: Entry, connection: Connection) -> None:
        is_owed = self._means.session.status.state is SessionState.LINK_DOWN
        entry.cancel = CancelSent(self._clock(), is_owed=is_owed)
        self._means.recorder.put(signed(entry, Sign.CANCEL_SENT, self._means.session.now()))
        self._expect_word(entry)

    # --- what a lost link may have swallowed ---------------------------------------------------------------------

    def retry_owed(self) -> None:
        """All that IBKR knows has been heard: cancels sent while TWS had no link are sent once more, of what is open.

        So is the rest of a plan cancelled whose last leg, its protection, never arrived or was rejected: what has not
        opened a position yet must not open one any more.
        """
        for entry in self._means.ledger.open_entries():
            if entry.cancel is not None and entry.cancel.is_owed:
                entry.cancel = CancelSent(entry.cancel.at)
                self._owed.append((entry, "cancel.retry"))
            elif _is_left_over(entry) and entry.cancel is None:
                self._owed.append((entry, "cancel.incomplete"))
        if self._owed:
            self._work.set()

    async def run(self) -> None:
        """Send what is owed, until cancelled."""
        while True:
            await self._work.wait()
            self._work.clear()
            while self._owed:
                entry, kind = self._owed.pop(0)
                if entry.status.state not in (OrderState.CANCEL_PENDING, OrderState.WORKING, OrderState.PARTIAL):
                    continue
                try:
                    await self._send(entry, RECOVERY, kind, self._ack_timeout_s)
                except DomainError as error:
                    log.warning("a cancel could not be sent again", extra={**ids_of(entry), "reason": error.reason})

    @staticmethod
    def _clock() -> float:
        return asyncio.get_running_loop().time()


def cancel_is_answered(entry: Entry, shown: OrderStatus) -> bool:
    """Whether an order whose cancel was sent has ended, or is shown to work on since its cancel was refused."""
    return not shown.state.is_open or (entry.cancel is None and shown.state in CHANGEABLE)


def _is_left_over(entry: Entry) -> bool:
    """Whether the order belongs to a plan whose entry is open and whose transmitting leg will never be there."""
    plan = entry.intent
    if plan is None or not plan.entry.status.state.is_open:
        return False
    return any(leg.terms is not None and leg.terms.transmits and leg.status.state in _NEVER_THERE for leg in plan)
