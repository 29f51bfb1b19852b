"""Long history: any range of bars, a slice at a time and oldest first, as fast as IBKR's pacing allows.

Whoever reads sets the pace: a slice is asked for when the one before has been taken. What interrupts it (pacing, a lost
session, an answer that does not come) is waited out, with a word about it now and then; what will not mend (no
permission, no such contract) ends it. Nothing is told twice and nothing left out: a slice is told when it is known to
be complete, and the token that comes with it goes on after it.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import AsyncIterator, Callable
from datetime import date, datetime
from typing import Any
from zoneinfo import ZoneInfo

from ibkr_gateway_server.broker.contracts import Contracts
from ibkr_gateway_server.broker.history import History
from ibkr_gateway_server.broker.history_pacing import weight_of
from ibkr_gateway_server.broker.session import Session
from ibkr_gateway_server.broker.slices import Slice, cut_of, place_of, slices_of, token
from ibkr_gateway_server.broker.time_zones import zone_of
from ibkr_gateway_server.domain.bars import Bar, BarsRequest, HistorySlice, LongHistoryRequest
from ibkr_gateway_server.domain.errors import (
    BrokerTimeout,
    FieldsInvalid,
    FieldViolation,
    NoData,
    PacingHistorical,
    RateLimited,
    SessionAway,
    ShuttingDown,
)
from ibkr_gateway_server.domain.usage import Usage

log = logging.getLogger(__name__)

# While nothing comes, a word at least so often: it serves as the stream's heartbeat.
PROGRESS_S = 15.0
# For one slice: an answer takes seconds, and a busy farm much longer.
ANSWER_S = 60.0
# A slice that is not answered so often in a row is not going to be.
MAX_TIMEOUTS = 3


class LongHistory:
    """Streams bars of any range. `clock` is monotonic, in seconds."""

    def __init__(self, session: Session, contracts: Contracts, history: History, clock: Callable[[], float]) -> None:
        self._session = session
        self._contracts = contracts
        self._history = history
        self._clock = clock
        self._draining = asyncio.Event()

    def drain(self, _deadline: datetime) -> None:
        """End every stream: whoever reads one goes on later with its token."""
        self._draining.set()

    async def stream(self, request: LongHistoryRequest, resume_token: str = "") -> AsyncIterator[HistorySlice]:
        """The slices of a range, oldest first; those without bars tell how far it is.

        Raises FieldsInvalid for a range or token that makes no sense, and the errors of `History.bars` but for those
        that are waited out: pacing, a session that is away, and up to twice in a row an answer that does not come.
        """
        details = await self._contracts.detail(request.instrument)
        con_id = details.instrument.con_id
        # Where there is no end yet it is now, once and for all: a later stream goes on with the same slices.
        now = self._session.now()
        end, done = min(request.end or now, now), 0
        if resume_token:
            end, done = place_of(resume_token, request, con_id)
        if request.start >= end:
            raise FieldsInvalid((FieldViolation("start_time", "must be before the end, and before now"),))
        zone = zone_of(details.time_zone) or ZoneInfo("UTC")
        slices = slices_of(request.bar_size, request.start, end, zone)
        is_budgeted = weight_of(request.bar_size, request.what_to_show) > 0
        progress = _Progress(
            self._history.usage if is_budgeted else None,
            self._clock,
            len(slices),
            done,
            lambda count: token(request, con_id, end, count),
        )
        for part in slices[done:]:
            asking = asyncio.ensure_future(self._patiently(request, part))
            draining = asyncio.ensure_future(self._draining.wait())
            waits: tuple[asyncio.Future[Any], ...] = (asking, draining)
            try:
                while not (await asyncio.wait(waits, timeout=PROGRESS_S, return_when=asyncio.FIRST_COMPLETED))[0]:
                    yield progress.word()
                if draining.done():
                    raise ShuttingDown
                bars = asking.result()
            finally:
                for wait in waits:
                    wait.cancel()
            yield progress.step(bars)

    async def _patiently(self, request: LongHistoryRequest, part: Slice) -> tuple[Bar, ...]:
        """The bars of a slice, whatever it takes. Raises what will not mend."""
        timeouts = 0
        while True:
            try:
                return await self._bars(request, part)
            except (PacingHistorical, RateLimited) as error:
                await asyncio.sleep(error.retry_after_s)
            except SessionAway:
                await self._session.until_served()
            except BrokerTimeout:
                timeouts += 1
                if timeouts == MAX_TIMEOUTS:
                    raise
                log.info("a slice of history was not answered and is asked for again", extra={"timeouts": timeouts})

    async def _bars(self, request: LongHistoryRequest, part: Slice) -> tuple[Bar, ...]:
        """The bars of a slice: asked for from its end, and further back until an answer reaches beyond its start."""
        cut, until = cut_of(request.bar_size), part.ask_until
        found: dict[datetime | date, Bar] = {}
        while True:
            asked = BarsRequest(
                request.instrument,
                request.bar_size,
                cut.duration_value,
                cut.duration_unit,
                request.what_to_show,
                request.regular_hours_only,
                until if until < self._session.now() else None,
            )
            try:
                bars = (await self._history.bars(asked, ANSWER_S)).bars
            except NoData:
                # Nothing before it, or nothing traded in so long a time.
                bars = ()
            known = len(found)
            found |= {bar.start: bar for bar in bars if part.has(bar)}
            if not bars or part.is_reached(bars) or len(found) == known:
                return tuple(found[start] for start in sorted(found))
            first = bars[0].start
            if not isinstance(first, datetime):
                # A year of days always reaches further back than its slice; this is where the history begins.
                return tuple(found[start] for start in sorted(found))
            until = first


class _Progress:
    """How far one stream is, and when it will be done."""

    def __init__(
        self,
        usage: Callable[[], Usage] | None,
        clock: Callable[[], float],
        total: int,
        done: int,
        name: Callable[[int], str],
    ) -> None:
        self._usage = usage
        self._clock = clock
        self._total = total
        self._done = self._begun_with = done
        self._began = clock()
        self._name = name

    def step(self, bars: tuple[Bar, ...]) -> HistorySlice:
        """One slice more."""
        self._done += 1
        return HistorySlice(bars, self._done, self._total, self._eta_s(), self._name(self._done))

    def word(self) -> HistorySlice:
        """Nothing new yet."""
        return HistorySlice((), self._done, self._total, self._eta_s(), self._name(self._done))

    def _eta_s(self) -> float | None:
        """By the pace so far, and not before IBKR's pacing allows so many requests."""
        left, done_here = self._total - self._done, self._done - self._begun_with
        if not left:
            return 0.0
        by_pacing = 0.0
        if self._usage is not None:
            usage = self._usage()
            room = usage.limit_count - usage.used_count
            by_pacing = max(left - room, 0) / usage.limit_count * (usage.window_s or 0.0)
        if not done_here:
            return by_pacing or None
        return max((self._clock() - self._began) / done_here * left, by_pacing)
