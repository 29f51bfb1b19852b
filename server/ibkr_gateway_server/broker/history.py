"""Historical bars: one request at a time, within IBKR's pacing, never a part as the whole."""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import Callable
from contextlib import suppress
from dataclasses import replace
from datetime import UTC, date, datetime, timedelta
from typing import Any

from ibkr_gateway_server.broker import ib
from ibkr_gateway_server.broker.connection import Connection
from ibkr_gateway_server.broker.contracts import Contracts, to_contract
from ibkr_gateway_server.broker.numbers import number
from ibkr_gateway_server.broker.pacing import Pacer, Priority
from ibkr_gateway_server.broker.session import Session
from ibkr_gateway_server.domain.bars import Bar, Bars, BarSize, BarsRequest, WhatToShow
from ibkr_gateway_server.domain.errors import BadBar, PacingHistorical
from ibkr_gateway_server.domain.instruments import ContractDetails, SecurityType

# Source: TWS API, historical data limitations: 60 requests in 10 minutes (BID_ASK counts twice), an identical request
# within 15 seconds is a violation, at most 50 at a time. Two are left for what other programs of the login ask.
REQUESTS_PER_WINDOW = 58
WINDOW_S = 600.0
IDENTICAL_S = 15.0
IN_FLIGHT = 50

_WIDTHS = {
    "secs": timedelta(seconds=1),
    "min": timedelta(minutes=1),
    "mins": timedelta(minutes=1),
    "hour": timedelta(hours=1),
    "hours": timedelta(hours=1),
}


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
        self._spent: deque[tuple[float, int]] = deque()
        self._recent: dict[BarsRequest, tuple[float, Bars]] = {}
        self._in_flight = asyncio.Semaphore(IN_FLIGHT)

    async def bars(self, request: BarsRequest, timeout_s: float) -> Bars:
        """The bars of one request, complete and sorted.

        Raises ContractNotFound, ContractAmbiguous, NoData, MarketDataNotSubscribed, PacingHistorical, BrokerTimeout,
        BrokerDisconnected, and BadBar naming the bar that cannot be read.
        """
        details = await self._contracts.detail(request.instrument)
        wanted = replace(request, instrument=details.instrument, what_to_show=_what_to_show(request, details))
        self._forget()
        if (recent := self._recent.get(wanted)) is not None:
            return replace(recent[1], is_cached=True)
        async with self._in_flight:
            connection = self._session.linked()
            self._spend(2 if wanted.what_to_show is WhatToShow.BID_ASK else 1)
            await self._pacer.take(Priority.HISTORY, timeout_s)
            rows = await self._ask(connection, wanted, timeout_s)
        bars = Bars(details.instrument, self._read(rows, wanted), details.time_zone)
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

    def _read(self, rows: list[Any], request: BarsRequest) -> tuple[Bar, ...]:
        bars: dict[Any, Bar] = {}
        for index, row in enumerate(rows):
            bar = self._bar(index, row, request)
            bars[bar.start] = bar
        return tuple(bars[start] for start in sorted(bars))

    def _bar(self, index: int, row: ib.BarData, request: BarsRequest) -> Bar:
        start = _start(row.date)
        first, high, low, last = (number(value) for value in (row.open, row.high, row.low, row.close))
        if start is None or first is None or high is None or low is None or last is None:
            raise BadBar(index, request.instrument.label())
        traded = request.what_to_show in (WhatToShow.TRADES, WhatToShow.ADJUSTED_LAST)
        return Bar(
            start,
            open=first,
            high=high,
            low=low,
            close=last,
            volume=number(row.volume) if traded else None,
            wap=number(row.average) if traded else None,
            trade_count=row.barCount if traded and row.barCount >= 0 else None,
            is_complete=self._is_complete(start, request.bar_size),
        )

    def _is_complete(self, start: date | datetime, size: BarSize) -> bool:
        now = self._now()
        if not isinstance(start, datetime):
            # A day's bar may change until its day is over everywhere.
            return start < (now - timedelta(hours=12)).date()
        count, _, unit = str(size).partition(" ")
        return start + int(count) * _WIDTHS[unit] <= now

    def _spend(self, weight: int) -> None:
        """Take part of the window's budget. Raises PacingHistorical with the time until there is room."""
        now = self._clock()
        while self._spent and self._spent[0][0] <= now - WINDOW_S:
            self._spent.popleft()
        if sum(spent for _, spent in self._spent) + weight > REQUESTS_PER_WINDOW:
            raise PacingHistorical(retry_after_s=round(self._spent[0][0] + WINDOW_S - now, 1))
        self._spent.append((now, weight))

    def _forget(self) -> None:
        oldest = self._clock() - IDENTICAL_S
        self._recent = {request: kept for request, kept in self._recent.items() if kept[0] > oldest}


def _start(text: object) -> datetime | date | None:
    """A bar's start: eight digits are a date, more are seconds since the epoch; None: neither."""
    digits = str(text)
    if not digits.isdigit():
        return None
    if len(digits) == 8:
        with suppress(ValueError):
            return datetime.strptime(digits, "%Y%m%d").date()
        return None
    return datetime.fromtimestamp(int(digits), UTC)


def _what_to_show(request: BarsRequest, details: ContractDetails) -> WhatToShow:
    """Currencies have no trades to show; everything else has."""
    if request.what_to_show is not None:
        return request.what_to_show
    is_pair = details.instrument.security_type is SecurityType.CASH
    return WhatToShow.MIDPOINT if is_pair else WhatToShow.TRADES
