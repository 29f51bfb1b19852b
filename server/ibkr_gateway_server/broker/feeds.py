"""Single ticks: one upstream feed per contract and kind, kept as quotes' lines are."""

from __future__ import annotations

from ibkr_gateway_server.broker.connection import Connection
from ibkr_gateway_server.broker.contracts import to_contract
from ibkr_gateway_server.broker.feed import TickFeed
from ibkr_gateway_server.broker.keeping import Keeper
from ibkr_gateway_server.domain.errors import DomainError
from ibkr_gateway_server.domain.instruments import Instrument
from ibkr_gateway_server.domain.ticks import TickType


class TickFeeds(Keeper[tuple[int, TickType], TickFeed]):
    """Every feed of ticks: made for its first reader, shared by all, given back after its last."""

    requests = "tick-by-tick"

    @property
    def open_feeds(self) -> tuple[TickFeed, ...]:
        """Every feed that is kept."""
        return tuple(self._kept.values())

    async def acquire(self, instrument: Instrument, tick_type: TickType) -> TickFeed:
        """The feed of a contract and kind, made when there is none. Give it back by `release`.

        How many there may be, IBKR alone knows: one for every twenty market-data lines of the login, whose refusal
        comes to the feed's listeners. Raises ContractNotFound, ContractAmbiguous, BrokerDisconnected, BrokerLinkDown.
        """
        resolved = await self._contracts.resolve(instrument)
        feed = self._kept.get((resolved.con_id, tick_type))
        if feed is None:
            self._session.linked()
            feed = TickFeed(resolved, tick_type, self)
            self._free_lingering_feeds()
            self._keep(feed)
        self._count_reader(feed)
        return feed

    def refused(self, feed: TickFeed, code: int, text: str) -> DomainError:
        """IBKR has ended this feed; returns what its readers fail with."""
        return self._refusal(feed, code, text, feed.request_name)

    def _key(self, kept: TickFeed) -> tuple[int, TickType]:
        return kept.key

    def _ask(self, kept: TickFeed, connection: Connection) -> None:
        kept.request(connection, to_contract(kept.instrument))

    def _cancel(self, connection: Connection, request_id: int) -> None:
        connection.client.cancelTickByTickData(request_id)

    def _look_at_kept(self, clock: float) -> None:
        for feed in self._kept.values():
            self._want_if_due(feed, clock)

    def _free_lingering_feeds(self) -> None:
        """Feeds are few: what nobody reads makes room at once for what somebody wants."""
        for feed in list(self._kept.values()):
            if feed.linger is not None:
                self._drop(feed)
