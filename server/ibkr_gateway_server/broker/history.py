"""Historical bars: one request at a time, within IBKR's pacing, never a part as the whole."""

from __future__ import annotations

import asyncio
import math
from collections import deque
from collections.abc import Callable
from dataclasses import dataclass, replace
from datetime import UTC, datetime
from itertools import accumulate
from typing import Any

from ibkr_gateway_server.broker.bar_rows import read_bars, what_to_show
from ibkr_gateway_server.broker.connection import Connection
from ibkr_gateway_server.broker.contracts import Contracts, to_contract
from ibkr_gateway_server.broker.pacing import Pacer, Priority
from ibkr_gateway_server.broker.session import Session
from ibkr_gateway_server.domain.bars import Bars, BarsRequest, LiveBarsRequest, WhatToShow
from ibkr_gateway_server.domain.errors import BrokerTimeout, PacingHistorical
from ibkr_gateway_server.domain.instruments import ContractDetails
from ibkr_gateway_server.domain.usage import Usage

# Source: TWS API, historical data limitations: 60 requests in 10 minutes (BID_ASK counts twice), an identical request
# within 15 seconds is a violation, and so are six of one contract and kind within 2 seconds; at most 50 at a time. Two
# of the 60 are left for what other programs of the login ask.
REQUESTS_PER_WINDOW = 58
# IBKR counts by its own clock, when a request arrives: what is just allowed here may be just too soon there.
MARGIN_S = 0.2
WINDOW_S = 600.0 + MARGIN_S
IDENTICAL_S = 15.0 + MARGIN_S
SAME_KIND_PER_BURST = 5
BURST_S = 2.0 + MARGIN_S
IN_FLIGHT = 50


_Kind = tuple[int, str, WhatToShow | None]


class History:
    """Asks for bars. `clock` is monotonic, in seconds; `now` is the wall clock in UTC."""

    def __init__(
        self,
        session: Session,
        contracts: Contracts,
        pacer: Pacer,
        clock: Callable[[], float],
        now: Callable[[], datetime] = lambda: datetime.now(UTC),
    ) -> None:
        self._session = session
        self._contracts = contracts
        self._pacer = pacer
        self._clock = clock
        self._now = now
        self._halved_until = 0.0
        self._spent: deque[tuple[float, int]] = deque()
        # Of each contract and kind: when its last requests have their turn, and when they were sent.
        self._bursts: dict[_Kind, deque[float]] = {}
        self._sent: dict[_Kind, deque[float]] = {}
        self._asking: dict[BarsRequest, _Asking] = {}
        self._recent: dict[BarsRequest, tuple[float, Bars]] = {}
        self._in_flight = asyncio.Semaphore(IN_FLIGHT)

    async def bars(self, request: BarsRequest, timeout_s: float) -> Bars:
        """The bars of one request, complete and sorted.

        Raises ContractNotFound, ContractAmbiguous, NoData, MarketDataNotSubscribed, PacingHistorical, BrokerTimeout,
        BrokerDisconnected, and BadBar naming the bar that cannot be read.
        """
        try:
            async with asyncio.timeout(timeout_s):
                return await self._bars(request, timeout_s)
        except TimeoutError:
            raise BrokerTimeout("reqHistoricalData", timeout_s) from None

    async def _bars(self, request: BarsRequest, timeout_s: float) -> Bars:
        details = await self._contracts.detail(request.instrument)
        wanted = replace(
            request, instrument=details.instrument, what_to_show=what_to_show(request.what_to_show, details.instrument)
        )
        self._forget()
        if (recent := self._recent.get(wanted)) is not None:
            return replace(recent[1], is_cached=True)
        asking = self._asking.get(wanted)
        is_shared = asking is not None
        if asking is None:
            asking = self._asking[wanted] = _Asking(asyncio.ensure_future(self._fetch(wanted, details, timeout_s)))
        asking.waiter_count += 1
        try:
            bars = await asyncio.shield(asking.task)
        finally:
            asking.waiter_count -= 1
            if asking.waiter_count == 0:
                # The last to wait ends it, answered or not: TWS is told to forget what nobody wants.
                del self._asking[wanted]
                asking.task.cancel()
        return replace(bars, is_cached=is_shared)

    async def _fetch(self, wanted: BarsRequest, details: ContractDetails, timeout_s: float) -> Bars:
        async with self._in_flight:
            await self._burst(wanted, timeout_s)
            self._session.linked()
            self._spend(2 if wanted.what_to_show is WhatToShow.BID_ASK else 1)
            await self._turn(wanted, timeout_s)
            connection = self._session.linked()
            try:
                rows = await self._ask(connection, wanted, timeout_s)
            except PacingHistorical:
                # Other programs of the login ask as well: half the budget, until what they asked is out of the window.
                self.note_violation()
                raise
        bars = Bars(wanted.instrument, read_bars(rows, wanted, self._now()), details.time_zone)
        self._recent[wanted] = (self._clock(), bars)
        return bars

    async def _ask(self, connection: Connection, request: BarsRequest, timeout_s: float) -> list[Any]:
        end = request.end_time
        return await connection.ask(
            "reqHistoricalData",
            lambda request_id: connection.client.reqHistoricalData(
                request_id,
                to_contract(request.instrument),
                "" if end is None else end.astimezone(UTC).strftime("%Y%m%d-%H:%M:%S"),
                request.duration,
                str(request.bar_size),
                str(request.what_to_show),
                request.regular_hours_only,
                # 2: seconds since the epoch, which no time zone can bend; daily bars come as dates either way.
                2,
                False,
                [],
            ),
            timeout_s=timeout_s,
            about=f"{request.instrument.label()}, {request.duration} of {request.bar_size} {request.what_to_show}",
            cancel=connection.client.cancelHistoricalData,
        )

    # --- pacing --------------------------------------------------------------------------------------------------

    async def _burst(self, request: BarsRequest, timeout_s: float) -> None:
        """Wait for a place among the requests of one contract and kind, in order. Raises PacingHistorical."""
        times = self._bursts.setdefault(_kind(request), deque(maxlen=SAME_KIND_PER_BURST))
        now = self._clock()
        at = max(now, times[0] + BURST_S) if len(times) == SAME_KIND_PER_BURST else now
        if at - now > timeout_s:
            raise PacingHistorical(retry_after_s=_tenths(at - now))
        times.append(at)
        await asyncio.sleep(at - now)

    async def _turn(self, request: BarsRequest, timeout_s: float) -> None:
        """Wait for room for the message. IBKR counts requests when they arrive: one that has waited here must not come
        too close to those of its kind that have not. Raises RateLimited."""
        while True:
            await self._pacer.take(Priority.HISTORY, timeout_s)
            sent, now = self._sent.setdefault(_kind(request), deque(maxlen=SAME_KIND_PER_BURST)), self._clock()
            if len(sent) < SAME_KIND_PER_BURST or now - sent[0] >= BURST_S:
                sent.append(now)
                return
            await asyncio.sleep(sent[0] + BURST_S - now)

    def usage(self) -> Usage:
        """Requests of the last ten minutes, those for BID_ASK counted twice, and how many there may be."""
        spent, limit = self._budget(self._clock())
        return Usage("history", spent, limit, window_s=WINDOW_S)

    def has_room(self, weight: int) -> bool:
        """Whether so much of the window's budget is left."""
        spent, limit = self._budget(self._clock())
        return spent + weight <= limit

    def spend(self, weight: int) -> None:
        """Take part of the window's budget, for bars that others ask for. Raises PacingHistorical."""
        self._spend(weight)

    def has_turn(self, wanted: LiveBarsRequest) -> bool:
        """Whether bars that others ask for may be asked for now, after the last of their contract and kind."""
        sent = self._sent.get(_kind(wanted))
        return sent is None or len(sent) < SAME_KIND_PER_BURST or self._clock() - sent[0] >= BURST_S

    def note_sent(self, wanted: LiveBarsRequest) -> None:
        """Others have asked for bars: those of their contract and kind that come next are counted from here."""
        self._sent.setdefault(_kind(wanted), deque(maxlen=SAME_KIND_PER_BURST)).append(self._clock())

    def note_violation(self) -> None:
        """IBKR calls what was asked for too much: half the budget, until it is out of the window."""
        self._halved_until = self._clock() + WINDOW_S

    def _budget(self, now: float) -> tuple[int, int]:
        """What is spent of the window's budget, and the budget, which a pacing violation halves for a while."""
        while self._spent and self._spent[0][0] <= now - WINDOW_S:
            self._spent.popleft()
        limit = REQUESTS_PER_WINDOW // 2 if now < self._halved_until else REQUESTS_PER_WINDOW
        return sum(spent for _, spent in self._spent), limit

    def _spend(self, weight: int) -> None:
        """Take part of the window's budget. Raises PacingHistorical with the time until there is room."""
        now = self._clock()
        spent_so_far, limit = self._budget(now)
        excess = spent_so_far + weight - limit
        if excess > 0:
            freed = accumulate(spent for _, spent in self._spent)
            room_at = next(
                at for (at, _), freed_by_then in zip(self._spent, freed, strict=True) if freed_by_then >= excess
            )
            raise PacingHistorical(retry_after_s=_tenths(room_at + WINDOW_S - now))
        self._spent.append((now, weight))

    def _forget(self) -> None:
        now = self._clock()
        self._recent = {request: kept for request, kept in self._recent.items() if kept[0] > now - IDENTICAL_S}
        self._bursts = {kind: times for kind, times in self._bursts.items() if times[-1] > now - BURST_S}
        self._sent = {kind: times for kind, times in self._sent.items() if not times or times[-1] > now - BURST_S}


@dataclass(slots=True)
class _Asking:
    """One request under way, and how many callers wait for it."""

    task: asyncio.Task[Bars]
    waiter_count: int = 0


def _kind(request: BarsRequest | LiveBarsRequest) -> _Kind:
    return request.instrument.con_id, request.instrument.exchange, request.what_to_show


def _tenths(seconds: float) -> float:
    """To tenths, and never less: who comes back after that time must not be too early."""
    return math.ceil(seconds * 10 - 1e-6) / 10
