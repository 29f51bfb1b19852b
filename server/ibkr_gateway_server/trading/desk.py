"""The desk: the only way to an order.

Place: refuse what is wrong → recognise a repeated key → record the intent durably → check once more, with nothing
awaited in between → write → wait for IBKR's word. At most one submission per client_order_id, and a state that is
true or UNKNOWN. How it writes is in `submission`, how it cancels in `cancels`, what it knows in `ledger`, how it comes
to know what it missed in `reconcile`.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import AsyncIterator, Callable, Iterable
from contextlib import asynccontextmanager
from dataclasses import replace
from weakref import WeakValueDictionary

from ibkr_gateway_server.audit.store import AuditStore
from ibkr_gateway_server.audit.stored import OrderIds as RecordedIds
from ibkr_gateway_server.audit.stored import hash_of
from ibkr_gateway_server.broker.accounts import Accounts
from ibkr_gateway_server.broker.contracts import Contracts
from ibkr_gateway_server.broker.market_data import MarketData
from ibkr_gateway_server.broker.orders import LAST_ORDER_ID, OrderWire
from ibkr_gateway_server.broker.pacing import Pacer
from ibkr_gateway_server.broker.session import Session
from ibkr_gateway_server.domain.errors import ClientOrderIdConflict, DomainError, OrderNotFound, Violations
from ibkr_gateway_server.domain.orders import (
    LegTerms,
    ModificationState,
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
from ibkr_gateway_server.domain.tallies import IDEMPOTENT_HITS, ORDER_ID_FLOOR, ORDERS_UNKNOWN
from ibkr_gateway_server.logs import principal
from ibkr_gateway_server.trading import changes
from ibkr_gateway_server.trading.appraisal import Appraiser
from ibkr_gateway_server.trading.cancels import Cancels, cancel_is_answered
from ibkr_gateway_server.trading.doubts import Doubts
from ibkr_gateway_server.trading.entries import Entry, Intent, Modification, new_intent
from ibkr_gateway_server.trading.guard import Guard, TradingRules
from ibkr_gateway_server.trading.ledger import Ledger
from ibkr_gateway_server.trading.loading import load
from ibkr_gateway_server.trading.plan import legs_of
from ibkr_gateway_server.trading.precedents import Precedents
from ibkr_gateway_server.trading.previews import PreviewRecord, PreviewTokens
from ibkr_gateway_server.trading.reconcile import Reconciler
from ibkr_gateway_server.trading.recorder import Recorder
from ibkr_gateway_server.trading.refusals import Refusals
from ibkr_gateway_server.trading.submission import Means, OrderIds, Submission, ids_of
from ibkr_gateway_server.trading.timings import DeskTimings as DeskTimings
from ibkr_gateway_server.trading.waiting import AWAITING_WORD, Waiting

log = logging.getLogger(__name__)


class Desk:
    """Places, changes, cancels and knows orders. An async context manager by `running()`."""

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
        self.timings = timings = timings or DeskTimings()
        self.recorder = Recorder(store)
        self._ids = OrderIds(LAST_ORDER_ID)
        self.guard = Guard(rules, session.for_orders, self.recorder.check, lambda: self._ids.look(session.for_orders()))
        self._session = session
        self._accounts = accounts
        self._appraiser = Appraiser(self.guard, contracts, accounts, market_data, timings.preview_quote_timeout_s)
        self._store = store
        self._refusals = Refusals(store)
        self._previews = PreviewRecord(store)
        self._tokens = PreviewTokens(session.now)
        self._ledger = Ledger(store.mark_of, cancel_is_lost=lambda entry: self._cancels.is_lost(entry))
        self._precedents = Precedents(self._ledger, self.guard)
        doubts = Doubts(timings.patience(rules.mode), asyncio.get_running_loop().time)
        self._reconciler = Reconciler(session, self._ledger, self.recorder, doubts, timings.evidence_timeout_s)
        self._wire = OrderWire(pacer, self.guard, self._reconciler.hear)
        self._reconciler.use(self._wire)
        self._waiting = Waiting(self.recorder, session.now, timings.ack_timeout_s, self._reconciler.request)
        means = Means(self.guard, session, pacer, store, self._ledger, self.recorder)
        self._submission = Submission(
            self._wire,
            self._ids,
            means,
            pacing_timeout_s=timings.order_pacing_timeout_s,
            in_doubt=self._reconciler.request,
        )
        self._cancels = Cancels(
            self._wire,
            means,
            ack_timeout_s=timings.ack_timeout_s,
            pacing_timeout_s=timings.order_pacing_timeout_s,
            expect_word=self._waiting.expect_word,
        )
        self._reconciler.on_reconciled(self._cancels.retry_owed)
        self._key_locks: WeakValueDictionary[str, asyncio.Lock] = WeakValueDictionary()

        session.tallies.watch(ORDERS_UNKNOWN, self._ledger.unknown_count)
        session.tallies.watch(ORDER_ID_FLOOR, lambda: self._ids.floor)

    def on_reconciled(self, hook: Callable[[], None]) -> None:
        """Called whenever all that IBKR knows of our orders has been heard, recorded and told."""
        self._reconciler.on_reconciled(hook)

    @asynccontextmanager
    async def running(self) -> AsyncIterator[None]:
        """Load the record, then keep writing and reconciling; on the way out running commands end first."""
        self._ids.floor, recovered = await load(self._store, self._ledger, self._session)
        self.recorder.put(recovered)
        async with asyncio.TaskGroup() as tasks:
            work = (self.recorder.run(), self._reconciler.run(), self._cancels.run())
            background = [tasks.create_task(each) for each in work]
            try:
                yield
            finally:
                await self.drain()
                for task in background:
                    task.cancel()

    async def drain(self) -> None:
        """Refuse new orders and let those under way come to their answer. Working orders stay at the broker."""
        self.guard.drain()
        await self._waiting.end()

    # --- placing -------------------------------------------------------------------------------------------------

    async def place(
        self,
        client_order_id: str,
        spec: OrderSpec,
        *,
        require_transmit: bool = False,
        preview_token: str = "",
        wait_s: float | None = None,
    ) -> OrderStatus:
        """Place an order, once, whatever the caller does: the same key and terms are the same order.

        Returns the state of its entry when IBKR has spoken of all legs, at the latest after `wait_s` (None: the
        acknowledgement timeout). Raises a DomainError only while provably no byte of it has left.
        """
        _check(client_order_id, spec)
        intent = await self._waiting.command(self._place(client_order_id, spec, require_transmit, preview_token))
        awaited = () if intent.is_staged else intent
        await self._waiting.told(awaited, lambda _, status: status.state not in AWAITING_WORD, wait_s)
        return self._recorded(intent.entry)

    async def _place(self, client_order_id: str, spec: OrderSpec, require_transmit: bool, token: str) -> Intent:
        refusals = self._refusals.of(RecordedIds(client_order_id), "order.refused")
        async with self._key_locks.setdefault(client_order_id, asyncio.Lock()), refusals:
            payload_hash = hash_of(spec)
            known = self._ledger.intent(client_order_id)
            if known is not None and known.payload_hash != payload_hash:
                raise ClientOrderIdConflict(client_order_id)
            if known is not None and any(leg.status.state is not OrderState.NOT_SENT for leg in known):
                self._session.tallies.add(IDEMPOTENT_HITS)
                return known
            if token:
                self._tokens.redeem(token, payload_hash, client_order_id)
            if require_transmit or self.guard.rules.orders_enabled:
                self.guard.check()
            resolved = await self._appraiser.resolve(spec)
            await self._appraiser.check_limits(resolved)
            intent, market = self._intent(client_order_id, resolved, payload_hash), self._appraiser.market(resolved)
            with self._precedents.admitting(intent, self._session.now()):
                if not self.guard.rules.orders_enabled:
                    await self._submission.simulate(intent, market)
                    return intent
                self.guard.check()
                await self._submission.place(intent, market)
            for entry in intent if not intent.is_staged else ():
                self._waiting.expect_word(entry)
            return intent

    def _intent(self, client_order_id: str, spec: OrderSpec, payload_hash: str) -> Intent:
        group = self._store.order_ref(client_order_id)
        legs = {leg.role: (leg, self._store.order_ref(client_order_id, leg.role)) for leg in legs_of(spec, group)}
        client_id, now = self._session.client_id, self._session.now()
        return new_intent(client_order_id, spec, payload_hash, legs, client_id, now, principal.get())

    # --- changing ------------------------------------------------------------------------------------------------

    async def modify(
        self,
        client_order_id: str,
        modify_id: str,
        spec: OrderSpec,
        *,
        wait_s: float | None = None,
        may_touch_others: bool = False,
    ) -> OrderStatus:
        """Restate a working order, of a bracket all legs; only prices and quantities may differ.

        Returns its state when IBKR shows the new terms or refuses them, at the latest after `wait_s`: then with
        `pending_modify_id`. Raises a DomainError only while provably no byte of it has left: OrderNotFound,
        NotModifiable, ReconciliationRequired, ClientOrderIdConflict, and those of `place`.
        """
        _check(modify_id, spec, "modify_id")
        intent = self._ledger.intent(client_order_id)
        if intent is None:
            raise OrderNotFound(client_order_id)
        await self._waiting.command(self._modify(intent, modify_id, spec, may_touch_others))
        # However little time there is: an answer without the pending change would mean that it has come to its end.
        await self.recorder.settle()
        await self._waiting.told(intent, lambda _, status: not status.pending_modify_id, wait_s)
        return self._recorded(intent.entry)

    async def _modify(self, intent: Intent, modify_id: str, spec: OrderSpec, may_touch_others: bool) -> None:
        refusals = self._refusals.of(RecordedIds(intent.client_order_id), "order.modify.refused")
        async with self._key_locks.setdefault(intent.client_order_id, asyncio.Lock()), refusals:
            self._cancels.check_owner(intent.entry, may_touch_others=may_touch_others)
            payload_hash = hash_of(spec)
            known, meant = self._ledger.change(modify_id), (intent.client_order_id, payload_hash)
            if known is not None and (known.client_order_id, known.payload_hash) != meant:
                raise ClientOrderIdConflict(modify_id)
            if known is not None and known.state is not ModificationState.NOT_SENT:
                return
            self.guard.check()
            resolved = await self._appraiser.resolve(spec)
            group = self._store.order_ref(intent.client_order_id)
            targets = changes.targets(intent, resolved, legs_of(resolved, group))
            if not targets:
                return
            await self._appraiser.check_limits(resolved)
            change = Modification(
                modify_id, intent.client_order_id, payload_hash, resolved, ModificationState.PENDING, targets
            )
            await self._submission.change(intent, change)
            for role in list(change.targets):
                self._waiting.expect_word(intent.legs[role])

    # --- cancelling ----------------------------------------------------------------------------------------------

    async def cancel(
        self, key: OrderKey, *, wait_s: float | None = None, may_touch_others: bool = False
    ) -> OrderStatus:
        """Ask IBKR to cancel an order, of a plan what is left of it; repeating it is harmless.

        Returns its state when IBKR has confirmed or refused, at the latest after `wait_s`: then CANCEL_PENDING.
        Raises OrderNotFound, NotCancellable, ScopeMissing, TradingDisabled, BrokerDisconnected with nothing sent.
        """
        about = RecordedIds(key.client_order_id, key.order_id, key.perm_id)
        async with self._refusals.of(about, "order.cancel.refused"):
            found = self._find(key)
            plan = found.intent if key.client_order_id else None
            named = self._cancels.targets(plan, key.leg_role) if plan is not None else [found]
            targets = [entry for entry in named if entry.status.state is not OrderState.CANCELLED]
            for entry in targets:
                self._cancels.check(entry, may_touch_others=may_touch_others)
            await self._waiting.command(self._cancels.send(targets))
        await self._waiting.told(targets, cancel_is_answered, wait_s)
        return self._recorded(found)

    async def cancel_set(
        self, keys: Iterable[OrderKey], *, wait_s: float | None = None, may_touch_others: bool = False
    ) -> list[OrderStatus | DomainError]:
        """Cancel several, each by itself: its state, or why not, in the order asked."""
        cancels = [self.cancel(key, wait_s=wait_s, may_touch_others=may_touch_others) for key in dict.fromkeys(keys)]
        results = await asyncio.gather(*cancels, return_exceptions=True)
        for result in results:
            if isinstance(result, BaseException) and not isinstance(result, DomainError):
                raise result
        return [result for result in results if isinstance(result, OrderStatus | DomainError)]

    async def ended(self, keys: Iterable[OrderKey], wait_s: float | None) -> None:
        """Returns when the cancels of these orders are answered, at the latest after `wait_s`."""
        await self._waiting.told([self._find(key) for key in keys], cancel_is_answered, wait_s)

    def open_keys(self, account_id: str = "", *, of_caller: bool = False) -> tuple[OrderKey, ...]:
        """This gateway's orders that may still fill, or the caller's alone, one key for each leg, oldest first."""
        return tuple(
            OrderKey(entry.status.client_order_id, leg_role=entry.status.leg_role)
            for entry in self._ledger.open_entries()
            if account_id in ("", entry.status.account_id)
            and (not of_caller or (entry.intent is not None and entry.intent.principal == principal.get()))
        )

    async def cancel_open(self, *, reason: str) -> int:
        """Cancel every open order of this gateway. Returns how many cancels were sent; what could not be is logged."""
        entries = self._ledger.open_entries()
        log.warning("cancelling every open order", extra={"open_orders": len(entries), "reason": reason})
        sent = 0
        for entry in entries:
            try:
                sent += await self._waiting.command(self._cancels.send([entry], timeout_s=self.timings.ack_timeout_s))
            except DomainError as error:
                log.error("an open order could not be cancelled", extra={**ids_of(entry), "reason": error.reason})
        return sent

    async def cancel_global(self) -> int:
        """Cancel every order of the login, also those placed elsewhere. Returns how many of ours were open.

        Raises TradingDisabled, BrokerDisconnected, AuditUnavailable, OrderRate with nothing sent.
        """
        return await self._waiting.command(self._cancels.send_all())

    # --- previewing ----------------------------------------------------------------------------------------------

    async def preview(self, spec: OrderSpec) -> Preview:
        """What the order would do, with a token that PlaceOrder takes for exactly this. Places nothing."""
        _check(None, spec)
        preview = await self._appraiser.preview(await self._appraiser.resolve(spec), self._ask_what_if)
        await self._previews.keep(spec, preview)
        if preview.blockers:
            return preview
        token, expire_time = self._tokens.issue(hash_of(spec))
        return replace(preview, token=token, expire_time=expire_time)

    async def _ask_what_if(self, spec: OrderSpec, terms: LegTerms) -> WhatIf:
        connection = self._session.linked()
        return await self._wire.what_if(
            connection, self._ids.next(connection), spec, terms, self.timings.what_if_timeout_s
        )

    # --- reading -------------------------------------------------------------------------------------------------

    def status(self, key: OrderKey) -> OrderStatus:
        """Where an order stands, as recorded. Raises OrderNotFound."""
        return self._recorded(self._find(key))

    def order(self, key: OrderKey) -> Order:
        """An order with its terms, its legs and their executions. Raises OrderNotFound."""
        entry = self._find(key)
        legs = list(entry.intent) if entry.intent is not None else [entry]
        fills = [fill for leg in legs for fill in leg.recorded_executions]
        return Order(
            self._recorded(entry),
            entry.intent.spec if entry.intent is not None else None,
            tuple(sorted(fills, key=lambda fill: (fill.execution_time, fill.execution_id))),
            tuple(self._recorded(leg) for leg in legs),
        )

    async def open_orders(self, *, include_external: bool = False, account_id: str = "") -> tuple[OrderStatus, ...]:
        """Orders that may still fill, oldest first. With `include_external` IBKR is asked for every open order."""
        sighted: set[Entry] = set()
        if include_external:
            sighted = await self._reconciler.sight_open_orders()
            await self.recorder.settle()
        shown = [
            self._recorded(entry)
            for entry in self._ledger
            if entry.status.state.is_open and (entry.intent is not None or entry in sighted)
        ]
        shown = [status for status in shown if account_id in ("", status.account_id)]
        return tuple(sorted(shown, key=lambda status: status.create_time))

    def own_open_orders(self) -> tuple[OrderStatus, ...]:
        """This gateway's orders that may still fill, as recorded."""
        return tuple(self._recorded(entry) for entry in self._ledger.open_entries())

    def account(self, account_id: str) -> str:
        """The account of the login with this id. Raises AccountNotFound, Unavailable."""
        return self._accounts.account_id(account_id)

    def trading_status(self) -> TradingStatus:
        """Whether a valid order would be sent now, and everything in the way."""
        return self.guard.status(self._accounts.accounts())

    # --- small parts ---------------------------------------------------------------------------------------------

    def _find(self, key: OrderKey) -> Entry:
        entry = self._ledger.find(
            client_order_id=key.client_order_id,
            leg_role=key.leg_role,
            client_id=self._session.client_id,
            order_id=key.order_id,
            perm_id=key.perm_id,
        )
        if entry is None:
            raise OrderNotFound(str(key))
        return entry

    def _recorded(self, entry: Entry) -> OrderStatus:
        return self.recorder.shown(entry) or entry.status


def _check(key: str | None, spec: OrderSpec, name: str = "client_order_id") -> None:
    """Raises FieldsInvalid with everything that is wrong by itself."""
    found = Violations()
    if key is not None:
        check_client_order_id(key, found, name)
    with found.under("order") as nested:
        spec.violations(nested)
    found.raise_if_any()
