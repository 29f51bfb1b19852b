"""Order books: kept row by row as TWS tells them, and begun anew when they cannot be right."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any

import pytest
from ibkr_gateway_server.broker.depth import ASK, BID, DELETE, INSERT, ROWS_HELD, UPDATE, DepthFeed
from ibkr_gateway_server.domain.depth import DepthRequest, DepthRow, MarketDepth
from ibkr_gateway_server.domain.errors import DomainError, NoDepth, SubscriptionsInUse
from ibkr_gateway_server.domain.instruments import Instrument, SecurityType
from ibkr_gateway_server.domain.streams import Gap, Resumed, Stale
from ibkr_gateway_server.domain.tallies import FEEDS, RESUBSCRIBES
from ibkr_gateway_server.simulator import Fault

from tests.failures.conftest import inject, virtual_broker, virtually
from tests.server.broker.conftest import Broker

AAPL = Instrument(symbol="AAPL", security_type=SecurityType.STK)
NASDAQ = Instrument(symbol="AAPL", security_type=SecurityType.STK, exchange="NASDAQ")
INDEX = Instrument(symbol="SPX", security_type=SecurityType.IND)
# Requests for books, and their end; a book's row with its venue.
DEPTH, END, ROW = 10, 11, 13


class Ear:
    """Hears a book and keeps all."""

    def __init__(self) -> None:
        self.heard: list[Any] = []

    def book(self, book: MarketDepth) -> None:
        self.heard.append(book)

    def gap(self, gap: Gap) -> None:
        self.heard.append(gap)

    def resumed(self, resumed: Resumed) -> None:
        self.heard.append(resumed)

    def stale(self, stale: Stale) -> None:
        self.heard.append(stale)

    def failed(self, error: DomainError) -> None:
        self.heard.append(error)

    def of(self, *kinds: type) -> list[Any]:
        return [each for each in self.heard if isinstance(each, kinds)]


@asynccontextmanager
async def following(instrument: Instrument = AAPL) -> AsyncIterator[tuple[Broker, DepthFeed, Ear]]:
    """A book in virtual time that has come."""
    async with virtual_broker() as broker:
        await broker.session.wait_until_ready(20)
        feed, ear = await broker.depth.acquire(DepthRequest(instrument)), Ear()
        feed.listeners[ear] = None
        await asyncio.sleep(2)
        yield broker, feed, ear


def prices(book: MarketDepth | None) -> tuple[list[float], list[float]]:
    assert book is not None
    return [row.price for row in book.bids], [row.price for row in book.asks]


def test_a_book_has_its_best_rows_first_and_never_crosses() -> None:
    async def main() -> None:
        async with following() as (_, feed, ear):
            await asyncio.sleep(30)
            books = ear.of(MarketDepth)
            assert len(books) > 20
            for book in books:
                bids, asks = prices(book)
                assert len(bids) == len(asks) == 5
                assert bids == sorted(bids, reverse=True)
                assert asks == sorted(asks)
                assert bids[0] <= asks[0]
            assert all(row.venue and row.size > 0 for row in (*books[-1].bids, *books[-1].asks))
            assert feed.is_smart

    virtually(main)


def test_rows_are_inserted_changed_and_deleted_by_their_position() -> None:
    async def main() -> None:
        async with following() as (_, feed, ear):
            feed._empty()
            for position, price in enumerate((10.0, 9.0, 8.0)):
                feed.depth_row(position, INSERT, BID, price, 100.0, "")
            feed.depth_row(0, INSERT, BID, 11.0, 50.0, "NSDQ")
            feed.depth_row(2, UPDATE, BID, 9.5, 70.0, "")
            feed.depth_row(3, DELETE, BID, 0.0, 0.0, "")
            feed.depth_row(0, INSERT, ASK, 12.0, 30.0, "")
            ear.heard.clear()
            feed.batch_end()
            (book,) = ear.heard
            bids = (DepthRow(11.0, 50.0, "NSDQ"), DepthRow(10.0, 100.0), DepthRow(9.5, 70.0))
            assert book == MarketDepth(bids, (DepthRow(12.0, 30.0),))
            feed.batch_end()
            assert len(ear.heard) == 1

    virtually(main)


@pytest.mark.parametrize(
    "row",
    [
        (9, UPDATE, BID, 1.0, 1.0),
        (9, INSERT, ASK, 1.0, 1.0),
        (9, DELETE, ASK, 0.0, 0.0),
        (-1, UPDATE, BID, 1.0, 1.0),
        (0, 3, BID, 1.0, 1.0),
        (0, UPDATE, 2, 1.0, 1.0),
        (0, UPDATE, BID, 1.7976931348623157e308, 1.0),
    ],
    ids=["update", "insert", "delete", "negative", "operation", "side", "sentinel"],
)
def test_a_row_that_cannot_be_throws_the_book_away_and_asks_for_it_anew(
    row: tuple[int, int, int, float, float],
) -> None:
    async def main() -> None:
        async with following() as (broker, feed, ear):
            ear.heard.clear()
            feed.depth_row(*row, "")
            # What follows in the same read is of a book that is not known any more.
            feed.depth_row(0, INSERT, BID, 5.0, 1.0, "")
            feed.batch_end()
            assert [type(each) for each in ear.heard] == [Gap]
            assert (feed.gap and feed.gap.reason, feed.book) == ("BOOK_BROKEN", None)
            await asyncio.sleep(2)
            assert isinstance(ear.heard[1], Resumed)
            assert prices(ear.heard[2])[0][0] > 5.0
            assert broker.simulator.frames_received(DEPTH) == 2
            assert broker.simulator.frames_received(END) == 1
            assert broker.session.tallies.value(RESUBSCRIBES, "book_broken") == 1

    virtually(main)


def test_a_book_that_breaks_again_and_again_is_asked_for_once_a_minute() -> None:
    async def main() -> None:
        async with following() as (broker, _, ear):
            # The position of every row is one that cannot be.
            inject(broker.simulator, Fault.CORRUPT_FIELD, ROW, field=3, value="99", times=None)
            await asyncio.sleep(125)
            assert 3 <= broker.simulator.frames_received(DEPTH) <= 4
            assert len(ear.of(Gap)) == 1

    virtually(main)


def test_no_more_rows_are_held_than_any_book_has() -> None:
    async def main() -> None:
        async with following() as (_, feed, _ear):
            for _ in range(10 * ROWS_HELD):
                feed.depth_row(0, INSERT, BID, 1.0, 1.0, "")
            feed.batch_end()
            assert feed.book is not None
            assert len(feed.book.bids) == ROWS_HELD

    virtually(main)


def test_each_exchange_has_a_book_of_its_own_and_three_are_all() -> None:
    async def main() -> None:
        async with following() as (broker, feed, ear):
            other = await broker.depth.acquire(DepthRequest(NASDAQ))
            assert (other is feed, other.is_smart) == (False, False)
            assert await broker.depth.acquire(DepthRequest(AAPL, is_smart=True)) is feed
            third = await broker.depth.acquire(DepthRequest(Instrument(symbol="MSFT", security_type=SecurityType.STK)))
            fourth = DepthRequest(Instrument(symbol="SPY", security_type=SecurityType.STK))
            with pytest.raises(SubscriptionsInUse) as refused:
                await broker.depth.acquire(fourth)
            assert (refused.value.used, refused.value.limit) == (3, 3)
            assert broker.depth.usage().used_count == broker.session.tallies.value(FEEDS, "depth") == 3
            # One that lingers makes room at once.
            broker.depth.release(third)
            await broker.depth.acquire(fourth)
            await asyncio.sleep(2)
            assert broker.simulator.frames_received(DEPTH) == 4
            assert not ear.of(DomainError)

    virtually(main)


def test_ibkr_has_fewer_books_left_than_we_think() -> None:
    async def main() -> None:
        async with following() as (broker, _, ear):
            inject(broker.simulator, Fault.REFUSE, DEPTH, code=309)
            feed, other = await broker.depth.acquire(DepthRequest(NASDAQ)), Ear()
            feed.listeners[other] = None
            await asyncio.sleep(2)
            (error,) = other.heard
            assert (type(error), error.used, error.limit) == (SubscriptionsInUse, 1, 1)
            assert not ear.of(DomainError)

    virtually(main)


def test_an_instrument_without_a_book_is_refused() -> None:
    async def main() -> None:
        async with following(INDEX) as (broker, _, ear):
            assert [type(each) for each in ear.heard] == [NoDepth]
            assert broker.depth.open_feeds == ()

    virtually(main)


def test_a_book_with_more_rows_is_asked_for_once_and_serves_those_who_want_fewer() -> None:
    async def main() -> None:
        async with following() as (broker, feed, ear):
            assert await broker.depth.acquire(DepthRequest(AAPL, row_count=3)) is feed
            await asyncio.sleep(2)
            assert broker.simulator.frames_received(DEPTH) == 1
            assert await broker.depth.acquire(DepthRequest(AAPL, row_count=12)) is feed
            await asyncio.sleep(2)
            assert (broker.simulator.frames_received(DEPTH), broker.simulator.frames_received(END)) == (2, 1)
            assert len(prices(ear.heard[-1])[0]) == 12
            assert not ear.of(Gap)

    virtually(main)


def test_a_book_ends_after_its_last_reader() -> None:
    async def main() -> None:
        async with following() as (broker, feed, _):
            broker.depth.release(feed)
            await asyncio.sleep(4)
            assert broker.simulator.frames_received(END) == 0
            await asyncio.sleep(2)
            assert broker.simulator.frames_received(END) == 1
            assert broker.depth.open_feeds == ()

    virtually(main)


def test_silence_in_trading_hours_is_stale_until_the_next_row() -> None:
    async def main() -> None:
        async with following() as (broker, _, ear):
            inject(broker.simulator, Fault.LOSE_REPLY, ROW, times=None, duration_s=30)
            await asyncio.sleep(29)
            (stale,) = ear.of(Stale)
            assert stale.reason == "NO_TICKS"
            assert isinstance(ear.heard[-1], Stale)

    virtually(main)
