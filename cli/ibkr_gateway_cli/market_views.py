"""What the live views of quotes and books show."""

from __future__ import annotations

from collections import deque
from collections.abc import Sequence

from ibkr_gateway.v1 import market_data_service_pb2 as market_pb
from rich.console import RenderableType
from rich.table import Table
from rich.text import Text

from ibkr_gateway_cli.charts import sparkline
from ibkr_gateway_cli.live import TREND_MOST, View, remark_of
from ibkr_gateway_cli.render import (
    DASH,
    cents,
    clock,
    columns_of,
    kind_of,
    name_of,
    quotes_table,
    table,
    with_remark,
)

# From wide terminals to narrow ones: the columns that are left out, and how many signs a trend has.
_SIZES = ("bid size", "ask size")
_QUOTE_LAYOUTS: tuple[tuple[tuple[str, ...], int], ...] = (
    ((), 30),
    ((), 12),
    (_SIZES, 20),
    (_SIZES, 12),
    ((*_SIZES, "volume"), 12),
    ((*_SIZES, "volume"), 6),
)
_LONGEST_BAR = 20
# What a row has room for; the whole remark is below the table.
_WORDS = {"gap": "gap", "stale": "stale", "error": "ended", "draining": "ending", "resumed": "resumed"}


class QuotesView(View):
    """Quotes of several instruments, each with its trend and its own remark."""

    def __init__(self, labels: Sequence[str]) -> None:
        self._labels = labels
        self._quotes: dict[int, market_pb.Quote] = {}
        self._remarks: dict[int, tuple[str, str]] = {}
        """By instrument: a word for its row, and the remark."""
        self._trends: dict[int, deque[float | None]] = {}
        self._ended: set[int] = set()
        # The layout last drawn and for which width: it stays, so that nothing jumps to and fro with a digit.
        self._layout, self._width = 0, 0

    @property
    def is_over(self) -> bool:
        """Whether every instrument has ended, without a quote of any."""
        return not self._quotes and len(self._ended) == len(self._labels)

    def take(self, event: market_pb.QuoteEvent) -> bool:
        """Keep what an event says, and take back what it ends."""
        index = event.instrument_index
        if event.HasField("quote"):
            self._quotes[index] = event.quote
            self._remarks.pop(index, None)
            self._trend(index).append(middle(event.quote))
            return True
        if remark := remark_of(event):
            # The stream as a whole: all that have not ended.
            for each in range(len(self._labels)) if index < 0 else (index,):
                if each not in self._ended:
                    self._remarks[each] = _WORDS[event.WhichOneof("event") or ""], remark
                if event.HasField("gap"):
                    self._trend(each).append(None)
        if event.HasField("error"):
            self._ended |= {index} if index >= 0 else set(range(len(self._labels)))
        return False

    def screen(self, width: int) -> RenderableType:
        """A row for each instrument, with as much of it as there is room for."""
        if width != self._width:
            self._layout, self._width = 0, width
        made = self._table()
        while self._layout < len(_QUOTE_LAYOUTS) - 1 and columns_of(made) > width:
            self._layout += 1
            made = self._table()
        return with_remark(made, "\n  ".join(self._told()))

    def _told(self) -> list[str]:
        """Each remark once, with those that it is about."""
        about: dict[str, list[str]] = {}
        for index, (_, remark) in sorted(self._remarks.items()):
            about.setdefault(remark, []).append(self._labels[index])
        return [f"{', '.join(labels)}: {remark}" for remark, labels in about.items()]

    def _table(self) -> Table:
        without, length = _QUOTE_LAYOUTS[self._layout]
        rows = [
            (label, self._quotes.get(index), self._remarks.get(index, ("", ""))[0])
            for index, label in enumerate(self._labels)
        ]
        trends = [sparkline(list(self._trend(index)), length).rjust(length) for index in range(len(self._labels))]
        return quotes_table(rows, trends=trends, without=without)

    def line(self, event: market_pb.QuoteEvent) -> str:
        """A quote, or why there is none."""
        index = event.instrument_index
        label = self._labels[index] if index >= 0 else "all"
        if not event.HasField("quote"):
            remark = remark_of(event)
            return f"{label}  {remark}" if remark else ""
        quote = event.quote
        sides = "  ".join(
            f"{name} {_price(quote, f'{name}_price')} x {_size(quote, f'{name}_size')}" for name in ("bid", "ask")
        )
        last = _price(quote, "last_price")
        return f"{clock(quote.receive_time)}  {name_of(quote.instrument)}  {sides}  last {last}  {kind_of(quote)}"

    def _trend(self, index: int) -> deque[float | None]:
        return self._trends.setdefault(index, deque(maxlen=TREND_MOST))


class DepthView(View):
    """The book of one instrument."""

    def __init__(self, label: str, row_count: int) -> None:
        self._label, self._row_count = label, row_count
        self._book = market_pb.MarketDepth()

    def take(self, event: market_pb.MarketDepthEvent) -> bool:
        """Keep the newest book."""
        if event.HasField("depth"):
            self._book, self.remark = event.depth, ""
            return True
        self.remark = remark_of(event) or self.remark
        return False

    def screen(self, width: int) -> RenderableType:
        """The book, as many rows as asked for also while it has fewer, so that nothing below it jumps."""
        return with_remark(depth_table(self._label, self._book, self._row_count, width), self.remark)

    def line(self, event: market_pb.MarketDepthEvent) -> str:
        """The best of both sides, and how much there is."""
        if not event.HasField("depth"):
            return remark_of(event)
        sides = [
            f"{name} {cents(rows[0].price)} x {rows[0].size:,.10g} ({sum(row.size for row in rows):,.10g} in all)"
            if rows
            else f"{name} {DASH}"
            for name, rows in (("bid", event.depth.bids), ("ask", event.depth.asks))
        ]
        return f"{self._label}  {'  '.join(sides)}"


def depth_table(label: str, book: market_pb.MarketDepth, row_count: int, width: int) -> Table:
    """A book, best prices first: bids on the left, asks on the right; sizes also as bars where there is room."""
    bare = _depth_table(label, book, row_count, 0)
    return _depth_table(label, book, row_count, max(0, min(_LONGEST_BAR, (width - columns_of(bare)) // 2)))


def _depth_table(label: str, book: market_pb.MarketDepth, row_count: int, longest: int) -> Table:
    made = table(f"Depth of {label}")
    for column in ("venue", "", "size", "bid"):
        made.add_column(column, justify="right", no_wrap=True)
    for column in ("ask", "size", "", "venue"):
        made.add_column(column, no_wrap=True)
    # All bars have one scale.
    unit = longest / max((row.size for row in (*book.bids, *book.asks)), default=1.0)
    for at in range(row_count):
        bid = _depth_cells(book.bids[at], unit, "green") if at < len(book.bids) else [Text(DASH)] * 4
        ask = _depth_cells(book.asks[at], unit, "red") if at < len(book.asks) else [Text(DASH)] * 4
        made.add_row(*reversed(bid), *ask)
    return made


def _depth_cells(row: market_pb.DepthRow, unit: float, style: str) -> list[Text]:
    bar = "█" * round(row.size * unit)
    return [Text(cents(row.price), style=style), Text(f"{row.size:,.10g}"), Text(bar, style=style), Text(row.venue)]


def middle(quote: market_pb.Quote) -> float | None:
    """The last price, or what is between bid and ask: what a trend is drawn of."""
    if quote.HasField("last_price"):
        return quote.last_price
    if quote.HasField("bid_price") and quote.HasField("ask_price"):
        return (quote.bid_price + quote.ask_price) / 2
    return None


def _price(quote: market_pb.Quote, name: str) -> str:
    return cents(getattr(quote, name)) if quote.HasField(name) else DASH  # type: ignore[arg-type]  # any of its names


def _size(quote: market_pb.Quote, name: str) -> str:
    return f"{getattr(quote, name):,.10g}" if quote.HasField(name) else DASH  # type: ignore[arg-type]  # as above
