"""The desk: the only way to an order.

Place: refuse what is wrong → recognise a repeated key → record the intent durably → check once more, with nothing
awaited in between → write → wait for IBKR's word. At most one submission per client_order_id, and a state that is
true or UNKNOWN.
"""

from __future__ import annotations

import asyncio
import hashlib
import logging
from collections import defaultdict
from collections.abc import AsyncIterator, Callable, Coroutine
from contextlib import asynccontextmanager, suppress
from dataclasses import dataclass, replace
from datetime import UTC, datetime
from typing import Any, TypeVar
from weakref import WeakValueDictionary

from pydantic import TypeAdapter

from ibkr_gateway_server.audit.store import ORDER_REF_PREFIX, AuditStore
from ibkr_gateway_server.audit.transaction import Cause, StoredOrder, Transaction
from ibkr_gateway_server.broker.accounts import Accounts
from ibkr_gateway_server.broker.connection import Connection
from ibkr_gateway_server.broker.contracts import Contracts
from ibkr_gateway_server.broker.market_data import MarketData
from ibkr_gateway_server.broker.orders import LAST_ORDER_ID, OrderWire
from ibkr_gateway_server.broker.pacing import Pacer, Priority
from ibkr_gateway_server.broker.session import Session
from ibkr_gateway_server.domain.errors import (
    ClientOrderIdConflict,
    DomainError,
    NotCancellable,
    OrderIdsExhausted,
    OrderNotFound,
    ScopeMissing,
    TradingDisabled,
    Violations,
)
from ibkr_gateway_server.domain.orders import (
    LegTerms,
    Order,
    OrderKey,
    OrderSpec,
    OrderState,
    OrderStatus,
    Preview,
    TradingStatus,
    WhatIf,
    check_client_order_id,
)
from ibkr_gateway_server.logs import correlation_id, principal
from ibkr_gateway_server.trading.appraisal import Appraiser
from ibkr_gateway_server.trading.guard import Guard, TradingRules
from ibkr_gateway_server.trading.ledger import Entry, Ledger, new_entry
from ibkr_gateway_server.trading.plan import legs_of
from ibkr_gateway_server.trading.reconcile import Reconciler
from ibkr_gateway_server.trading.recorder import Recorder

log = logging.getLogger(__name__)

T = TypeVar("T")

_SPEC = TypeAdapter(OrderSpec)

# The last state of an order is durable this soon after IBKR's word, or its absence, at the latest.
RECORDING_GRACE_S = 1.0

AWAITING_WORD = frozenset({OrderState.PENDING, OrderState.SENT})


@dataclass(frozen=True, slots=True)
class DeskTimings:
    """How long the desk waits, in seconds."""

    ack_timeout_s: float = 10.0
    """For IBKR's first word on an order or a cancel; then its state is UNKNOWN and evidence is gathered."""
    order_pacing_timeout_s: float = 0.25
    """For room among the messages to TWS; then the order is refused, unsent."""
    evidence_timeout_s: float = 10.0
    """For each question of a reconciliation."""
    what_if_timeout_s: float = 10.0
    """For IBKR's answer to a what-if."""
    preview_quote_timeout_s: float = 3.0
    """For a quote to value an order by."""


class Desk:
    """Places, cancels and knows orders. An async context manager by `running()`."""

    def __init__(
        self,
        rules: TradingRules,
        session: Session,
        pacer: Pacer,
        contracts: Contracts,
        market_data: MarketData,
        accounts: Accounts,
        store: AuditStore,
        timings: DeskTimings | None = None,
    ) -> None:
        self.timings = timings or DeskTimings()
        self.recorder = Recorder(store)
        self.guard = Guard(rules, session.for_orders, lambda: self.recorder.is_healthy)
        self._session = session
        self._pacer = pacer
        self._accounts = accounts
        self._appraiser = Appraiser(self.guard, contracts, accounts, market_data, self.timings.preview_quote_timeout_s)
        self._store = store
        self._ledger = Ledger(ORDER_REF_PREFIX)
        self._reconciler = Reconciler(session, self._ledger, self.recorder, self.timings.evidence_timeout_s)
        self._wire = OrderWire(pacer, self.guard.authorize, self._reconciler.hear)
        self._reconciler.use(self._wire)
        self._floor = 0
        self._key_locks: WeakValueDictionary[str, asyncio.Lock] = WeakValueDictionary()
        self._commands: set[asyncio.Task[Any]] = set()

    def on_reconciled(self, hook: Callable[[], None]) -> None:
        """Called whenever all that IBKR knows of our orders has been heard, recorded and told."""
        self._reconciler.on_reconciled(hook)

    @asynccontextmanager
    async def running(self) -> AsyncIterator[None]:
        """Load the record, then keep writing and reconciling; on the way out running commands end first."""
        await self._load()
        async with asyncio.TaskGroup() as tasks:
            background = [tasks.create_task(self.recorder.run()), tasks.create_task(self._reconciler.run())]
            try:
                yield
            finally:
                await self.drain()
                for task in background:
                    task.cancel()

    async def drain(self) -> None:
        """Refuse new orders and let those under way come to their answer. Working orders stay at the broker."""
        self.guard.drain()
        if self._commands:
            await asyncio.wait(set(self._commands), timeout=self.timings.ack_timeout_s)
        with suppress(TimeoutError):
            async with asyncio.timeout(self.timings.ack_timeout_s):
                await self.recorder.settle()

    # --- placing -------------------------------------------------------------------------------------------------

    async def place(
        self, client_order_id: str, spec: OrderSpec, *, require_transmit: bool = False, wait_s: float | None = None
    ) -> OrderStatus:
        """Place an order, once, whatever the caller does: the same key and terms are the same order.

        Returns its state when IBKR has spoken, at the latest after `wait_s` (None: the acknowledgement timeout).
        Raises a DomainError only while provably no byte of it has left.
        """
        found = Violations()
        check_client_order_id(client_order_id, found)
        with found.under("order") as nested:
            spec.violations(nested)
        found.raise_if_any()
        entry = await self._command(self._place(client_order_id, spec, require_transmit))
        return await self._told(entry, lambda status: status.state not in AWAITING_WORD, wait_s)

    async def _place(self, client_order_id: str, spec: OrderSpec, require_transmit: bool) -> Entry:
        async with self._key_locks.setdefault(client_order_id, asyncio.Lock()):
            payload_hash = hashlib.sha256(_SPEC.dump_json(spec)).hexdigest()
            known = self._ledger.find(client_order_id=client_order_id)
            if known is not None and known.payload_hash != payload_hash:
                raise ClientOrderIdConflict(client_order_id)
            if known is not None and known.status.state is not OrderState.NOT_SENT:
                return known
            if require_transmit:
                self.guard.authorize()
            resolved = await self._appraiser.resolve(spec)
            await self._appraiser.check_limits(resolved)
            order_ref = self._store.order_ref(client_order_id)
            entry = new_entry(client_order_id, resolved, payload_hash, order_ref, self._session.client_id)
            if not self.guard.rules.orders_enabled:
                await self._record_intent(entry, OrderState.SIMULATED)
                return entry
            self.guard.authorize()
            self.guard.check_way()
            await self._submit(entry)
            return entry

    async def _submit(self, entry: Entry) -> None:
        """Record the intent, then write the order: at most once, and only while this very connection stands."""
        connection = self._session.linked()
        await self._pacer.take(Priority.ORDER, self.timings.order_pacing_timeout_s)
        entry.client_id = connection.client_id
        entry.status = replace(entry.status, order_id=self._next_order_id(connection))
        # Recorded as written before it is: should the process die in between, the order counts as possibly sent.
        entry.was_written = True
        await self._record_intent(entry, OrderState.PENDING, epoch=connection.epoch)
        # From here to the write nothing is awaited: what is checked now still holds when the bytes leave.
        try:
            self.guard.authorize()
            self.guard.check_way()
            if self._session.linked() is not connection:
                raise connection.disconnected()
        except DomainError:
            entry.was_written = False
            self._move(entry, OrderState.NOT_SENT)
            await self.recorder.settle()
            raise
        assert entry.spec is not None
        try:
            terms = legs_of(entry.spec, entry.order_ref)[0]
            self._wire.place(connection, entry.status.order_id, entry.spec, terms, entry.order_ref)
        except Exception:
            # Whether a byte has left is not known, so neither is the order's fate.
            log.exception("writing an order failed", extra={"client_order_id": entry.status.client_order_id})
            self._move(entry, OrderState.UNKNOWN)
            self._reconciler.request()
        else:
            self._move(entry, OrderState.SENT)
            log.info("order sent", extra=_ids(entry.status))
        self._expect_word(entry)

    async def _record_intent(self, entry: Entry, state: OrderState, *, epoch: int = 0) -> None:
        """Make the intent durable; after this the key is used. Raises AuditUnavailable with nothing recorded."""
        entry.status = replace(entry.status, state=state)
        cause = Cause(principal.get(), correlation_id.get())
        spec, status = entry.spec, entry.status
        assert spec is not None
        stored = StoredOrder(spec, status, entry.payload_hash, entry.order_ref, entry.client_id, entry.was_written)

        def write(tx: Transaction) -> None:
            body = {"spec": _SPEC.dump_python(spec, mode="json"), "state": state, "order_ref": entry.order_ref}
            body |= {"rules": {"mode": self.guard.rules.mode, "orders_enabled": self.guard.rules.orders_enabled}}
            intent = tx.append("order.intent", body, order=status, cause=cause, epoch=epoch)
            tx.save_order(stored, intent.sequence)
            if status.order_id:
                tx.append("order.send", {"order_id": status.order_id}, order=status, cause=cause, epoch=epoch)
                tx.raise_floor(entry.client_id, status.order_id)

        await self._store.transact(write)
        self._ledger.add(entry)
        self.recorder.put(self._ledger.announce(entry))

    # --- cancelling ----------------------------------------------------------------------------------------------

    async def cancel(self, key: OrderKey, *, wait_s: float | None = None) -> OrderStatus:
        """Ask IBKR to cancel an order; repeating it is harmless.

        Returns its state when IBKR has confirmed, at the latest after `wait_s`: then CANCEL_PENDING.
        Raises OrderNotFound, NotCancellable, ScopeMissing, TradingDisabled, BrokerDisconnected with nothing sent.
        """
        entry = self._find(key)
        if entry.status.state is OrderState.CANCELLED:
            return self._recorded(entry)
        if not entry.status.client_order_id:
            raise ScopeMissing("admin")
        if not entry.status.state.is_open:
            raise NotCancellable(entry.status.state)
        await self._command(self._cancel(entry))
        return await self._told(entry, lambda status: not status.state.is_open, wait_s)

    async def _cancel(self, entry: Entry) -> None:
        self.guard.authorize()
        connection = self._session.connection()
        await self._pacer.take(Priority.CANCEL, self.timings.order_pacing_timeout_s)
        cause = Cause(principal.get(), correlation_id.get())
        status = entry.status
        await self._store.transact(
            lambda tx: tx.append("order.cancel", {}, order=status, cause=cause, epoch=connection.epoch)
        )
        if self._session.connection() is not connection:
            raise connection.disconnected()
        try:
            self._wire.cancel(connection, entry.status.order_id)
        except TradingDisabled:
            raise
        except Exception:
            log.exception("writing a cancel failed", extra=_ids(entry.status))
        if entry.status.state in (OrderState.WORKING, OrderState.PARTIAL):
            self._move(entry, OrderState.CANCEL_PENDING)
        self._expect_word(entry)
        log.info("cancel sent", extra=_ids(entry.status))

    # --- previewing ----------------------------------------------------------------------------------------------

    async def preview(self, spec: OrderSpec) -> Preview:
        """What the order would do. Places nothing."""
        found = Violations()
        with found.under("order") as nested:
            spec.violations(nested)
        found.raise_if_any()
        return await self._appraiser.preview(await self._appraiser.resolve(spec), self._ask_what_if)

    async def _ask_what_if(self, spec: OrderSpec, terms: LegTerms) -> WhatIf:
        connection = self._session.linked()
        order_id = self._next_order_id(connection)
        return await self._wire.what_if(connection, order_id, spec, terms, self.timings.what_if_timeout_s)

    # --- reading -------------------------------------------------------------------------------------------------

    def status(self, key: OrderKey) -> OrderStatus:
        """Where an order stands, as recorded. Raises OrderNotFound."""
        return self._recorded(self._find(key))

    def order(self, key: OrderKey) -> Order:
        """An order with its terms and executions. Raises OrderNotFound."""
        entry = self._find(key)
        return Order(self._recorded(entry), entry.spec, entry.recorded_executions)

    async def open_orders(self, *, include_external: bool = False, account_id: str = "") -> tuple[OrderStatus, ...]:
        """Orders that may still fill, oldest first. With `include_external` IBKR is asked for every open order."""
        sighted: set[Entry] = set()
        if include_external:
            sighted = await self._reconciler.sight_open_orders()
            await self.recorder.settle()
        shown = [
            entry
            for entry in self._ledger
            if entry.status.state.is_open and (entry.status.client_order_id or entry in sighted)
        ]
        statuses = [self._recorded(entry) for entry in shown]
        return tuple(
            sorted(
                (status for status in statuses if account_id in ("", status.account_id)),
                key=lambda status: status.create_time,
            )
        )

    def own_open_orders(self) -> tuple[OrderStatus, ...]:
        """This gateway's orders that may still fill, as recorded."""
        return tuple(self._recorded(entry) for entry in self._ledger.open_entries())

    def trading_status(self) -> TradingStatus:
        """Whether a valid order would be sent now, and everything in the way."""
        return self.guard.status(self._accounts.accounts())

    # --- small parts ---------------------------------------------------------------------------------------------

    def _next_order_id(self, connection: Connection) -> int:
        """Above everything TWS has named and everything this gateway has ever used: TWS rolls its own back."""
        order_id = max(connection.next_valid_order_id, self._floor + 1)
        if order_id > LAST_ORDER_ID:
            raise OrderIdsExhausted(order_id)
        self._floor = order_id
        return order_id

    async def _load(self) -> None:
        orders, executions, self._floor = await self._store.transact(
            lambda tx: (tx.all_orders(), tx.all_executions(), tx.floor(self._session.client_id))
        )
        fills: defaultdict[str, dict[str, Any]] = defaultdict(dict)
        for execution in executions:
            fills[execution.client_order_id][execution.stem] = execution
        for stored in orders:
            entry = Entry(
                stored.status,
                stored.client_id,
                stored.spec,
                stored.payload_hash,
                stored.order_ref,
                stored.was_written,
                recorded=stored.status,
                fills=fills[stored.status.client_order_id],
            )
            entry.recorded_executions = entry.executions
            self._ledger.add(entry)
            if stored.status.state in AWAITING_WORD:
                # The last life ended before IBKR's word: not written is known, anything else is not.
                self._move(entry, OrderState.UNKNOWN if stored.was_written else OrderState.NOT_SENT, recovered=True)

    def _find(self, key: OrderKey) -> Entry:
        entry = self._ledger.find(
            client_order_id=key.client_order_id,
            client_id=self._session.client_id,
            order_id=key.order_id,
            perm_id=key.perm_id,
        )
        if entry is None:
            raise OrderNotFound(str(key))
        return entry

    def _recorded(self, entry: Entry) -> OrderStatus:
        return entry.recorded or entry.status

    def _move(self, entry: Entry, state: OrderState, *, recovered: bool = False) -> None:
        self.recorder.put(self._ledger.move(entry, state, datetime.now(UTC), recovered=recovered))

    def _expect_word(self, entry: Entry) -> None:
        """Without IBKR's word in time the order's fate is unknown, whether or not a caller still waits."""
        asyncio.get_running_loop().call_later(self.timings.ack_timeout_s, self._overdue, entry)

    def _overdue(self, entry: Entry) -> None:
        if entry.status.state is OrderState.SENT:
            self._move(entry, OrderState.UNKNOWN)
        if entry.status.state in (OrderState.UNKNOWN, OrderState.CANCEL_PENDING):
            self._reconciler.request()

    async def _told(self, entry: Entry, enough: Callable[[OrderStatus], bool], wait_s: float | None) -> OrderStatus:
        """Wait for a recorded status that is enough, but not longer than IBKR's word may take."""
        longest_s = self.timings.ack_timeout_s + RECORDING_GRACE_S
        with suppress(TimeoutError):
            async with asyncio.timeout(longest_s if wait_s is None else min(wait_s, longest_s)):
                # What has been heard by now is told, not what was known before it.
                await self.recorder.settle()
                while entry.recorded is None or not enough(entry.recorded):
                    await self.recorder.next_commit()
        return self._recorded(entry)

    async def _command(self, command: Coroutine[Any, Any, T]) -> T:
        """Run a command that a caller's going away must not interrupt halfway."""
        task = asyncio.create_task(command)
        self._commands.add(task)
        task.add_done_callback(self._commands.discard)
        return await asyncio.shield(task)


def _ids(status: OrderStatus) -> dict[str, object]:
    return {"client_order_id": status.client_order_id, "order_id": status.order_id, "perm_id": status.perm_id}
