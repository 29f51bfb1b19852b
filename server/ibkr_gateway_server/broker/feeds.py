"""Single ticks: one upstream feed per contract and kind, however many read it.

Kept as quotes' lines are: whoever wants a feed is counted at once, `run` alone sends, and a feed that nobody reads any
more lingers for a moment. A feed is asked for again after a reconnect and after 1101; 1102 keeps it.
"""

from __future__ import annotations

import asyncio
import logging
from contextlib import suppress
from datetime import UTC, datetime

from ibkr_gateway_server.broker.connection import Connection
from ibkr_gateway_server.broker.contracts import Contracts, to_contract
from ibkr_gateway_server.broker.feed import TickFeed
from ibkr_gateway_server.broker.market_data import DATA_KEPT, DATA_LOST, RETRY_S, TIMER_S, MarketDataSettings
from ibkr_gateway_server.broker.notices import request_error
from ibkr_gateway_server.broker.pacing import Pacer, Priority
from ibkr_gateway_server.broker.session import Session
from ibkr_gateway_server.domain.errors import DomainError, MarketDataLines, RateLimited
from ibkr_gateway_server.domain.instruments import Instrument
from ibkr_gateway_server.domain.sessions import SessionState
from ibkr_gateway_server.domain.ticks import TickType

log = logging.getLogger(__name__)


class TickFeeds:
    """Every feed of ticks: made for its first reader, shared by all, given back after its last."""

    def __init__(
        self, session: Session, contracts: Contracts, pacer: Pacer, settings: MarketDataSettings | None = None
    ) -> None:
        self._settings = settings or MarketDataSettings()
        self._session = session
        self._contracts = contracts
        self._pacer = pacer
        self._connection: Connection | None = None
        self._feeds: dict[tuple[int, TickType], TickFeed] = {}
        # Work for `run`: feeds to ask for, and requests to end.
        self._wanted: dict[TickFeed, None] = {}
        self._ended: list[tuple[Connection, int]] = []
        self._work = asyncio.Event()
        session.on_sync(self._restore)
        session.on_lost(self._lost)
        session.on_notice(self._noticed)

    @property
    def open_feeds(self) -> tuple[TickFeed, ...]:
        """Every feed that is kept."""
        return tuple(self._feeds.values())

    async def acquire(self, instrument: Instrument, tick_type: TickType) -> TickFeed:
        """The feed of a contract and kind, made when there is none. Give it back by `release`.

        How many there may be, IBKR alone knows: one for every twenty market-data lines of the login, whose refusal
        comes to the feed's listeners. Raises ContractNotFound, ContractAmbiguous, BrokerDisconnected, BrokerLinkDown.
        """
        resolved = await self._contracts.resolve(instrument)
        feed = self._feeds.get((resolved.con_id, tick_type))
        if feed is None:
            self._session.linked()
            feed = TickFeed(resolved, tick_type, self)
            self._feeds[feed.key] = feed
            self._free_lingering_feeds()
            self._want(feed)
        if feed.linger is not None:
            feed.linger.cancel()
            feed.linger = None
        feed.subscriber_count += 1
        return feed

    def release(self, feed: TickFeed) -> None:
        """Give a feed back; after the last reader it lingers, then ends."""
        feed.subscriber_count -= 1
        if feed.subscriber_count == 0 and self._is_kept(feed):
            feed.linger = asyncio.get_running_loop().call_later(self._settings.linger_s, self._drop, feed)

    async def run(self) -> None:
        """Ask for feeds and end unused ones, until cancelled."""
        while True:
            with suppress(TimeoutError):
                async with asyncio.timeout(TIMER_S):
                    await self._work.wait()
            self._work.clear()
            try:
                await self._send()
            except RateLimited:
                log.info("tick-by-tick requests wait for room", extra={"waiting": len(self._wanted) + len(self._ended)})
            except (DomainError, ConnectionError):
                # The connection has gone meanwhile; its successor's sync wants every feed again.
                log.info("tick-by-tick requests wait for the session")
            clock = asyncio.get_running_loop().time()
            for feed in self._feeds.values():
                if feed.retry_at is not None and clock >= feed.retry_at:
                    feed.retry_at = None
                    self._want(feed)

    def refused(self, feed: TickFeed, code: int, text: str) -> DomainError:
        """IBKR has ended this feed: nothing is left to cancel, and whoever wants it next asks anew."""
        self._drop(feed, is_live=False)
        error = request_error(code, text, feed.instrument.label(), feed.request_name)
        if isinstance(error, MarketDataLines):
            # IBKR counts the feeds of every program of the login and does not say how many; these are those it granted.
            return MarketDataLines(len(self._feeds), len(self._feeds))
        return error

    # --- sending -------------------------------------------------------------------------------------------------

    async def _send(self) -> None:
        """Ends first, since they make room for what begins; then the feeds with most readers."""
        while True:
            if self._ended:
                await self._end(*self._ended[0])
                del self._ended[0]
            elif self._wanted and self._can_send():
                await self._request(max(self._wanted, key=lambda feed: feed.subscriber_count))
            else:
                return

    async def _end(self, connection: Connection, request_id: int) -> None:
        if connection.is_open:
            await self._pacer.take(Priority.MARKET_DATA, self._session.timings.request_timeout_s)
        if connection.is_open:
            connection.client.cancelTickByTickData(request_id)

    async def _request(self, feed: TickFeed) -> None:
        timeout_s = self._session.timings.request_timeout_s
        if feed.connection is not None:
            await self._pacer.take(Priority.MARKET_DATA, timeout_s)
        await self._pacer.take(Priority.MARKET_DATA, timeout_s)
        connection = self._connection
        if feed not in self._wanted or connection is None or not connection.is_open:
            return
        if feed.connection is connection:
            connection.client.cancelTickByTickData(feed.request_id)
        feed.retry_at = asyncio.get_running_loop().time() + RETRY_S if feed.gap is not None else None
        del self._wanted[feed]
        feed.request(connection, to_contract(feed.instrument))

    def _can_send(self) -> bool:
        is_down = self._session.status.state is SessionState.LINK_DOWN
        return self._connection is not None and self._connection.is_open and not is_down

    def _want(self, feed: TickFeed) -> None:
        self._wanted[feed] = None
        self._work.set()

    # --- keeping feeds -------------------------------------------------------------------------------------------

    async def _restore(self, connection: Connection) -> None:
        """A new connection has no feeds: every one that has readers is wanted again."""
        self._connection = connection
        self._want_all()

    def _want_all(self) -> None:
        for feed in list(self._feeds.values()):
            feed.detach()
            if feed.subscriber_count:
                self._want(feed)
            else:
                self._drop(feed)

    def _lost(self, reason: str) -> None:
        now = datetime.now(UTC)
        for feed in self._feeds.values():
            feed.lose(reason, now)

    def _noticed(self, code: int, _text: str) -> None:
        if code == DATA_LOST:
            self._want_all()
        elif code == DATA_KEPT:
            # Kept, says IBKR; a feed that then stays silent is asked for again.
            silent_at = asyncio.get_running_loop().time() + self._settings.stale_after_s
            for feed in self._feeds.values():
                feed.retry_at = silent_at if feed.gap is not None else None

    def _free_lingering_feeds(self) -> None:
        """Feeds are few: what nobody reads makes room at once for what somebody wants."""
        for feed in list(self._feeds.values()):
            if feed.linger is not None:
                self._drop(feed)

    def _drop(self, feed: TickFeed, *, is_live: bool = True) -> None:
        """Keep the feed no longer; `is_live`: TWS still sends it and is told to stop."""
        if not self._is_kept(feed):
            return
        del self._feeds[feed.key]
        self._wanted.pop(feed, None)
        if feed.linger is not None:
            feed.linger.cancel()
        if is_live and feed.connection is not None:
            self._ended.append((feed.connection, feed.request_id))
            self._work.set()
        feed.detach()

    def _is_kept(self, feed: TickFeed) -> bool:
        return self._feeds.get(feed.key) is feed
