"""Keeping upstream subscriptions: one for each thing that is wanted, however many read it.

Whoever wants one is counted at once; `run` alone sends, so that no reader's impatience can harm another's. After its
last reader a subscription lingers for a moment, then ends.

What silence means depends on what was said before it. All are asked for again after a reconnect and after 1101; 1102
keeps them, and one that then stays silent in trading hours is asked for once more. IBKR does not tell which contracts
a data farm serves: while any farm of the market's is down, whatever has fallen silent since is taken for its, and asked
for again if it stays silent after the farm is back.
"""

from __future__ import annotations

import asyncio
import logging
from abc import ABC, abstractmethod
from collections.abc import Callable, Collection, Hashable
from contextlib import suppress
from dataclasses import dataclass
from datetime import datetime
from typing import Generic, Protocol, TypeVar

from ibkr_gateway_server.broker.connection import Connection
from ibkr_gateway_server.broker.contracts import Contracts
from ibkr_gateway_server.broker.hours import have_run_out, open_for_s
from ibkr_gateway_server.broker.notices import request_error
from ibkr_gateway_server.broker.pacing import Pacer, Priority
from ibkr_gateway_server.broker.session import Session
from ibkr_gateway_server.domain.errors import DomainError, MarketDataLines, RateLimited, Reason
from ibkr_gateway_server.domain.instruments import ContractDetails, Instrument
from ibkr_gateway_server.domain.quotes import MarketDataType
from ibkr_gateway_server.domain.sessions import SessionState
from ibkr_gateway_server.domain.streams import Gap
from ibkr_gateway_server.domain.tallies import RESUBSCRIBES

log = logging.getLogger(__name__)

# Source: TWS API, message codes: restored with market data lost, or kept; a farm of the market's broken, or back, or at
# rest until it is asked.
DATA_LOST, DATA_KEPT = 1101, 1102
FARM_BROKEN, FARM_BACK = 2103, (2104, 2108)
# How often what is kept is looked at.
TIMER_S = 1.0
# A subscription that stays silent after being asked for again is asked for once more after this long.
RETRY_S = 60.0
# While a farm is down so much silence is no quiet market; after it is back, so much means that data has not resumed.
FARM_SILENCE_S = 1.0
FARM_RETRY_S = 5.0

# Why data is old, beside the reasons of errors.
NO_TICKS, FARM_DOWN = "NO_TICKS", "FARM_DOWN"
# Why something is asked for again, as it is counted.
BY_LOSS, BY_RECONNECT, BY_SILENCE, BY_FARM, BY_COMPETITION = "data_lost", "reconnect", "stale", "farm", "competing"


@dataclass(frozen=True, slots=True)
class MarketDataSettings:
    """How lines are kept."""

    market_data_type: MarketDataType = MarketDataType.LIVE
    """What to ask for: LIVE, or DELAYED without subscriptions."""
    line_limit: int = 100
    """Lines the account has; 100 unless more were bought."""
    linger_s: float = 5.0
    """Seconds that a line is kept after its last reader, so that a returning one costs nothing."""
    stale_after_s: float = 15.0
    """Seconds without a tick before a quote is marked stale."""
    settle_s: float = 2.0
    """Seconds that a snapshot waits, after the first price, for the others of its kind."""
    fall_back_to_delayed: bool = True
    """Whether a line whose live data goes to another login is asked for as delayed until live data is back."""
    tick_interval_s: float = 15.0
    """Seconds between two tick-by-tick requests for one instrument. Source: TWS API, tick-by-tick data."""


class Upstream(Protocol):
    """One subscription, as it is kept."""

    instrument: Instrument
    details: ContractDetails | None
    subscriber_count: int
    linger: asyncio.TimerHandle | None
    connection: Connection | None
    request_id: int
    gap: Gap | None
    retry_at: float | None
    retry_cause: str

    @property
    def is_owed(self) -> bool:
        """True while its data should flow and does not."""
        ...

    def detach(self) -> None: ...
    def lose(self, reason: str, now: datetime) -> None: ...
    def age(self, now: datetime, stale_after_s: float, reason: str) -> None: ...
    def overdue(self) -> None: ...


K = TypeVar("K", bound=Hashable)
U = TypeVar("U", bound=Upstream)


class Keeper(ABC, Generic[K, U]):
    """Subscriptions of one kind: each made for its first reader, shared by all, given back after its last."""

    requests: str
    """What its requests are called in the log."""

    def __init__(
        self, session: Session, contracts: Contracts, pacer: Pacer, settings: MarketDataSettings | None = None
    ) -> None:
        self.settings = settings or MarketDataSettings()
        self.tallies = session.tallies
        self.urgent: Callable[[], Collection[int]] = tuple
        """Tells the contracts, by con_id, that are asked for before all others."""
        self._session = session
        self._contracts = contracts
        self._pacer = pacer
        self._connection: Connection | None = None
        self._kept: dict[K, U] = {}
        # Work for `run`: what to ask for, with why it is asked for again (empty: for the first time); requests to end.
        self._wanted: dict[U, str] = {}
        self._ended: list[tuple[Connection, int]] = []
        self._work = asyncio.Event()
        # Since when a farm of the market's has been down.
        self._farm_lost_time: datetime | None = None
        session.on_sync(self._restore)
        session.on_lost(self._lost)
        session.on_notice(self._noticed)

    async def until_served(self) -> None:
        """Returns once one can be taken. Raises SessionEnded, ShuttingDown where none ever can."""
        await self._session.until_served()

    def release(self, kept: U) -> None:
        """Give one back; after the last reader it lingers, then ends."""
        kept.subscriber_count -= 1
        if kept.subscriber_count == 0 and self._is_kept(kept):
            kept.linger = asyncio.get_running_loop().call_later(self.settings.linger_s, self._drop, kept)

    async def run(self) -> None:
        """Ask for what is wanted, end what is unused and look at what is kept, until cancelled."""
        while True:
            with suppress(TimeoutError):
                async with asyncio.timeout(TIMER_S):
                    await self._work.wait()
            self._work.clear()
            try:
                await self._send()
            except RateLimited:
                # Orders and cancels have taken all the room; what is left is sent at the next turn.
                waiting = len(self._wanted) + len(self._ended)
                log.info("%s requests wait for room", self.requests, extra={"waiting": waiting})
            except (DomainError, ConnectionError):
                # The connection has gone meanwhile; its successor's sync wants all of them again.
                log.info("%s requests wait for the session", self.requests)
            self._look_at_kept(asyncio.get_running_loop().time())

    # --- what differs by kind ------------------------------------------------------------------------------------

    @abstractmethod
    def _key(self, kept: U) -> K:
        """What tells it from every other."""

    @abstractmethod
    def _ask(self, kept: U, connection: Connection) -> None:
        """Send its request, under a new id."""

    @abstractmethod
    def _cancel(self, connection: Connection, request_id: int) -> None:
        """Send the end of a request."""

    def _cost(self, kept: U) -> int:
        """Messages that asking for it takes."""
        return 1 if kept.connection is None else 2

    def _may_ask(self, _kept: U, _clock: float) -> bool:
        """Whether it may be asked for now, by what IBKR allows."""
        return True

    def _counted(self) -> None:
        """How many are kept has changed."""

    # --- sending -------------------------------------------------------------------------------------------------

    async def _send(self) -> None:
        """Ends first, since they make room for what begins; then what is urgent, then what has most readers."""
        urgent = self.urgent() if self._wanted else ()
        while True:
            if self._ended:
                await self._end(*self._ended[0])
                del self._ended[0]
            elif self._can_send() and (kept := self._next(urgent)) is not None:
                await self._request(kept)
            else:
                return

    def _next(self, urgent: Collection[int]) -> U | None:
        clock = asyncio.get_running_loop().time()
        ready = [kept for kept in self._wanted if self._may_ask(kept, clock)]
        return max(ready, key=lambda kept: (kept.instrument.con_id in urgent, kept.subscriber_count), default=None)

    async def _end(self, connection: Connection, request_id: int) -> None:
        if connection.is_open:
            await self._pacer.take(Priority.MARKET_DATA, self._session.timings.request_timeout_s)
        if connection.is_open:
            self._cancel(connection, request_id)

    async def _request(self, kept: U) -> None:
        if kept.details is not None and have_run_out(kept.details, self._session.now()):
            # IBKR tells hours for some days; what is asked for again after those needs new ones.
            with suppress(DomainError):
                kept.details = await self._contracts.detail(kept.instrument)
        for _ in range(self._cost(kept)):
            await self._pacer.take(Priority.MARKET_DATA, self._session.timings.request_timeout_s)
        connection = self._connection
        if kept not in self._wanted or connection is None or not connection.is_open:
            return
        if kept.connection is connection:
            self._cancel(connection, kept.request_id)
        if kept.is_owed:
            kept.retry_at, kept.retry_cause = asyncio.get_running_loop().time() + RETRY_S, BY_SILENCE
        else:
            kept.retry_at = None
        cause = self._wanted.pop(kept)
        self._ask(kept, connection)
        if cause:
            self.tallies.add(RESUBSCRIBES, cause)

    def _can_send(self) -> bool:
        is_down = self._session.status.state is SessionState.LINK_DOWN
        return self._connection is not None and self._connection.is_open and not is_down

    def _want(self, kept: U, cause: str = "") -> None:
        self._wanted.setdefault(kept, cause)
        self._work.set()

    # --- keeping -------------------------------------------------------------------------------------------------

    def _keep(self, kept: U) -> None:
        """Begin with a new one."""
        self._kept[self._key(kept)] = kept
        self._counted()
        self._want(kept)

    def _count_reader(self, kept: U) -> None:
        """One reader more; it does not linger any longer."""
        if kept.linger is not None:
            kept.linger.cancel()
            kept.linger = None
        kept.subscriber_count += 1

    async def _restore(self, connection: Connection) -> None:
        """A new connection has no subscriptions: every one that has readers is wanted again."""
        self._connection = connection
        self._farm_lost_time = None
        self._want_all(BY_RECONNECT)

    def _want_all(self, cause: str) -> None:
        """Ask for all again, with no old value left; those that only linger are let go."""
        for kept in list(self._kept.values()):
            kept.detach()
            if kept.subscriber_count:
                self._want(kept, cause)
            else:
                self._drop(kept)

    def _lost(self, reason: str) -> None:
        now = self._session.now()
        for kept in self._kept.values():
            kept.lose(reason, now)

    def _noticed(self, code: int, _text: str) -> None:
        if code == DATA_LOST:
            # Usually the loss has been told already; where it has not, it is now.
            self._lost(Reason.BROKER_LINK_DOWN)
            self._want_all(BY_LOSS)
        elif code == DATA_KEPT:
            # Kept, says IBKR; one that then stays silent is asked for again.
            self._expect_within(self.settings.stale_after_s, BY_SILENCE)
        elif code == FARM_BROKEN:
            self._farm_lost_time = self._farm_lost_time or self._session.now()
        elif code in FARM_BACK and self._farm_lost_time is not None:
            if not any(farm.ibkr_code == FARM_BROKEN for farm in self._session.status.farms):
                self._farm_lost_time = None
            self._expect_within(FARM_RETRY_S, BY_FARM)

    def _expect_within(self, wait_s: float, cause: str) -> None:
        """Ask again for what flows no more and does not flow again by itself in this time."""
        retry_at = asyncio.get_running_loop().time() + wait_s
        for kept in self._kept.values():
            kept.retry_at, kept.retry_cause = (retry_at if kept.is_owed else None), cause
        self._work.set()

    def _look_at_kept(self, clock: float) -> None:
        """Done at every turn: say what is old, and want again what has been silent for too long."""
        now = self._session.now()
        farm_lost = self._farm_lost_time
        is_suspect = farm_lost is not None and (now - farm_lost).total_seconds() > FARM_SILENCE_S
        for kept in self._kept.values():
            if is_suspect:
                kept.age(now, FARM_SILENCE_S, FARM_DOWN)
            kept.age(now, self.settings.stale_after_s, NO_TICKS)
            self._want_if_due(kept, clock, now)

    def _want_if_due(self, kept: U, clock: float, now: datetime) -> None:
        """Ask again for one whose time to be asked for has come; for a closed market it comes after the opening."""
        if kept.retry_at is None or clock < kept.retry_at:
            return
        if open_for_s(kept.details, now) > self.settings.stale_after_s:
            kept.retry_at = None
            kept.overdue()
            self._want(kept, kept.retry_cause)

    def _refusal(self, kept: U, code: int, text: str, request: str) -> DomainError:
        """IBKR has ended this one: nothing is left to cancel, and whoever wants it next asks anew."""
        self._drop(kept, is_live=False)
        error = request_error(code, text, kept.instrument.label(), request)
        if isinstance(error, MarketDataLines):
            # IBKR counts those of every program of the login and does not say how many; these are those it granted.
            return MarketDataLines(len(self._kept), len(self._kept))
        return error

    def _drop(self, kept: U, *, is_live: bool = True) -> None:
        """Keep it no longer; `is_live`: TWS still sends it and is told to stop."""
        if not self._is_kept(kept):
            return
        del self._kept[self._key(kept)]
        self._counted()
        self._wanted.pop(kept, None)
        if kept.linger is not None:
            kept.linger.cancel()
        if is_live and kept.connection is not None:
            self._ended.append((kept.connection, kept.request_id))
            self._work.set()
        kept.detach()

    def _is_kept(self, kept: U) -> bool:
        return self._kept.get(self._key(kept)) is kept
