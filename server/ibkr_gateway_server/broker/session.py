"""The supervised session: one connection to TWS at a time, made again whenever it is lost.

    CONNECTING → HANDSHAKING → SYNCING → READY ⇄ LINK_DOWN | FARM_DEGRADED
         ↑                                  │
    RECONNECTING ←──────────────────────────┘ (socket lost, heartbeat missed)

One task owns the state; callbacks only post what they heard. What depends on the session hooks in: `on_sync` is
awaited in every new epoch before READY, `on_lost` hears why data or orders stop, `on_notice` hears IBKR's
connectivity codes, `on_event` hears what belongs into the record.

The state follows from facts, and is never set by a single notice: whether there is a connection, whether TWS has its
link, what of the first questions is unanswered, which farms are down. FATAL is where only a person can help.
"""

from __future__ import annotations

import asyncio
import logging
import random
from collections.abc import Callable
from dataclasses import replace
from datetime import datetime, timedelta

from ibkr_gateway_server.broker.backoff import Absence, Backoff
from ibkr_gateway_server.broker.connection import BrokerAddress, Connection
from ibkr_gateway_server.broker.farms import (
    ABOUT_FARMS,
    CLIENT_ID_IN_USE,
    LINK_LOST,
    LINK_RESTORED,
    PORT_CHANGED,
    TOO_FAST,
    Farms,
    NoticeLog,
)
from ibkr_gateway_server.broker.heartbeat import Heartbeat
from ibkr_gateway_server.broker.pacing import Pacer
from ibkr_gateway_server.broker.pinning import AccountPin
from ibkr_gateway_server.broker.standing import Standing, SyncHook, call
from ibkr_gateway_server.broker.timings import SessionTimings
from ibkr_gateway_server.domain.clock import utc_now
from ibkr_gateway_server.domain.errors import (
    AnswerUnreadable,
    BrokerTimeout,
    DomainError,
    Exhausted,
    ReadOnlyApi,
    Reason,
    RestartWindow,
    SessionEnded,
)
from ibkr_gateway_server.domain.restarts import RestartWindows
from ibkr_gateway_server.domain.sessions import SessionState
from ibkr_gateway_server.domain.tallies import (
    BROKER_NOTICES,
    CONNECT_FAILURES,
    PACING_VIOLATIONS,
    RECONNECTS,
    SYNC_INCOMPLETE,
    SYNC_TIMEOUTS,
    Tallies,
)

__all__ = ["LINK_RESTORED", "Session", "SessionTimings", "SyncHook"]

log = logging.getLogger(__name__)

# orderStatus, openOrder, execDetails, commissionReport, completedOrder and the ends of their lists.
ABOUT_ORDERS = frozenset({3, 5, 11, 53, 55, 59, 101, 102})


class Session(Standing):
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
        account: str = "",
        restarts: RestartWindows | None = None,
    ) -> None:
        super().__init__(address, client_id, timings, now, tallies)
        self.undecodable_count = 0
        self.pin = AccountPin(account)
        """Which accounts orders are for."""
        self.absence = Absence(restarts or RestartWindows(), self.timings.alarm_after_s, now)
        """Since when IBKR cannot be reached, and whether that is planned."""
        self._pacer = pacer
        self._backoff = Backoff(self.timings, jitter or random.Random())
        self._observe = observe
        self._farms = Farms(self.tallies)
        self._notices = NoticeLog(asyncio.get_running_loop().time)
        self._last_refusal: tuple[int, str] | None = None
        # Since when TWS has been gone from the port that is set, on the loop's clock, after it said it moves.
        self._moved_at: float | None = None
        # So long, on the loop's clock, TWS is taken at its word that its API is read-only; it can be changed any time.
        self._read_only_until = 0.0
        # The facts that the state of a connection follows from.
        self._link_lost: str | None = None
        self._unsynced: list[SyncHook] = []
        self._was_tried = False
        self._link_restored = asyncio.Event()
        # True from where it was of use until its users were told that it no longer is.
        self._is_in_use = False

    def for_orders(self) -> Connection:
        """The connection, where an order may be written to it now.

        Raises RestartWindow, ReadOnlyApi, AccountNotPinned, AccountGone besides those of `synced`.
        """
        if self.absence.is_planned:
            raise RestartWindow
        if asyncio.get_running_loop().time() < self._read_only_until:
            raise ReadOnlyApi
        connection = self.synced()
        self.pin.check()
        return connection

    # --- supervising ---------------------------------------------------------------------------------------------

    async def run(self) -> None:
        """Keep a connection until cancelled; once the session is FATAL, wait for that."""
        loop = asyncio.get_running_loop()
        try:
            while True:
                started = loop.time()
                try:
                    await self._one_epoch()
                except SessionEnded as ended:
                    self._end(ended)
                    await asyncio.Event().wait()
                except DomainError as error:
                    if loop.time() - started > self.timings.settled_after_s:
                        self._backoff.reset()
                    await self._back_off(error)
        finally:
            self._set(SessionState.STOPPING, reason=Reason.SHUTTING_DOWN, message="the gateway is stopping")
            self._drop_connection()

    async def _one_epoch(self) -> None:
        """Connect, sync and serve; ends by raising why the connection was lost."""
        self._set(SessionState.CONNECTING, reason=Reason.BROKER_DISCONNECTED, message=f"connecting to {self.address}")
        connection = Connection(self.address, self.client_id, self.epoch + 1, self._observe, self.now, self.tallies)
        connection.serves = self.pin.served
        connection.callbacks.on_notice = self._on_notice
        connection.callbacks.on_undecodable = self._on_undecodable
        connection.callbacks.on_read_only = self._on_read_only
        self._last_refusal, self._link_lost, self._read_only_until = None, None, 0.0
        self._unsynced, self._was_tried = list(self._sync_hooks), False
        self._connection = connection
        try:
            await self._open(connection)
            await self._serve(connection)
        finally:
            if connection.reader.protocol_error:
                self._tell_event("session.protocol_error", {"found": connection.reader.protocol_error})
            self._drop_connection()
            self._lose(Reason.BROKER_DISCONNECTED)

    async def _open(self, connection: Connection) -> None:
        timings = self.timings
        try:
            await connection.open(timings.connect_timeout_s, timings.handshake_timeout_s, self._greeted)
        except DomainError:
            cause = connection.failure
            if self._last_refusal is not None and cause == "closed":
                cause = str(self._last_refusal[0])
            self.tallies.add(CONNECT_FAILURES, cause)
            if cause == "start_timeout":
                self.tallies.add(SYNC_TIMEOUTS)
            self._judge_move(cause)
            raise
        self._moved_at = None
        self.tallies.add(RECONNECTS, by=min(self.epoch, 1))
        self.status = replace(self.status, epoch=connection.epoch)
        self.pin.note(connection.managed_accounts)

    def _greeted(self) -> None:
        self._set(SessionState.HANDSHAKING, reason=Reason.SESSION_SYNCING, message="TWS begins the session")

    def _judge_move(self, cause: str) -> None:
        """After TWS has moved to another port, nobody on the one that is set for long enough is final."""
        if self._moved_at is None or cause != "refused":
            return
        if asyncio.get_running_loop().time() - self._moved_at >= self.timings.moved_limit_s:
            raise SessionEnded(
                f"TWS has moved to another port (IBKR code {PORT_CHANGED}), and nobody is at {self.address}"
            )

    async def _serve(self, connection: Connection) -> None:
        """Sync, and watch the connection; ends by raising why it was lost."""
        self._heartbeat = Heartbeat(connection, self._pacer, self.timings, self.now, self.tallies, self._beaten)
        self._show()
        try:
            async with asyncio.TaskGroup() as tasks:
                tasks.create_task(self._heartbeat.watch())
                await self._sync(connection)
        except ExceptionGroup as failed:
            # Usually one has ended, and the other was cancelled. A fault of the program is never passed over.
            faults = [error for error in failed.exceptions if not isinstance(error, DomainError)]
            raise (faults or failed.exceptions)[0] from None

    async def _sync(self, connection: Connection) -> None:
        """Have every part read to its end. What does not end is asked for again, later, while data flows already."""
        while True:
            self._link_restored.clear()
            for hook in list(self._unsynced):
                if await self._is_complete(hook, connection):
                    self._unsynced.remove(hook)
            self._was_tried = True
            self._show()
            if not self._unsynced:
                extra = {"epoch": connection.epoch, "server_version": connection.server_version}
                log.info("session ready", extra=extra)
                return
            try:
                async with asyncio.timeout(self.timings.resync_after_s):
                    await self._link_restored.wait()
            except TimeoutError:
                continue

    async def _is_complete(self, hook: SyncHook, connection: Connection) -> bool:
        """Whether a part has come to its end. Raises when the connection is of no use."""
        try:
            async with asyncio.timeout(self.timings.sync_timeout_s):
                await hook(connection)
        except (TimeoutError, BrokerTimeout, AnswerUnreadable, Exhausted) as error:
            part = error.request if isinstance(error, BrokerTimeout | AnswerUnreadable) else type(error).__name__
            self.tallies.add(SYNC_INCOMPLETE, part)
            log.warning("a part of the first questions has no end", extra={"part": part})
            return False
        except ConnectionError:
            # The library's word for a connection that is gone.
            raise connection.disconnected() from None
        return True

    async def _back_off(self, error: DomainError) -> None:
        message = error.message
        if self._last_refusal is not None:
            message = f"TWS said {self._last_refusal[0]}: {self._last_refusal[1]}"
        wait_s = self._backoff.next_s(is_restarting=self.absence.is_planned_now)
        next_attempt = self.now() + timedelta(seconds=wait_s)
        reason = Reason.BROKER_DISCONNECTED
        self._set(SessionState.RECONNECTING, reason=reason, message=message, next_attempt_time=next_attempt)
        log.warning("session lost", extra={"reason": error.reason, "text": message, "retry_in_s": round(wait_s, 2)})
        self._alarm()
        await asyncio.sleep(wait_s)

    def _end(self, error: SessionEnded) -> None:
        log.error("the session has ended for good", extra={"text": error.message})
        self._set(SessionState.FATAL, reason=Reason.BROKER_DISCONNECTED, message=error.why)
        self._tell_event("session.fatal", {"why": error.why})

    def _alarm(self) -> None:
        if self.absence.is_alarm():
            extra = {"since": str(self.absence.since), "text": self.status.message}
            log.error("IBKR has been out of reach for too long", extra=extra)

    def _beaten(self) -> None:
        """The heartbeat has been answered, or missed."""
        self._alarm()
        known, found = self.status.clock_skew, self._heartbeat.clock_skew if self._heartbeat is not None else None
        # Whole seconds of another clock: a second more or less is the same.
        if found is not None and (known is None or abs(found - known) > timedelta(seconds=1)):
            self._show()

    def _drop_connection(self) -> None:
        if self._connection is not None:
            self._connection.close()
        self._connection = self._heartbeat = None
        self._farms.forget()

    # --- what TWS says of itself ---------------------------------------------------------------------------------

    def _on_notice(self, code: int, text: str) -> None:
        self.tallies.add(BROKER_NOTICES, str(code))
        self._notices.note(code, text)
        if code in LINK_LOST:
            self._link_lost = text
            self._lose(Reason.BROKER_LINK_DOWN)
        elif code in LINK_RESTORED:
            self._link_lost = None
            self._link_restored.set()
        elif code in ABOUT_FARMS:
            self._farms.note(code, text)
        elif code == TOO_FAST:
            self._slow_down(text)
        elif code == PORT_CHANGED:
            self._moved_at = asyncio.get_running_loop().time()
            self._last_refusal = (code, text)
        elif code == CLIENT_ID_IN_USE or not self.status.state.is_connected:
            self._last_refusal = (code, text)
        self._show()
        for hook in self._notice_hooks:
            call(hook, code, text)

    def _slow_down(self, text: str) -> None:
        """IBKR calls this program too fast and is about to disconnect it: it does so first, and says nothing more."""
        self.tallies.add(PACING_VIOLATIONS, str(TOO_FAST))
        log.error("IBKR calls this program too fast", extra={"ibkr_code": TOO_FAST, "text": text})
        self._last_refusal = (TOO_FAST, text)
        self._pacer.hold(self.timings.pacing_pause_s)
        if self._connection is not None:
            self._connection.close()

    def _on_read_only(self) -> None:
        self._read_only_until = asyncio.get_running_loop().time() + self.timings.read_only_kept_s

    def _on_undecodable(self, message_id: int, digest: str) -> None:
        self.undecodable_count += 1
        self._tell_event("decode.error", {"message_id": message_id, "digest": digest})
        if message_id in ABOUT_ORDERS:
            for hook in self._undecodable_hooks:
                call(hook)

    # --- the state -----------------------------------------------------------------------------------------------

    def _show(self) -> None:
        """The state of the connection that there is, from its facts."""
        if self._heartbeat is None:
            return
        farms = self._farms.all()
        if self._link_lost is not None:
            self._set(SessionState.LINK_DOWN, reason=Reason.BROKER_LINK_DOWN, message=self._link_lost, farms=farms)
        elif self._unsynced:
            late = "; a part of them has no end, and is asked for again" if self._was_tried else ""
            message = f"reading accounts and orders{late}"
            self._set(
                SessionState.SYNCING,
                reason=Reason.SESSION_SYNCING,
                message=message,
                farms=farms,
                serves_data=self._was_tried,
            )
        elif broken := self._farms.broken():
            message = f"data farms are down: {', '.join(broken)}"
            self._set(SessionState.FARM_DEGRADED, message=message, farms=farms, serves_data=True)
        else:
            self._set(SessionState.READY, farms=farms, serves_data=True)
        if self.status.state.is_linked:
            self.absence.end()
        self._is_in_use = self._is_in_use or self.status.serves_data

    def _lose(self, reason: str) -> None:
        """IBKR is lost. Who uses the session hears it once, however it is lost, until it is of use again."""
        self.absence.begin()
        if self._is_in_use:
            self._is_in_use = False
            for hook in self._lost_hooks:
                call(hook, reason)
