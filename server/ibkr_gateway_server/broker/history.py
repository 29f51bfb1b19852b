"""Historical bars: one request at a time, within IBKR's pacing, never a part as the whole."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from dataclasses import dataclass, replace
from datetime import UTC, datetime
from typing import Any

from ibkr_gateway_server.broker.bar_rows import moment_of, read_bars, what_to_show
from ibkr_gateway_server.broker.connection import Connection
from ibkr_gateway_server.broker.contracts import Contracts, to_contract
from ibkr_gateway_server.broker.history_pacing import IDENTICAL_S, IN_FLIGHT, HistoryPacing, kind_of, weight_of
from ibkr_gateway_server.broker.pacing import Pacer, Priority
from ibkr_gateway_server.broker.session import Session
from ibkr_gateway_server.domain.bars import Bars, BarsRequest, WhatToShow
from ibkr_gateway_server.domain.errors import BrokerTimeout, NoData, PacingHistorical
from ibkr_gateway_server.domain.instruments import ContractDetails, Instrument
from ibkr_gateway_server.domain.tallies import HISTORY_CACHE_HITS, HISTORY_IN_FLIGHT
from ibkr_gateway_server.domain.usage import Usage


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
        self.pacing = HistoryPacing(pacer, clock, session.tallies)
        self._asking: dict[BarsRequest, _Asking] = {}
        self._recent: dict[BarsRequest, tuple[float, Bars]] = {}
        self._places = asyncio.Semaphore(IN_FLIGHT)
        self._open_count = 0
        session.tallies.watch(HISTORY_IN_FLIGHT, lambda: self._open_count)

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
            self._session.tallies.add(HISTORY_CACHE_HITS)
            return replace(recent[1], is_cached=True)
        asking = self._asking.get(wanted)
        is_shared = asking is not None
        if is_shared:
            self._session.tallies.add(HISTORY_CACHE_HITS)
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
        """Ask TWS. When IBKR says that it was too much it is asked once more, as soon as it may be and in time."""
        deadline = asyncio.get_running_loop().time() + timeout_s
        try:
            rows = await self._paced(wanted, timeout_s)
        except PacingHistorical as refused:
            left_s = deadline - asyncio.get_running_loop().time()
            if not refused.is_ibkrs or left_s <= IDENTICAL_S:
                raise
            await asyncio.sleep(IDENTICAL_S)
            rows = await self._paced(wanted, left_s - IDENTICAL_S)
        bars = Bars(wanted.instrument, read_bars(rows, wanted, self._now()), details.time_zone)
        self._recent[wanted] = (self._clock(), bars)
        return bars

    async def _paced(self, wanted: BarsRequest, timeout_s: float) -> list[Any]:
        kind = kind_of(wanted.instrument, wanted.what_to_show)
        async with self._places:
            self._session.linked()
            await self.pacing.turn(kind, weight_of(wanted.bar_size, wanted.what_to_show), timeout_s)
            self._open_count += 1
            try:
                return await self._ask(self._session.linked(), wanted, timeout_s)
            except PacingHistorical:
                self.pacing.violated()
                raise
            finally:
                self._open_count -= 1

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

    async def head_timestamp(
        self, instrument: Instrument, shown: WhatToShow | None, timeout_s: float, *, regular_hours_only: bool = False
    ) -> datetime:
        """The time of the earliest bar that there is. Raises what `bars` raises but for pacing."""
        try:
            async with asyncio.timeout(timeout_s):
                details = await self._contracts.detail(instrument)
                await self._pacer.take(Priority.HISTORY, timeout_s)
                connection, named = self._session.linked(), details.instrument
                what = what_to_show(shown, named)
                rows = await connection.ask(
                    "reqHeadTimeStamp",
                    lambda request_id: connection.client.reqHeadTimeStamp(
                        request_id, to_contract(named), str(what), regular_hours_only, 2
                    ),
                    timeout_s=timeout_s,
                    about=f"the earliest {what} of {named.label()}",
                    # TWS keeps it open when it has answered, and hangs after some fifty that nobody has ended.
                    cancel=connection.client.cancelHeadTimeStamp,
                    is_ended_by_cancel=True,
                )
        except TimeoutError:
            raise BrokerTimeout("reqHeadTimeStamp", timeout_s) from None
        if not rows or (moment := moment_of(rows[0])) is None:
            raise NoData(instrument.label(), 0)
        return moment

    def usage(self) -> Usage:
        """What is used of the budget of ten minutes."""
        return self.pacing.usage()

    def _forget(self) -> None:
        now = self._clock()
        self._recent = {request: kept for request, kept in self._recent.items() if kept[0] > now - IDENTICAL_S}


@dataclass(slots=True)
class _Asking:
    """One request under way, and how many callers wait for it."""

    task: asyncio.Task[Bars]
    waiter_count: int = 0
