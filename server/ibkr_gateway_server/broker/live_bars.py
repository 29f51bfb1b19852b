"""Live bars: one upstream feed for each contract, width, price and kind, however many read it.

A feed that keeps up to date begins with history, so it counts among the historical requests, which IBKR paces; so do
bars of five seconds by IBKR's word. Each is paid for from the one budget before it is asked for.
"""

from __future__ import annotations

import asyncio
from dataclasses import replace

from ibkr_gateway_server.broker.bar_feed import BarFeed
from ibkr_gateway_server.broker.bar_rows import what_to_show
from ibkr_gateway_server.broker.connection import Connection
from ibkr_gateway_server.broker.contracts import Contracts
from ibkr_gateway_server.broker.history import History
from ibkr_gateway_server.broker.history_pacing import IDENTICAL_S, Kind, kind_of
from ibkr_gateway_server.broker.keeping import BY_FARM, FARM_DOWN, FARM_RETRY_S, FARM_SILENCE_S, MarketDataSettings
from ibkr_gateway_server.broker.pacing import Pacer
from ibkr_gateway_server.broker.session import Session
from ibkr_gateway_server.broker.subscription import SubscriptionKeeper
from ibkr_gateway_server.domain.bars import Bar, BarsRequest, LiveBarsRequest
from ibkr_gateway_server.domain.errors import DomainError, PacingHistorical, SubscriptionsInUse
from ibkr_gateway_server.domain.usage import Usage

# Source: TWS API, historical data limitations: so many historical requests may be open at once; those that keep up to
# date stay open, and must leave room for others.
OPEN_LIMIT = 40
# Source: TWS API, message codes: the farm of history is broken, or back (2107: it sleeps until it is asked).
HISTORY_FARM_BROKEN, HISTORY_FARM_BACK = 2105, (2106, 2107)


class LiveBars(SubscriptionKeeper[LiveBarsRequest, BarFeed]):
    """Every feed of live bars: made for its first reader, shared by all, given back after its last."""

    requests = "live-bar"

    def __init__(
        self,
        session: Session,
        contracts: Contracts,
        pacer: Pacer,
        history: History,
        settings: MarketDataSettings | None = None,
    ) -> None:
        super().__init__(session, contracts, pacer, settings)
        self._history = history
        # When each was last asked for, on the loop's clock: an identical request soon after is a violation.
        self._asked_at: dict[LiveBarsRequest, float] = {}
        self._is_history_down = False
        # Requests of bars of five seconds, which end by a message of their own.
        self._real_time_ids: set[int] = set()

    async def acquire(self, wanted: LiveBarsRequest) -> BarFeed:
        """The feed of these bars, made when there is none. Give it back by `release`.

        Raises ContractNotFound, ContractAmbiguous, PacingHistorical, SubscriptionsInUse, BrokerDisconnected,
        BrokerLinkDown.
        """
        details = await self._contracts.detail(wanted.instrument)
        shown = what_to_show(wanted.what_to_show, details.instrument)
        resolved = replace(wanted, instrument=details.instrument, what_to_show=shown, history=None)
        feed = self._kept.get(resolved)
        if feed is None:
            self._session.linked()
            self._make_room(resolved)
            self._history.pacing.spend(1)
            feed = BarFeed(resolved, self)
            feed.is_paid = True
            self._keep(feed)
        feed.details = details
        self._count_reader(feed)
        return feed

    async def longer_history(self, feed: BarFeed, wanted: LiveBarsRequest, timeout_s: float) -> tuple[Bar, ...]:
        """More history than the feed holds, from a request of its own, joined with what the feed has since brought.

        Raises the errors of `History.bars`.
        """
        assert wanted.history is not None
        asked = BarsRequest(
            feed.instrument,
            wanted.bar_size,
            wanted.history.value,
            wanted.history.unit,
            feed.wanted.what_to_show,
            wanted.regular_hours_only,
        )
        older = (await self._history.bars(asked, timeout_s)).bars
        joined = {bar.start: bar for bar in (*older, *feed.bars)}
        return tuple(joined[start] for start in sorted(joined))

    def usage(self) -> tuple[Usage, Usage]:
        """Feeds in use, and how many there may be: those that keep up to date, and IBKR's own of five seconds."""
        updated, real_time = self._counts()
        limit = self.settings.line_limit
        return Usage("live_bars", updated, OPEN_LIMIT), Usage("real_time_bars", real_time, limit)

    def _counts(self) -> tuple[int, int]:
        real_time = sum(feed.wanted.is_real_time for feed in self._kept.values())
        return len(self._kept) - real_time, real_time

    def _make_room(self, wanted: LiveBarsRequest) -> None:
        if wanted.is_real_time:
            return
        updated = self._counts()[0]
        lingering = [feed for feed in self._kept.values() if feed.linger is not None and not feed.wanted.is_real_time]
        if updated >= OPEN_LIMIT and lingering:
            self._drop(lingering[0])
        elif updated >= OPEN_LIMIT:
            raise SubscriptionsInUse("feeds of bars that are kept up to date", updated, OPEN_LIMIT)

    def refused(self, feed: BarFeed, code: int, text: str) -> DomainError:
        error = super().refused(feed, code, text)
        if isinstance(error, PacingHistorical):
            self._history.pacing.violated()
        return error

    # --- how they are kept ---------------------------------------------------------------------------------------

    def _key(self, kept: BarFeed) -> LiveBarsRequest:
        return kept.wanted

    def _counted(self) -> None:
        updated, real_time = self._counts()
        self._count("live_bars", updated)
        self._count("real_time_bars", real_time)

    def _may_ask(self, kept: BarFeed, clock: float) -> bool:
        if not kept.wanted.is_real_time:
            asked_at = self._asked_at.get(kept.wanted)
            is_identical = asked_at is not None and clock - asked_at < IDENTICAL_S
            if is_identical or not self._history.pacing.has_turn(_kind(kept.wanted)):
                return False
        return kept.is_paid or self._history.pacing.has_room(1)

    def _ask(self, kept: BarFeed, connection: Connection) -> None:
        if not kept.is_paid:
            self._history.pacing.spend(1)
        kept.is_paid = False
        clock = asyncio.get_running_loop().time()
        self._asked_at = {key: at for key, at in self._asked_at.items() if clock - at < IDENTICAL_S}
        self._asked_at[kept.wanted] = clock
        kept.request(connection)
        if kept.wanted.is_real_time:
            self._real_time_ids.add(kept.request_id)
        else:
            self._history.pacing.note_sent(_kind(kept.wanted))

    def _cancel(self, connection: Connection, request_id: int) -> None:
        if request_id in self._real_time_ids:
            self._real_time_ids.discard(request_id)
            connection.client.cancelRealTimeBars(request_id)
        else:
            connection.client.cancelHistoricalData(request_id)

    async def _restore(self, connection: Connection) -> None:
        self._real_time_ids.clear()
        self._is_history_down = False
        await super()._restore(connection)

    def _noticed(self, code: int, text: str) -> None:
        super()._noticed(code, text)
        if code == HISTORY_FARM_BROKEN:
            self._is_history_down = True
        elif code in HISTORY_FARM_BACK and self._is_history_down:
            self._is_history_down = False
            self._expect_within(FARM_RETRY_S, BY_FARM)

    def _look_at_kept(self, clock: float) -> None:
        if self._is_history_down:
            for feed in self._kept.values():
                if not feed.wanted.is_real_time:
                    feed.age(self._session.now(), FARM_SILENCE_S, FARM_DOWN)
        super()._look_at_kept(clock)


def _kind(wanted: LiveBarsRequest) -> Kind:
    return kind_of(wanted.instrument, wanted.what_to_show)
