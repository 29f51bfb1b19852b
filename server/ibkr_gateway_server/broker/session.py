"""The supervised session: one connection to TWS at a time, made again whenever it is lost.

    CONNECTING → HANDSHAKING → SYNCING → READY ⇄ LINK_DOWN | FARM_DEGRADED
         ↑                                  │
    RECONNECTING ←──────────────────────────┘ (socket lost, heartbeat missed)

One task owns the state; callbacks only post what they heard. What depends on the session hooks in: `on_sync` is
awaited in every new epoch before READY, `on_lost` hears why data or orders stop, `on_notice` hears IBKR's
connectivity codes.
"""

from __future__ import annotations

import asyncio
import logging
import random
from collections.abc import AsyncIterator, Awaitable, Callable
from dataclasses import dataclass, replace
from datetime import UTC, datetime, timedelta
from typing import TypeVarTuple, Unpack

from ibkr_gateway_server.broker.connection import BrokerAddress, Connection
from ibkr_gateway_server.broker.pacing import Pacer, Priority
from ibkr_gateway_server.domain.clock import utc_now
from ibkr_gateway_server.domain.errors import (
    BrokerDisconnected,
    BrokerLinkDown,
    BrokerTimeout,
    DomainError,
    Reason,
    SessionSyncing,
    ShuttingDown,
)
from ibkr_gateway_server.domain.sessions import Farm, SessionState, SessionStatus
from ibkr_gateway_server.domain.tallies import Tallies

log = logging.getLogger(__name__)

# Source: TWS API, message codes: 1100 and 2110 lost, 1101 restored with data lost, 1102 restored with data kept.
LINK_LOST = frozenset({1100, 2110})
LINK_RESTORED = frozenset({1101, 1102})
FARM_OK = frozenset({2104, 2106, 2158})
FARM_IDLE = frozenset({2107, 2108})
FARM_BROKEN = frozenset({2103, 2105, 2157})
CLIENT_ID_IN_USE = 326
# orderStatus, openOrder, execDetails, commissionReport, completedOrder and the ends of their lists.
ABOUT_ORDERS = frozenset({3, 5, 11, 53, 55, 59, 101, 102})
# TWS silently ignores a second time request within a second.
SERVER_TIME_KEPT_S = 1.0

Args = TypeVarTuple("Args")
SyncHook = Callable[[Connection], Awaitable[None]]


@dataclass(frozen=True, slots=True)
class SessionTimings:
    """How long the session waits, in seconds."""

    connect_timeout_s: float = 5.0
    """Opening the socket and the handshake, until accounts and order id have come."""
    sync_timeout_s: float = 20.0
    """Reading accounts, positions and orders after the handshake."""
    request_timeout_s: float = 10.0
    """One request to TWS."""
    heartbeat_interval_s: float = 15.0
    """Between two questions for the time, which show that TWS still answers."""
    heartbeat_timeout_s: float = 5.0
    """For each answer; two misses and silence for 30 s mean a dead connection."""
    silence_limit_s: float = 30.0
    """Without any message, beside missed heartbeats, before the connection is given up."""
    first_backoff_s: float = 0.5
    """Most before the first new attempt; it doubles each time, and the wait is random below it."""
    backoff_limit_s: float = 30.0
    """Most between two attempts."""
    settled_after_s: float = 60.0
    """Ready for so long, the next loss starts again at the first backoff."""


class Session:
    """The one session with TWS. `run` supervises it; everything else reads it."""

    def __init__(
        self,
        address: BrokerAddress,
        client_id: int,
        pacer: Pacer,
        timings: SessionTimings | None = None,
        *,
        jitter: random.Random | None = None,
        observe: Callable[[str, str, float], None] | None = None,
        now: Callable[[], datetime] = utc_now,
        tallies: Tallies | None = None,
    ) -> None:
        self.now = now
        """The wall clock in UTC, of everything that belongs to the session."""
        self.tallies = tallies or Tallies()
        """What is counted of the session and of everything that belongs to it."""
        self.address = address
        self.client_id = client_id
        self.timings = timings or SessionTimings()
        self.status = SessionStatus(SessionState.CONNECTING, 0, self.now(), Reason.BROKER_DISCONNECTED)
        self.undecodable_count = 0
        self._pacer = pacer
        self._jitter = jitter or random.Random()
        self._observe = observe
        self._connection: Connection | None = None
        self._changed = asyncio.Event()
        self._sync_hooks: list[SyncHook] = []
        self._lost_hooks: list[Callable[[str], None]] = []
        self._notice_hooks: list[Callable[[int, str], None]] = []
        self._undecodable_hooks: list[Callable[[], None]] = []
        self._farms: dict[str, Farm] = {}
        self._last_refusal: tuple[int, str] | None = None
        self._server_time: tuple[datetime, datetime] | None = None

    # --- reading -------------------------------------------------------------------------------------------------

    @property
    def epoch(self) -> int:
        """Connections made since the start; a change means a reconnect in between."""
        return self.status.epoch

    def connection(self) -> Connection:
        """The connection, synced. Raises BrokerDisconnected, SessionSyncing, ShuttingDown."""
        if self.status.state is SessionState.STOPPING:
            raise ShuttingDown
        if self._connection is not None and self._connection.is_open:
            if self.status.state.is_connected:
                return self._connection
            raise SessionSyncing(self.status.state)
        raise BrokerDisconnected(self.address.host, self.address.port)

    def linked(self) -> Connection:
        """The connection, where TWS also reaches IBKR. Raises BrokerLinkDown besides those of `connection`."""
        connection = self.connection()
        if self.status.state is SessionState.LINK_DOWN:
            raise BrokerLinkDown
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

    async def server_time(self) -> tuple[datetime, datetime]:
        """IBKR's clock (whole seconds) and ours when it answered, UTC. Costs one message, at most one a second."""
        connection = self.connection()
        if self._server_time is not None:
            age = self.now() - self._server_time[1]
            if timedelta(0) <= age < timedelta(seconds=SERVER_TIME_KEPT_S):
                return self._server_time[0] + age, self._server_time[1] + age
        return await self._ask_time(connection, self.timings.request_timeout_s)

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

    # --- supervising ---------------------------------------------------------------------------------------------

    async def run(self) -> None:
        """Keep a connection until cancelled."""
        backoff_s = self.timings.first_backoff_s
        try:
            while True:
                started = asyncio.get_running_loop().time()
                try:
                    await self._one_epoch()
                except DomainError as error:
                    settled = asyncio.get_running_loop().time() - started > self.timings.settled_after_s
                    backoff_s = self.timings.first_backoff_s if settled else backoff_s
                    await self._back_off(error, self._jitter.uniform(0, backoff_s))
                    backoff_s = min(backoff_s * 2, self.timings.backoff_limit_s)
        finally:
            self._set(SessionState.STOPPING, reason=Reason.SHUTTING_DOWN, message="the gateway is stopping")
            self._drop_connection()

    async def _one_epoch(self) -> None:
        """Connect, sync and serve; ends by raising why the connection was lost."""
        self._set(SessionState.CONNECTING, message=f"connecting to {self.address}")
        connection = Connection(self.address, self.client_id, self.epoch + 1, self._observe, self.now, self.tallies)
        connection.callbacks.on_notice = self._on_notice
        connection.callbacks.on_undecodable = self._on_undecodable
        self._last_refusal = None
        try:
            await connection.open(self.timings.connect_timeout_s)
            self._connection = connection
            self.status = replace(self.status, epoch=connection.epoch)
            self._set(SessionState.SYNCING, reason=Reason.SESSION_SYNCING, message="reading accounts and orders")
            await self._sync(connection)
            self._set_ready()
            log.info("session ready", extra={"epoch": connection.epoch, "server_version": connection.server_version})
            await self._watch(connection)
        finally:
            self._connection = connection
            was_connected = self.status.state.is_connected
            self._drop_connection()
            if was_connected:
                self._tell_lost(Reason.BROKER_DISCONNECTED)

    async def _sync(self, connection: Connection) -> None:
        try:
            async with asyncio.timeout(self.timings.sync_timeout_s):
                for hook in self._sync_hooks:
                    await hook(connection)
        except TimeoutError:
            raise BrokerTimeout("the first questions after connecting", self.timings.sync_timeout_s) from None

    async def _watch(self, connection: Connection) -> None:
        """Ask for the time again and again, until the connection is lost or no longer answers."""
        misses = 0
        last_heard, last_count = asyncio.get_running_loop().time(), -1
        while True:
            try:
                async with asyncio.timeout(self.timings.heartbeat_interval_s):
                    await connection.closed.wait()
                raise connection.disconnected()
            except TimeoutError:
                pass
            try:
                await self._ask_time(connection, self.timings.heartbeat_timeout_s)
                misses = 0
            except BrokerTimeout:
                misses += 1
                log.warning("heartbeat missed", extra={"misses": misses})
            now = asyncio.get_running_loop().time()
            if connection.callbacks.received_count != last_count:
                last_heard, last_count = now, connection.callbacks.received_count
            if misses >= 2 and now - last_heard >= self.timings.silence_limit_s:
                raise BrokerTimeout("the heartbeat", self.timings.silence_limit_s)

    async def _ask_time(self, connection: Connection, timeout_s: float) -> tuple[datetime, datetime]:
        await self._pacer.take(Priority.HEARTBEAT, timeout_s)
        rows = await connection.ask_shared("currentTime", connection.client.reqCurrentTime, timeout_s=timeout_s)
        self._server_time = (datetime.fromtimestamp(rows[0], UTC), self.now())
        return self._server_time

    async def _back_off(self, error: DomainError, wait_s: float) -> None:
        message = error.message
        if self._last_refusal is not None:
            message = f"TWS said {self._last_refusal[0]}: {self._last_refusal[1]}"
        reason = Reason.BROKER_DISCONNECTED
        next_attempt = self.now() + timedelta(seconds=wait_s)
        self._set(SessionState.RECONNECTING, reason=reason, message=message, next_attempt_time=next_attempt)
        log.warning("session lost", extra={"reason": error.reason, "text": message, "retry_in_s": round(wait_s, 2)})
        await asyncio.sleep(wait_s)

    def _drop_connection(self) -> None:
        if self._connection is not None:
            self._connection.close()
        self._connection = None
        self._farms.clear()
        self._server_time = None

    # --- what TWS says of itself ---------------------------------------------------------------------------------

    def _on_notice(self, code: int, text: str) -> None:
        log.info("TWS notice", extra={"ibkr_code": code, "text": text})
        if code in LINK_LOST and self.status.state.is_linked:
            self._set(SessionState.LINK_DOWN, reason=Reason.BROKER_LINK_DOWN, message=text)
            self._tell_lost(Reason.BROKER_LINK_DOWN)
        elif code in LINK_RESTORED and self.status.state is SessionState.LINK_DOWN:
            self._set_ready()
        elif code in FARM_OK | FARM_IDLE | FARM_BROKEN:
            self._note_farm(code, text)
        elif code == CLIENT_ID_IN_USE or not self.status.state.is_connected:
            self._last_refusal = (code, text)
        for hook in self._notice_hooks:
            _call(hook, code, text)

    def _note_farm(self, code: int, text: str) -> None:
        """Farms are named at the end: "…is OK:usfarm", and for 2107 "…upon demand.ushmds"."""
        name = text.replace(":", ".").rpartition(".")[2].strip()
        self._farms[name] = Farm(name, code, code not in FARM_BROKEN)
        # A farm's recovery says nothing of a lost link: LINK_DOWN stays until 1101 or 1102.
        if self.status.state.is_linked:
            self._set_ready()

    def _on_undecodable(self, message_id: int, _digest: str) -> None:
        self.undecodable_count += 1
        if message_id in ABOUT_ORDERS:
            for hook in self._undecodable_hooks:
                _call(hook)

    def _set_ready(self) -> None:
        broken = sorted(farm.name for farm in self._farms.values() if not farm.is_ok)
        if broken:
            self._set(SessionState.FARM_DEGRADED, message=f"data farms are down: {', '.join(broken)}")
        else:
            self._set(SessionState.READY)

    def _tell_lost(self, reason: str) -> None:
        for hook in self._lost_hooks:
            _call(hook, reason)

    def _set(
        self,
        state: SessionState,
        *,
        reason: str = "",
        message: str = "",
        next_attempt_time: datetime | None = None,
    ) -> None:
        same = state is self.status.state
        self.status = SessionStatus(
            state=state,
            epoch=self.status.epoch,
            since_time=self.status.since_time if same else self.now(),
            reason=reason,
            message=message,
            next_attempt_time=next_attempt_time,
            farms=tuple(self._farms.values()),
        )
        changed, self._changed = self._changed, asyncio.Event()
        changed.set()


def _call(hook: Callable[[Unpack[Args]], None], *args: Unpack[Args]) -> None:
    """A hook that fails must not keep the others from hearing."""
    try:
        hook(*args)
    except Exception:
        log.exception("a session hook failed")
