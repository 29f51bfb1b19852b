"""Where the session stands, for everyone who is not the supervisor: to read, to wait for, and to hook into."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import AsyncIterator, Awaitable, Callable, Mapping
from contextlib import suppress
from datetime import datetime, timedelta
from typing import TypeVarTuple, Unpack

from ibkr_gateway_server.broker.connection import BrokerAddress, Connection
from ibkr_gateway_server.broker.heartbeat import Heartbeat
from ibkr_gateway_server.broker.timings import SessionTimings
from ibkr_gateway_server.domain.errors import (
    BrokerDisconnected,
    BrokerLinkDown,
    BrokerTimeout,
    Reason,
    SessionAway,
    SessionEnded,
    SessionSyncing,
    ShuttingDown,
)
from ibkr_gateway_server.domain.sessions import Farm, SessionEvent, SessionState, SessionStatus
from ibkr_gateway_server.domain.tallies import SESSION_STATE, Tallies

log = logging.getLogger(__name__)

Args = TypeVarTuple("Args")
SyncHook = Callable[[Connection], Awaitable[None]]


class Standing:
    """The status, its readers and its hooks. The supervisor sets it; nobody else does."""

    def __init__(
        self,
        address: BrokerAddress,
        client_id: int,
        timings: SessionTimings | None,
        now: Callable[[], datetime],
        tallies: Tallies | None,
    ) -> None:
        self.now = now
        """The wall clock in UTC, of everything that belongs to the session."""
        self.tallies = tallies or Tallies()
        """What is counted of the session and of everything that belongs to it."""
        self.address = address
        self.client_id = client_id
        self.timings = timings or SessionTimings()
        self.status = SessionStatus(SessionState.CONNECTING, 0, self.now(), Reason.BROKER_DISCONNECTED)
        self._connection: Connection | None = None
        self._heartbeat: Heartbeat | None = None
        self._changed = asyncio.Event()
        self._sync_hooks: list[SyncHook] = []
        self._lost_hooks: list[Callable[[str], None]] = []
        self._notice_hooks: list[Callable[[int, str], None]] = []
        self._undecodable_hooks: list[Callable[[], None]] = []
        self._event_hooks: list[Callable[[SessionEvent], None]] = []

    # --- reading -------------------------------------------------------------------------------------------------

    @property
    def epoch(self) -> int:
        """Connections made since the start; a change means a reconnect in between."""
        return self.status.epoch

    def connection(self) -> Connection:
        """The connection, read in, or at least of use for data.

        Raises BrokerDisconnected, SessionSyncing, ShuttingDown, SessionEnded.
        """
        state = self.status.state
        if state is SessionState.STOPPING:
            raise ShuttingDown
        if state is SessionState.FATAL:
            raise SessionEnded(self.status.message)
        if self._connection is not None and not self._connection.closed.is_set():
            if state.is_connected or self.status.serves_data:
                return self._connection
            if state.is_syncing:
                raise SessionSyncing(state)
        raise BrokerDisconnected(self.address.host, self.address.port)

    def linked(self) -> Connection:
        """The connection, where TWS also reaches IBKR. Raises BrokerLinkDown besides those of `connection`."""
        connection = self.connection()
        if self.status.state is SessionState.LINK_DOWN:
            raise BrokerLinkDown
        return connection

    def synced(self) -> Connection:
        """The connection, where accounts and orders are read in to their end as well.

        Raises SessionSyncing while a part of them is missing, besides those of `linked`.
        """
        connection = self.linked()
        if self.status.state.is_syncing:
            raise SessionSyncing(self.status.state)
        return connection

    async def changes(self) -> AsyncIterator[SessionStatus]:
        """The status now, and each newer one; a slow reader sees the newest."""
        while True:
            status, changed = self.status, self._changed
            yield status
            if self.status is status:
                await changed.wait()

    async def changed(self, known: SessionStatus, timeout_s: float, or_set: asyncio.Event) -> None:
        """Returns when the status is no longer the known one, the event is set, or the time is over."""
        if self.status is not known:
            return
        waits = [asyncio.ensure_future(event.wait()) for event in (self._changed, or_set)]
        try:
            await asyncio.wait(waits, timeout=max(timeout_s, 0), return_when=asyncio.FIRST_COMPLETED)
        finally:
            for wait in waits:
                wait.cancel()

    async def wait_until_ready(self, timeout_s: float) -> None:
        """Returns once READY. Raises BrokerTimeout."""
        try:
            async with asyncio.timeout(timeout_s):
                async for status in self.changes():
                    if status.state.is_linked:
                        return
        except TimeoutError:
            raise BrokerTimeout("the session to become ready", timeout_s) from None

    async def until_served(self) -> None:
        """Returns once requests for data are answered. Raises SessionEnded, ShuttingDown where they never will be."""
        async for _ in self.changes():
            with suppress(SessionAway):
                self.linked()
                return

    async def server_time(self) -> tuple[datetime, datetime]:
        """IBKR's clock (whole seconds) and ours when it answered, UTC. Costs one message, at most one a second."""
        connection = self.connection()
        if self._heartbeat is None:
            raise connection.disconnected()
        return await self._heartbeat.time(self.timings.request_timeout_s)

    # --- hooks ---------------------------------------------------------------------------------------------------

    def on_sync(self, hook: SyncHook) -> None:
        """Awaited in order in every epoch before READY; its error fails the sync and leads to a reconnect."""
        self._sync_hooks.append(hook)

    def on_lost(self, hook: Callable[[str], None]) -> None:
        """Called with the reason when the socket or TWS's link to IBKR is lost."""
        self._lost_hooks.append(hook)

    def on_notice(self, hook: Callable[[int, str], None]) -> None:
        """Called with each of IBKR's messages that speak of no request."""
        self._notice_hooks.append(hook)

    def on_undecodable(self, hook: Callable[[], None]) -> None:
        """Called when a message about orders or executions could not be read: something may have been missed."""
        self._undecodable_hooks.append(hook)

    def on_event(self, hook: Callable[[SessionEvent], None]) -> None:
        """Called with everything that belongs into the record, in order, as it happens."""
        self._event_hooks.append(hook)

    # --- telling -------------------------------------------------------------------------------------------------

    def _set(
        self,
        state: SessionState,
        *,
        reason: str = "",
        message: str = "",
        next_attempt_time: datetime | None = None,
        farms: tuple[Farm, ...] = (),
        serves_data: bool = False,
    ) -> None:
        """It stands so from now on; who waits for that hears of it, unless it stood so before."""
        before = self.status
        skew = self._heartbeat.clock_skew if self._heartbeat is not None else None
        if skew is not None and abs(skew.total_seconds()) > self.timings.clock_skew_limit_s:
            message = "; ".join(filter(None, (message, _skewed(skew))))
        status = SessionStatus(
            state=state,
            epoch=before.epoch,
            since_time=before.since_time if state is before.state else self.now(),
            reason=reason,
            message=message,
            next_attempt_time=next_attempt_time,
            farms=farms,
            clock_skew=skew,
            serves_data=serves_data,
        )
        if status == before:
            return
        self.status = status
        if state is not before.state:
            self.tallies.set(SESSION_STATE, 0.0, before.state)
            self._tell_event("session.transition", {"from": before.state, "to": state, "reason": reason})
        self.tallies.set(SESSION_STATE, 1.0, state)
        changed, self._changed = self._changed, asyncio.Event()
        changed.set()

    def _tell_event(self, kind: str, body: Mapping[str, object]) -> None:
        event = SessionEvent(kind, self.epoch, body)
        for hook in self._event_hooks:
            call(hook, event)


def call(hook: Callable[[Unpack[Args]], None], *args: Unpack[Args]) -> None:
    """A hook that fails must not keep the others from hearing."""
    try:
        hook(*args)
    except Exception:
        log.exception("a session hook failed")


def _skewed(skew: timedelta) -> str:
    seconds = round(abs(skew.total_seconds()))
    return f"CLOCK_SKEW: IBKR's clock is {seconds} s {'ahead of' if skew > timedelta(0) else 'behind'} this machine's"
