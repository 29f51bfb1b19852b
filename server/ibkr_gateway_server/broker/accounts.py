"""Accounts: balances, positions and P&L, kept from TWS's subscriptions.

Everything is subscribed once per connection and shared by all callers. An answer is complete or an error: a list
whose end marker has not come is never taken for an empty account.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable
from contextlib import suppress
from datetime import datetime

from ibkr_gateway_server.broker.account_state import SUMMARY_FIELDS, AccountState, PnlSink, SummarySink
from ibkr_gateway_server.broker.connection import Connection
from ibkr_gateway_server.broker.pacing import Pacer, Priority
from ibkr_gateway_server.broker.session import Session
from ibkr_gateway_server.domain.accounts import (
    AccountPnl,
    AccountSummary,
    AccountValue,
    Position,
)
from ibkr_gateway_server.domain.errors import (
    AccountNotFound,
    AccountNotPinned,
    AccountRequired,
    BrokerLinkDown,
    BrokerTimeout,
)
from ibkr_gateway_server.domain.tallies import SUMMARY_SUBSCRIPTIONS

log = logging.getLogger(__name__)

# How long P&L waits for its positions once the account's own is there; one that TWS cannot price never comes.
SINGLES_S = 2.0
# Between two questions for positions of which one could not be read.
ASK_AGAIN_S = 60.0


class Accounts:
    """Balances, positions and P&L of every account of the login."""

    def __init__(self, session: Session, pacer: Pacer) -> None:
        self._session = session
        self._pacer = pacer
        self._state = AccountState(None, session.now, session.tallies)
        self._listeners: set[Callable[[], None]] = set()
        session.on_sync(self._subscribe)

    def accounts(self) -> tuple[str, ...]:
        """The accounts of this login; none while TWS has not named them."""
        return self._state.accounts

    def account_id(self, requested: str) -> str:
        """The account a request means.

        Raises AccountRequired, AccountNotFound, BrokerDisconnected, SessionSyncing, and AccountNotPinned when the login
        does not have the account that is set.
        """
        accounts = list(self._session.connection().accounts)
        if not accounts:
            raise AccountNotPinned
        if not requested and len(accounts) > 1:
            raise AccountRequired(len(accounts))
        if requested and requested not in accounts:
            raise AccountNotFound
        return requested or accounts[0]

    async def summary(self, requested: str = "") -> AccountSummary:
        """Balances and margin."""
        account = self.account_id(requested)
        state = self._state
        await self._complete(state, state.summary_complete, "reqAccountSummary")
        if state.summary_failure is not None:
            raise state.summary_failure
        return state.summary_of(account)

    async def values(self, requested: str = "") -> tuple[tuple[AccountValue, ...], datetime]:
        """Every value under IBKR's own tags, and when the newest arrived."""
        account = self.account_id(requested)
        await self._subscribe_values(account)
        kept = self._state.of[account]
        ordered = sorted(kept.values.values(), key=lambda value: (value.tag, value.currency))
        return tuple(ordered), kept.values_time or self._session.now()

    async def positions(self, requested: str = "") -> tuple[tuple[Position, ...], datetime]:
        """Positions that are not zero, and when the newest of them changed; marked to market where TWS marks them."""
        account = self.account_id(requested)
        state = self._state
        await self._ask_again(state)
        await self._complete(state, state.positions_complete, "reqPositions")
        try:
            await self._subscribe_values(account)
        except (BrokerLinkDown, BrokerTimeout) as error:
            # What is held is known; what it is worth stays as it was last marked, or absent.
            log.warning("positions are not marked now", extra={"reason": error.reason})
        return state.held(account), state.of[account].positions_time or self._session.now()

    async def pnl(self, requested: str = "", *, with_positions: bool = True) -> AccountPnl:
        """P&L of the account and of each of its positions; a position that TWS does not price is without figures."""
        account = self.account_id(requested)
        if self.is_stale and (known := self.pnl_now(account, with_positions=with_positions)) is not None:
            return known
        self._session.linked()
        positions = (await self.positions(account))[0] if with_positions else ()
        state = self._state
        whole = await self._pnl(state, account, 0)
        singles = [await self._pnl(state, account, held.instrument.con_id) for held in positions]
        if with_positions:
            state.end_pnl_of_others(account, {held.instrument.con_id for held in positions})
        await self._complete(state, whole.arrived, "reqPnL")
        if whole.failure is not None:
            raise whole.failure
        with suppress(TimeoutError):
            async with asyncio.timeout(SINGLES_S):
                for single in singles:
                    await single.arrived.wait()
        await self.summary(account)
        found = state.pnl_of(account, positions)
        if found is None:
            # Refused for another caller while this one waited.
            raise BrokerTimeout("reqPnL", self._session.timings.request_timeout_s)
        return found

    @property
    def is_stale(self) -> bool:
        """True while TWS does not reach IBKR: what it has told stands, and nothing new comes."""
        return not self._session.status.state.is_linked

    def refuse_older_than(self, max_age_s: float) -> None:
        """Raises BrokerLinkDown when what is known has not been true for longer than this: since the link was lost.

        While the link stands whatever was told last is true, however long ago it was told.
        """
        status = self._session.status
        if self.is_stale and (self._session.now() - status.since_time).total_seconds() > max_age_s:
            raise BrokerLinkDown

    # --- following -----------------------------------------------------------------------------------------------

    def listen(self, changed: Callable[[], None]) -> None:
        """Have this called whenever something of any account has changed."""
        self._listeners.add(changed)

    def unlisten(self, changed: Callable[[], None]) -> None:
        """No more."""
        self._listeners.discard(changed)

    def summary_now(self, account: str) -> AccountSummary:
        """What `summary` would answer, without asking for anything."""
        return self._state.summary_of(account)

    def positions_now(self, account: str) -> tuple[Position, ...]:
        """What `positions` would answer, without asking for anything."""
        return self._state.held(account)

    def pnl_now(self, account: str, *, with_positions: bool) -> AccountPnl | None:
        """What `pnl` would answer, without asking for anything; None when it has to be asked for first."""
        return self._state.pnl_of(account, self._state.held(account) if with_positions else ())

    def _tell(self) -> None:
        for changed in list(self._listeners):
            changed()

    # --- subscribing ---------------------------------------------------------------------------------------------

    async def _subscribe(self, connection: Connection) -> None:
        """Part of becoming READY: summary and positions flow from here on, and their first round is complete.

        Called again on the same connection while one of them has no end: then only the positions are asked for again.
        """
        timeout_s = self._session.timings.request_timeout_s
        try:
            if self._state.connection is not connection:
                self._state = connection.callbacks.account_listener = AccountState(
                    connection, self._session.now, self._session.tallies, self._tell
                )
                self._session.tallies.set(SUMMARY_SUBSCRIPTIONS, 1)
                await self._pacer.take(Priority.ACCOUNT, timeout_s)
                request_id = connection.request_id()
                connection.listen(request_id, SummarySink(self._state))
                connection.client.reqAccountSummary(request_id, "All", ",".join(sorted(SUMMARY_FIELDS)))
            state = self._state
            if not state.positions_complete.is_set():
                await self._pacer.take(Priority.ACCOUNT, timeout_s)
                connection.client.reqPositions()
        except ConnectionError:
            # Lost while it waited for its turn.
            raise connection.disconnected() from None
        await self._complete(state, state.summary_complete, "reqAccountSummary")
        if state.summary_failure is not None:
            # Two programs of the login may follow balances at a time; without them the session is of use all the same.
            log.warning("balances cannot be followed", extra={"reason": state.summary_failure.reason})
        await self._complete(state, state.positions_complete, "reqPositions")

    async def _ask_again(self, state: AccountState) -> None:
        """Have TWS tell all positions anew when one of them could not be read; at most once a minute."""
        now = asyncio.get_running_loop().time()
        if state.ask_again_at is None or now < state.ask_again_at or state.positions_complete.is_set():
            return
        state.ask_again_at = now + ASK_AGAIN_S
        await self._pacer.take(Priority.ACCOUNT, self._session.timings.request_timeout_s)
        self._linked(state).client.reqPositions()

    async def _subscribe_values(self, account: str) -> None:
        """TWS sends one account's values and marks at a time; the subscription follows who was asked for last."""
        state, timeout_s = self._state, self._session.timings.request_timeout_s
        try:
            async with asyncio.timeout(timeout_s), state.values_turn:
                if state.values_account == account and state.values_complete.is_set():
                    return
                self._session.linked()
                await self._pacer.take(Priority.ACCOUNT, timeout_s)
                connection = self._linked(state)
                state.values_account, state.values_complete = account, asyncio.Event()
                connection.client.reqAccountUpdates(True, account)
                await self._complete(state, state.values_complete, "reqAccountUpdates")
        except TimeoutError:
            raise BrokerTimeout("reqAccountUpdates", timeout_s) from None

    async def _pnl(self, state: AccountState, account: str, con_id: int) -> PnlSink:
        """The P&L subscription of an account (con_id 0) or of one of its positions; begun when there is none."""
        key = (account, con_id)
        if key not in state.pnl:
            await self._pacer.take(Priority.ACCOUNT, self._session.timings.request_timeout_s)
        if key not in state.pnl:
            state.begin_pnl(self._linked(state), account, con_id)
        return state.pnl[key]

    def _linked(self, state: AccountState) -> Connection:
        """The connection this state is of. Raises BrokerDisconnected when another has followed, BrokerLinkDown."""
        connection = self._session.linked()
        if connection is not state.connection:
            raise connection.disconnected()
        return connection

    async def _complete(self, state: AccountState, complete: asyncio.Event, request: str) -> None:
        """Returns when TWS has ended its answer. Raises BrokerTimeout, BrokerDisconnected when it no longer can."""
        if complete.is_set():
            return
        connection, timeout_s = state.connection or self._session.connection(), self._session.timings.request_timeout_s
        waits = [asyncio.ensure_future(event.wait()) for event in (complete, connection.closed)]
        try:
            await asyncio.wait(waits, timeout=timeout_s, return_when=asyncio.FIRST_COMPLETED)
        finally:
            for wait in waits:
                wait.cancel()
        if not complete.is_set():
            raise connection.disconnected() if connection.closed.is_set() else BrokerTimeout(request, timeout_s)
