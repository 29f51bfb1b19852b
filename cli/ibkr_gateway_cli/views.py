"""What the live views of quotes, books, positions and profit show."""

from __future__ import annotations

from collections import deque
from collections.abc import Sequence
from decimal import Decimal
from typing import TYPE_CHECKING

from ibkr_gateway.v1 import account_service_pb2 as account_pb
from ibkr_gateway.v1 import market_data_service_pb2 as market_pb
from rich.console import Group, RenderableType
from rich.table import Table
from rich.text import Text

from ibkr_gateway_cli.charts import sparkline
from ibkr_gateway_cli.live import View, remark_of
from ibkr_gateway_cli.render import (
    DASH,
    amount,
    cents,
    columns_of,
    kind_of,
    name_of,
    positions_table,
    quotes_table,
    signed,
    table,
)

if TYPE_CHECKING:
    from google.protobuf.timestamp_pb2 import Timestamp

TREND_MOST = 60
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
_WARNING = "yellow"


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
                    self._remarks[each] = _WORDS[event.WhichOneof("event")], remark
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
        return f"{_clock(quote.receive_time)}  {name_of(quote.instrument)}  {sides}  last {last}  {kind_of(quote)}"

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


class PnlView(View):
    """Profit and loss of an account, with the day's trend."""

    def __init__(self) -> None:
        self._pnl: account_pb.AccountPnl | None = None
        self._trend: deque[float | None] = deque(maxlen=TREND_MOST)

    def take(self, event: account_pb.PnlEvent) -> bool:
        """Keep the newest figures."""
        if event.HasField("pnl"):
            self._pnl, self.remark = event.pnl, ""
            # For drawing alone.
            self._trend.append(float(event.pnl.daily_pnl) if event.pnl.daily_pnl else None)
            return True
        if event.HasField("gap"):
            self._trend.append(None)
        self.remark = remark_of(event) or self.remark
        return False

    def screen(self, width: int) -> RenderableType:
        """The figures, and how the day's have moved since the view began."""
        if self._pnl is None:
            return Text(self.remark or "waiting for figures", style=_WARNING)
        trend = sparkline(list(self._trend), max(1, min(TREND_MOST, width - 6)))
        return with_remark(Group(pnl_table(self._pnl), Text(f"  day {trend}")), self.remark)

    def line(self, event: account_pb.PnlEvent) -> str:
        """The account's figures."""
        if not event.HasField("pnl"):
            return remark_of(event)
        pnl = event.pnl
        figures = (
            f"{name} {signed(value)}"
            for name, value in (
                ("day", pnl.daily_pnl),
                ("unrealized", pnl.unrealized_pnl),
                ("realized", pnl.realized_pnl),
            )
        )
        stale = "  stale" if pnl.is_stale else ""
        return f"{_clock(pnl.as_of_time)}  {pnl.account_id}  {'  '.join(figures)}  {pnl.currency}{stale}"


class PositionsView(View):
    """Positions by account and contract, in the order in which they were told."""

    def __init__(self) -> None:
        self._positions: dict[tuple[str, int], account_pb.Position] = {}
        self._is_whole = False

    def take(self, event: account_pb.PositionEvent) -> bool:
        """Keep a position, drop one that is closed, and begin anew with a snapshot."""
        kind = event.WhichOneof("event")
        if kind == "position":
            key = (event.position.account_id, event.position.instrument.con_id)
            if Decimal(event.position.quantity):
                self._positions[key] = event.position
            else:
                self._positions.pop(key, None)
            return True
        if kind == "snapshot_begin":
            self._positions, self._is_whole = {}, False
        elif kind == "snapshot_end":
            self._is_whole, self.remark = True, ""
        self.remark = remark_of(event) or self.remark
        return False

    def screen(self, width: int) -> RenderableType:
        """The table of positions."""
        waiting = "" if self._is_whole else "waiting for positions"
        return with_remark(positions_table(self._positions.values()), self.remark or waiting)

    def line(self, event: account_pb.PositionEvent) -> str:
        """A position as it is now."""
        if not event.HasField("position"):
            return remark_of(event)
        held = event.position
        value = f"value {amount(held.market_value)}  unrealized {signed(held.unrealized_pnl)}  {held.currency}"
        return f"{held.account_id}  {amount(held.quantity, 0)} {name_of(held.instrument)}  {value}"


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


def pnl_table(pnl: account_pb.AccountPnl) -> Table:
    """Profit and loss: a row for each position, then the account's own figures."""
    numbers = ("quantity", "value", "day", "unrealized", "realized")
    title = f"Profit and loss of {pnl.account_id} ({pnl.currency})" + (", stale" if pnl.is_stale else "")
    made = table(title, "instrument", *numbers, numbers=numbers)
    for detail in pnl.details:
        figures = (signed(value) for value in (detail.daily_pnl, detail.unrealized_pnl, detail.realized_pnl))
        made.add_row(name_of(detail.instrument), amount(detail.quantity, 0), amount(detail.market_value), *figures)
    made.add_section()
    made.add_row("account", "", "", *(signed(value) for value in (pnl.daily_pnl, pnl.unrealized_pnl, pnl.realized_pnl)))
    return made


def with_remark(shown: RenderableType, remark: str) -> RenderableType:
    """Figures, and below them why they are not to be believed."""
    return Group(shown, Text(f"  {remark}", style=_WARNING)) if remark else shown


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


def _clock(time: Timestamp) -> str:
    return time.ToDatetime().strftime("%H:%M:%SZ")
