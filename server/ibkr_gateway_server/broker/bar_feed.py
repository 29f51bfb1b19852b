"""One upstream feed of live bars: IBKR's own of five seconds, or history that keeps up to date.

History that keeps up to date comes whole first, then as updates of its growing bar. A bar is complete when its
successor begins, or when its span has been over for a while; what changes in it later replaces it.
"""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from dataclasses import replace
from datetime import date, datetime, timedelta
from typing import Any, ClassVar, Protocol

from ibkr_gateway_server.broker import ib
from ibkr_gateway_server.broker.bar_rows import is_over, read_bar, read_bars
from ibkr_gateway_server.broker.connection import Connection
from ibkr_gateway_server.broker.contracts import to_contract
from ibkr_gateway_server.broker.keeping import BY_SILENCE, NO_TICKS
from ibkr_gateway_server.broker.subscription import Listener, Owner, Subscription
from ibkr_gateway_server.domain.bars import Bar, BarSize, DurationUnit, HistorySpan, LiveBarsRequest
from ibkr_gateway_server.domain.errors import BadBar
from ibkr_gateway_server.domain.instruments import ContractDetails

# Bars that are held for readers to come.
BARS_HELD = 1_000
# A bar whose span has been over for so long, and that has no successor, grows no more.
SETTLE = timedelta(seconds=10)
# Both kinds bring something every five seconds while the market trades: two of these missing are a silence. What is
# kept up to date tells changes alone, of which a quiet market has none for a while.
REAL_TIME_SILENCE_S, UPDATE_SILENCE_S = 11.0, 60.0

# Bars of five seconds that stay silent are asked for again, seldom: each time costs a historical request.
SILENT_RETRY_S = 120.0

# Source: TWS API, message codes: trades were taken back, bars are asked for anew; updates were lost.
BUST, UPDATES_LOST = 10225, 10182
_ENDINGS = {BUST: ("BARS_BUSTED", "bust"), UPDATES_LOST: ("LIVE_UPDATES_LOST", "updates_lost")}
BAR_UNREADABLE, BY_UNREADABLE = "BAR_UNREADABLE", "unreadable"

_WIDE = {BarSize.DAY_1: DurationUnit.DAY, BarSize.WEEK_1: DurationUnit.WEEK, BarSize.MONTH_1: DurationUnit.MONTH}
_HOURS = {BarSize.HOUR_1: 1, BarSize.HOURS_2: 2, BarSize.HOURS_3: 3, BarSize.HOURS_4: 4, BarSize.HOURS_8: 8}


class BarListener(Listener, Protocol):
    """Hears one feed of bars."""

    @property
    def history(self) -> HistorySpan | None:
        """How much history it wants."""
        ...

    def bars(self, bars: Sequence[Bar]) -> None:
        """New or changed ones, oldest first."""
        ...

    def loaded(self, bars: Sequence[Bar], news: Sequence[Bar]) -> None:
        """History has come: all of it, and what of it is new to who has heard the bars so far."""
        ...


class BarFeed(Subscription[BarListener]):
    """One reqRealTimeBars or one reqHistoricalData that keeps up to date, and who listens.

    `asked` is how much history was asked for, None until it was; `is_paid` while its next request is paid for from the
    budget of historical requests.
    """

    request_name: ClassVar[str] = "live bars"

    def __init__(self, wanted: LiveBarsRequest, owner: Owner) -> None:
        super().__init__(wanted.instrument, owner)
        self.wanted = wanted
        self.asked: HistorySpan | None = None
        self.is_paid = False
        self.is_loaded = wanted.is_real_time
        self._bars: dict[Any, Bar] = {}
        self._is_trimmed = False
        self._rows: list[ib.BarData] = []
        self._changed: dict[Any, Bar] = {}
        # Something came in this read, news or not; a row of history could not be read.
        self._is_alive = self._is_torn = False
        self.usual_silence_s = REAL_TIME_SILENCE_S if wanted.is_real_time else UPDATE_SILENCE_S

    @property
    def bars(self) -> tuple[Bar, ...]:
        """Those that are held, oldest first."""
        return tuple(self._bars.values())

    @property
    def is_owed(self) -> bool:
        """True while its bars should come and do not."""
        return super().is_owed or not self.is_loaded

    @property
    def hours(self) -> ContractDetails | None:
        """In which its silence means something."""
        if self.details is None or not self.wanted.regular_hours_only:
            return self.details
        return replace(self.details, trading_sessions=self.details.regular_sessions)

    def covers(self, history: HistorySpan) -> bool:
        """Whether what is held, or is on its way, is at least this much."""
        if self.asked is None:
            return True
        return history.about_s <= self.asked.about_s and not (self.is_loaded and self._is_trimmed)

    # --- what is sent --------------------------------------------------------------------------------------------

    def request(self, connection: Connection) -> None:
        """Ask for it under a new request id, with as much history as any of its readers wants."""
        request_id, contract = self.attach(connection), to_contract(self.instrument)
        shown, regular = str(self.wanted.what_to_show), self.wanted.regular_hours_only
        if self.wanted.is_real_time:
            connection.client.reqRealTimeBars(request_id, contract, 5, shown, regular, [])
            return
        spans = [listener.history for listener in self.listeners if listener.history is not None]
        self.asked = max([least_history(self.wanted.bar_size), *spans], key=lambda span: span.about_s)
        self.is_loaded = False
        connection.client.reqHistoricalData(
            # 2: seconds since the epoch, which no time zone can bend; daily bars come as dates either way.
            *(request_id, contract, "", str(self.asked), str(self.wanted.bar_size), shown, regular, 2),
            True,
            [],
        )

    def detach(self) -> None:
        super().detach()
        self._rows, self._changed, self._is_alive, self._is_torn = [], {}, False, False

    # --- what TWS sends ------------------------------------------------------------------------------------------

    def past_bar(self, bar: ib.BarData) -> None:
        self._rows.append(bar)

    def past_bars_end(self) -> None:
        rows, self._rows = self._rows, []
        if self._is_torn:
            return
        try:
            bars = read_bars(rows, self.wanted, self._now())
        except BadBar as error:
            self._owner.abandon(self)
            self.fail(error)
            return
        known = max(self._bars, default=None)
        # Who has heard bars so far hears on from the last of them; who has not, the one that grows.
        news = tuple(bar for bar in bars[-1:] if not bar.is_complete) if known is None else _since(bars, known)
        self._bars = {bar.start: bar for bar in bars}
        self._is_trimmed, self.is_loaded, self._changed = False, True, {}
        recovered = self.gap is not None and bool(bars) and _reaches(bars[0].start, self.gap.start_time)
        self._tell("loaded", bars, news)
        self.heard_time, self.told_stale, self.retry_at = self._now(), None, None
        self._resume(recovered=recovered)
        self._trim()

    def bar_update(self, bar: ib.BarData) -> None:
        if not self.is_loaded or self._is_torn:
            # History is on its way, and has this bar as well.
            return
        try:
            read = read_bar(0, bar, self.wanted)
        except BadBar:
            self.unreadable()
            return
        placed = read if self.wanted.is_real_time else self._placed(read)
        if placed is not None:
            self._set(placed)

    def unreadable(self) -> None:
        """A bar could not be read: one that is missing without a word would be worse than a new beginning."""
        self._is_torn = True
        self._owner.ask_again(self, BAR_UNREADABLE, BY_UNREADABLE)

    def survives(self, code: int) -> bool:
        """Bars that were busted, or whose updates were lost, end by themselves; they are asked for anew."""
        if code not in _ENDINGS:
            return False
        self.lose(_ENDINGS[code][0], self._now())
        self.detach()
        self._owner.ask_again(self, *_ENDINGS[code])
        return True

    def batch_end(self) -> None:
        """One read is in: publish what it brought, once."""
        if self.connection is None or not self._is_alive:
            return
        changed, self._changed, self._is_alive = tuple(self._changed.values()), {}, False
        self.heard()
        if changed:
            self._tell("bars", changed)

    # --- what happens to it --------------------------------------------------------------------------------------

    def age(self, now: datetime, stale_after_s: float, reason: str) -> None:
        if reason == NO_TICKS:
            self._settle(now)
        super().age(now, stale_after_s, reason)
        if self.wanted.is_real_time and self.told_stale is not None and self.retry_at is None:
            # IBKR sends these without trades too: one that is silent is dead.
            self.retry_at, self.retry_cause = asyncio.get_running_loop().time() + SILENT_RETRY_S, BY_SILENCE

    def _settle(self, now: datetime) -> None:
        """The last bar before a pause has no successor to complete it."""
        last = next(reversed(self._bars.values()), None)
        if last is None or last.is_complete or self.gap is not None or not self.is_loaded:
            return
        if is_over(last.start, self.wanted.bar_size, now - SETTLE):
            self._bars[last.start] = finished = replace(last, is_complete=True)
            self._tell("bars", (finished,))

    def _placed(self, bar: Bar) -> Bar | None:
        """The bar as its place among the others makes it; None for one from before all that is known."""
        last: Any = next(reversed(self._bars), None)
        if last is None or bar.start == last:
            return replace(bar, is_complete=last is not None and self._bars[last].is_complete)
        if bar.start < last:
            return bar if bar.start in self._bars else None
        if not self._bars[last].is_complete:
            self._set(replace(self._bars[last], is_complete=True))
        return replace(bar, is_complete=False)

    def _set(self, bar: Bar) -> None:
        self._is_alive = True
        if self._bars.get(bar.start) == bar:
            return
        self._bars[bar.start] = self._changed[bar.start] = bar
        self._trim()

    def _trim(self) -> None:
        while len(self._bars) > BARS_HELD:
            del self._bars[next(iter(self._bars))]
            self._is_trimmed = True

    def _now(self) -> datetime:
        assert self.connection is not None
        return self.connection.callbacks.now()


def least_history(size: BarSize) -> HistorySpan:
    """The least that can be asked for: one bar at least, in seconds of trading where bars are not of days."""
    if size in _WIDE:
        return HistorySpan(1, _WIDE[size])
    count, _, unit = str(size).partition(" ")
    width_s = _HOURS[size] * 3600 if size in _HOURS else int(count) * (60 if unit.startswith("min") else 1)
    return HistorySpan(max(60, 2 * width_s), DurationUnit.SECOND)


def _since(bars: Sequence[Bar], start: Any) -> tuple[Bar, ...]:
    return tuple(bar for bar in bars if bar.start >= start)


def _reaches(start: datetime | date, moment: datetime) -> bool:
    """Whether history from this start on holds all that was missed since then."""
    return start <= moment if isinstance(start, datetime) else start <= moment.date()
