"""Single ticks: one upstream feed per contract and kind, kept as quotes' lines are.

IBKR takes one request in fifteen seconds for each instrument, whatever the kind of ticks: a later one waits here.
"""

from __future__ import annotations

import asyncio

from ibkr_gateway_server.broker.connection import Connection
from ibkr_gateway_server.broker.contracts import Contracts, to_contract
from ibkr_gateway_server.broker.feed import TickFeed
from ibkr_gateway_server.broker.keeping import Keeper, MarketDataSettings
from ibkr_gateway_server.broker.pacing import Pacer
from ibkr_gateway_server.broker.session import Session
from ibkr_gateway_server.domain.errors import DomainError
from ibkr_gateway_server.domain.instruments import Instrument
from ibkr_gateway_server.domain.tallies import FEEDS
from ibkr_gateway_server.domain.ticks import TickType
from ibkr_gateway_server.domain.usage import Usage

# Source: TWS API, tick-by-tick data: one subscription for so many market-data lines.
LINES_A_FEED = 20


class TickFeeds(Keeper[tuple[int, TickType], TickFeed]):
    """Every feed of ticks: made for its first reader, shared by all, given back after its last."""

    requests = "tick-by-tick"

    def __init__(
        self, session: Session, contracts: Contracts, pacer: Pacer, settings: MarketDataSettings | None = None
    ) -> None:
        super().__init__(session, contracts, pacer, settings)
        # When each instrument was last asked for, on the loop's clock.
        self._asked_at: dict[int, float] = {}

    @property
    def open_feeds(self) -> tuple[TickFeed, ...]:
        """Every feed that is kept."""
        return tuple(self._kept.values())

    async def acquire(self, instrument: Instrument, tick_type: TickType) -> TickFeed:
        """The feed of a contract and kind, made when there is none. Give it back by `release`.

        How many there may be, IBKR alone knows: one for every twenty market-data lines of the login, whose refusal
        comes to the feed's listeners. Raises ContractNotFound, ContractAmbiguous, BrokerDisconnected, BrokerLinkDown.
        """
        details = await self._contracts.detail(instrument)
        resolved = details.instrument
        feed = self._kept.get((resolved.con_id, tick_type))
        if feed is None:
            self._session.linked()
            feed = TickFeed(resolved, tick_type, self)
            self._free_lingering_feeds()
            self._keep(feed)
        feed.details = details
        self._count_reader(feed)
        return feed

    def usage(self) -> Usage:
        """Feeds in use, and how many there may be."""
        return Usage("tick_by_tick", len(self._kept), self.settings.line_limit // LINES_A_FEED)

    def refused(self, feed: TickFeed, code: int, text: str) -> DomainError:
        """IBKR has ended this feed; returns what its readers fail with."""
        return self._refusal(feed, code, text, feed.request_name)

    def _key(self, kept: TickFeed) -> tuple[int, TickType]:
        return kept.key

    def _may_ask(self, kept: TickFeed, clock: float) -> bool:
        asked_at = self._asked_at.get(kept.instrument.con_id)
        return asked_at is None or clock - asked_at >= self.settings.tick_interval_s

    def _counted(self) -> None:
        self.tallies.set(FEEDS, len(self._kept), "tick_by_tick")

    def _ask(self, kept: TickFeed, connection: Connection) -> None:
        clock = asyncio.get_running_loop().time()
        # Of those asked for longer ago nothing has to be known.
        recent = clock - self.settings.tick_interval_s
        self._asked_at = {con_id: asked_at for con_id, asked_at in self._asked_at.items() if asked_at > recent}
        self._asked_at[kept.instrument.con_id] = clock
        kept.request(connection, to_contract(kept.instrument))

    def _cancel(self, connection: Connection, request_id: int) -> None:
        connection.client.cancelTickByTickData(request_id)

    def _free_lingering_feeds(self) -> None:
        """Feeds are few: what nobody reads makes room at once for what somebody wants."""
        for feed in list(self._kept.values()):
            if feed.linger is not None:
                self._drop(feed)
