"""Market depth: one reqMktDepth, the rows that it has sent and what is new in them."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from enum import Enum

from ibkr_gateway_server.simulator.codec.ticks import (
    ASK_SIDE,
    BID_SIDE,
    DELETE,
    INSERT,
    UPDATE,
    market_depth,
    market_depth_l2,
)
from ibkr_gateway_server.simulator.listings import Listing
from ibkr_gateway_server.simulator.market import Level, Market

# Nasdaq's own book, as market makers' books name it.
_MAKER = "NSDQ"


class BookKind(Enum):
    """Whose rows a book has: prices alone, market makers', or all venues' together."""

    PRICES = "12"
    MAKERS = "13"
    SMART = "13, SMART"


@dataclass(slots=True)
class Depth:
    """One book. Rows are changed in place, and added and taken away at the tail: so that clients that shift rows at
    an insert and those that do not agree."""

    req_id: int
    listing: Listing
    rows: int
    kind: BookKind
    sent: dict[int, Sequence[Level]] = field(default_factory=dict)

    def changes(self, market: Market, now: float) -> Iterator[list[str]]:
        """Every row that differs from what was sent: bids, then asks."""
        if self.sent and not market.is_open(self.listing, now):
            return
        book = market.book(self.listing, now, self.rows)
        for side, rows in ((BID_SIDE, book.bids), (ASK_SIDE, book.asks)):
            yield from self._side(side, rows)

    def forget(self) -> None:
        """The book has been reset: the client has nothing, and gets every row anew."""
        self.sent.clear()

    def _side(self, side: int, rows: Sequence[Level]) -> Iterator[list[str]]:
        before = self.sent.get(side, ())
        self.sent[side] = rows
        for position in range(len(before) - 1, len(rows) - 1, -1):
            yield self._row(position, DELETE, side, Level(0.0, 0, before[position].venue))
        for position in range(len(before), len(rows)):
            yield self._row(position, INSERT, side, rows[position])
        for position, (was, row) in enumerate(zip(before, rows, strict=False)):
            if was != row:
                yield self._row(position, UPDATE, side, row)

    def _row(self, position: int, operation: int, side: int, row: Level) -> list[str]:
        if self.kind is BookKind.PRICES:
            return market_depth(self.req_id, position, operation, side, row.price, row.size)
        is_smart = self.kind is BookKind.SMART
        maker = row.venue if is_smart else _MAKER
        return market_depth_l2(self.req_id, position, maker, operation, side, row.price, row.size, is_smart=is_smart)
