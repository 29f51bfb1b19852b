"""Order books: one upstream feed per contract, exchange and kind, however many read it.

TWS sends a book as insertions, changes and deletions of rows by their position. A position that cannot be means that
rows were missed: the book is thrown away and asked for anew, since a book that is wrong looks like one that is right.
"""

from __future__ import annotations

import asyncio
from typing import ClassVar, Protocol

from ibkr_gateway_server.broker.connection import Connection
from ibkr_gateway_server.broker.contracts import Contracts, to_contract
from ibkr_gateway_server.broker.keeping import MarketDataSettings
from ibkr_gateway_server.broker.numbers import number
from ibkr_gateway_server.broker.pacing import Pacer
from ibkr_gateway_server.broker.session import Session
from ibkr_gateway_server.broker.subscription import Listener, Owner, Subscription, SubscriptionKeeper
from ibkr_gateway_server.domain.depth import DepthRequest, DepthRow, MarketDepth
from ibkr_gateway_server.domain.errors import DomainError, SubscriptionsInUse
from ibkr_gateway_server.domain.instruments import Instrument
from ibkr_gateway_server.domain.usage import Usage

# Source: TWS API, market depth: what is done to a row, and on which side.
INSERT, UPDATE, DELETE = range(3)
ASK, BID = range(2)
# Source: TWS API, message codes: the book was reset and must be emptied; its rows follow, under the same request.
BOOK_RESET = 317
# Rows that do not follow in this time are asked for.
RESET_RETRY_S = 5.0
# Rows of one side that are held, whatever is asked for: TWS inserts before it deletes.
ROWS_HELD = 100
# Source: TWS API, market depth limits: one book for every hundred lines, 3 at least and 60 at most.
LINES_A_BOOK, LEAST_BOOKS, MOST_BOOKS = 100, 3, 60

# Why a book begins anew, as its readers are told and as it is counted.
RESET, BROKEN = "BOOK_RESET", "BOOK_BROKEN"
BY_RESET, BY_BROKEN, BY_ROWS = "book_reset", "book_broken", "more_rows"


class DepthListener(Listener, Protocol):
    """Hears one book."""

    def book(self, book: MarketDepth) -> None:
        """The whole book, after one read of the socket."""
        ...


class DepthFeed(Subscription[DepthListener]):
    """One reqMktDepth, its book and who listens. `row_count` is what the next request asks for."""

    request_name: ClassVar[str] = "reqMktDepth"

    def __init__(self, instrument: Instrument, row_count: int, owner: Owner, *, is_smart: bool) -> None:
        super().__init__(instrument, owner)
        self.is_smart = is_smart
        self.row_count = row_count
        self.book: MarketDepth | None = None
        self._sides: dict[int, list[DepthRow]] = {ASK: [], BID: []}
        self._is_changed = self._is_broken = False

    @property
    def key(self) -> tuple[int, str, bool]:
        """What tells it from every other."""
        return self.instrument.con_id, self.instrument.exchange, self.is_smart

    def request(self, connection: Connection) -> None:
        """Ask for it under a new request id."""
        request_id = self.attach(connection)
        connection.client.reqMktDepth(request_id, to_contract(self.instrument), self.row_count, self.is_smart, [])

    def detach(self) -> None:
        super().detach()
        self._empty()
        self._is_broken = False

    # --- what TWS sends ------------------------------------------------------------------------------------------

    def depth_row(self, position: int, operation: int, side: int, price: float, size: float, venue: str) -> None:
        if self._is_broken:
            return
        rows = self._sides.get(side)
        if rows is None or not _apply(rows, position, operation, _row(price, size, venue)):
            self._break()
            return
        del rows[ROWS_HELD:]
        self._is_changed = True

    def unreadable(self) -> None:
        """A row could not be read, so that the book is not known any more."""
        self._break()

    def survives(self, code: int) -> bool:
        if code != BOOK_RESET:
            return False
        assert self.connection is not None
        self.lose(RESET, self.connection.callbacks.now())
        self._empty()
        self._tell("book", MarketDepth())
        self.retry_at, self.retry_cause = asyncio.get_running_loop().time() + RESET_RETRY_S, BY_RESET
        return True

    def batch_end(self) -> None:
        """One read is in: publish the book that it made, once."""
        if self.connection is None or not self._is_changed:
            return
        self._is_changed = False
        self.book = MarketDepth(tuple(self._sides[BID]), tuple(self._sides[ASK]))
        self.heard()
        self._tell("book", self.book)

    def _break(self) -> None:
        self._empty()
        self._is_broken = True
        self._owner.ask_again(self, BROKEN, BY_BROKEN)

    def _empty(self) -> None:
        self._sides = {ASK: [], BID: []}
        self.book, self._is_changed = None, False


class Depth(SubscriptionKeeper[tuple[int, str, bool], DepthFeed]):
    """Every book: made for its first reader, shared by all, given back after its last."""

    requests = "market-depth"

    def __init__(
        self, session: Session, contracts: Contracts, pacer: Pacer, settings: MarketDataSettings | None = None
    ) -> None:
        super().__init__(session, contracts, pacer, settings)
        # Requests for rows of all exchanges together: their end has to say so as well.
        self._smart_ids: set[int] = set()

    @property
    def limit(self) -> int:
        """Books that there may be."""
        return min(max(self.settings.line_limit // LINES_A_BOOK, LEAST_BOOKS), MOST_BOOKS)

    async def acquire(self, wanted: DepthRequest) -> DepthFeed:
        """The book of a contract with at least so many rows, made when there is none. Give it back by `release`.

        A request for more rows than it has asks for it anew. Raises ContractNotFound, ContractAmbiguous,
        SubscriptionsInUse, BrokerDisconnected, BrokerLinkDown.
        """
        details = await self._contracts.detail(wanted.instrument)
        resolved = details.instrument
        is_smart = wanted.is_smart or resolved.exchange == "SMART"
        feed = self._kept.get((resolved.con_id, resolved.exchange, is_smart))
        if feed is None:
            self._session.linked()
            if len(self._kept) >= self.limit and not self._free_lingering():
                raise SubscriptionsInUse("order books", len(self._kept), self.limit)
            feed = DepthFeed(resolved, wanted.row_count, self, is_smart=is_smart)
            self._keep(feed)
        elif wanted.row_count > feed.row_count:
            feed.row_count = wanted.row_count
            self._want(feed, BY_ROWS)
        feed.details = details
        self._count_reader(feed)
        return feed

    def usage(self) -> Usage:
        """Books in use, and how many there may be."""
        return Usage("depth_requests", len(self._kept), self.limit)

    def refused(self, feed: DepthFeed, code: int, text: str) -> DomainError:
        error = super().refused(feed, code, text)
        if isinstance(error, SubscriptionsInUse):
            # IBKR counts those of every program of the login; these are those it granted here.
            return SubscriptionsInUse(error.kind, len(self._kept), len(self._kept))
        return error

    def _key(self, kept: DepthFeed) -> tuple[int, str, bool]:
        return kept.key

    def _counted(self) -> None:
        self._count("depth", len(self._kept))

    def _ask(self, kept: DepthFeed, connection: Connection) -> None:
        kept.request(connection)
        if kept.is_smart:
            self._smart_ids.add(kept.request_id)

    def _cancel(self, connection: Connection, request_id: int) -> None:
        connection.client.cancelMktDepth(request_id, request_id in self._smart_ids)
        self._smart_ids.discard(request_id)

    async def _restore(self, connection: Connection) -> None:
        self._smart_ids.clear()
        await super()._restore(connection)


def _row(price: float, size: float, venue: str) -> DepthRow | None:
    """A row; None where TWS says no price, as it does of one that it deletes."""
    known_price, known_size = number(price), number(size)
    return None if known_price is None or known_size is None else DepthRow(known_price, known_size, venue)


def _apply(rows: list[DepthRow], position: int, operation: int, row: DepthRow | None) -> bool:
    """Do to the rows what TWS says; whether it can be done."""
    if operation == INSERT and row is not None and 0 <= position <= len(rows):
        rows.insert(position, row)
    elif operation == UPDATE and row is not None and 0 <= position < len(rows):
        rows[position] = row
    elif operation == DELETE and 0 <= position < len(rows):
        del rows[position]
    else:
        return False
    return True
