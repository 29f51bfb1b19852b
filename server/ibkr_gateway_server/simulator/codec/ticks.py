"""Server messages of single ticks: by tick, of the past, of the book, of a histogram."""

from __future__ import annotations

from collections.abc import Sequence

from ibkr_gateway_server.simulator.market import Tick
from ibkr_gateway_server.simulator.wire import plain

LAST, ALL_LAST, BID_ASK, MIDPOINT = 1, 2, 3, 4

INSERT, UPDATE, DELETE = 0, 1, 2
ASK_SIDE, BID_SIDE = 0, 1

# Neither of them: past the limits, unreported; the bid past the day's low, the ask past its high.
_NO_ATTRIBUTES = "0"


def tick_by_tick(req_id: int, kind: int, tick: Tick) -> list[str]:
    """99: a trade, a quote or a middle, its time in whole seconds."""
    head = ["99", str(req_id), str(kind), str(int(tick.time))]
    if kind in (LAST, ALL_LAST):
        return [*head, plain(tick.last), str(tick.last_size), _NO_ATTRIBUTES, tick.venue, ""]
    if kind == BID_ASK:
        return [*head, *_quote(tick), _NO_ATTRIBUTES]
    return [*head, plain(middle_of(tick))]


def historical_ticks(req_id: int, kind: int, ticks: Sequence[Tick], *, is_last: bool) -> list[str]:
    """96, 97 or 98: middles, quotes or trades of the past; whether these were the last of them."""
    message_id, row_of = {
        MIDPOINT: ("96", _middle_row),
        BID_ASK: ("97", _quote_row),
        LAST: ("98", _trade_row),
        ALL_LAST: ("98", _trade_row),
    }[kind]
    rows = [field for tick in ticks for field in row_of(tick)]
    return [message_id, str(req_id), str(len(ticks)), *rows, "1" if is_last else "0"]


def middle_of(tick: Tick) -> float:
    """The middle between bid and ask."""
    return round(((tick.bid or 0.0) + (tick.ask or 0.0)) / 2, 8)


def market_depth(req_id: int, position: int, operation: int, side: int, price: float, size: int) -> list[str]:
    """12: one row of a book."""
    return ["12", "1", str(req_id), str(position), str(operation), str(side), plain(price), str(size)]


def market_depth_l2(
    req_id: int, position: int, maker: str, operation: int, side: int, price: float, size: int, *, is_smart: bool
) -> list[str]:
    """13: one row of a book, and whose it is: a market maker's, or a venue's in a book of all venues."""
    row = [str(position), maker, str(operation), str(side), plain(price), str(size), "1" if is_smart else "0"]
    return ["13", "1", str(req_id), *row]


def histogram(req_id: int, rows: Sequence[tuple[float, int]]) -> list[str]:
    """89: units traded at each price. Their number is an integer: clients read it as one. Prices have two decimals at
    least, as captured."""
    texts = (text for price, size in rows for text in (_decimals(price), str(size)))
    return ["89", str(req_id), str(len(rows)), *texts]


def _decimals(price: float) -> str:
    text = plain(price)
    whole, _, rest = text.partition(".")
    return f"{whole}.{rest:0<2}"


def _quote(tick: Tick) -> list[str]:
    return [plain(tick.bid or 0.0), plain(tick.ask or 0.0), str(tick.bid_size), str(tick.ask_size)]


def _middle_row(tick: Tick) -> list[str]:
    return [str(int(tick.time)), "0", plain(middle_of(tick)), "0"]


def _quote_row(tick: Tick) -> list[str]:
    return [str(int(tick.time)), _NO_ATTRIBUTES, *_quote(tick)]


def _trade_row(tick: Tick) -> list[str]:
    return [str(int(tick.time)), _NO_ATTRIBUTES, plain(tick.last), str(tick.last_size), tick.venue, ""]
