"""Typed client of ibkr-gateway.

    async with connect("127.0.0.1:50051") as gateway:
        answer = await gateway.market_data.GetQuote(GetQuoteRequest(instrument=stock("AAPL")))

`connect_sync` is the same without a loop. Requests and answers are the contract's own messages, in `ibkr_gateway.v1`.
"""

from ibkr_gateway.connection import AsyncGateway, SyncGateway, connect, connect_sync
from ibkr_gateway.credentials import Tls
from ibkr_gateway.errors import (
    Conflict,
    Exhausted,
    GatewayError,
    InvalidRequest,
    NotFound,
    NotServed,
    Refused,
    TimedOut,
    Unauthenticated,
    Unavailable,
)
from ibkr_gateway.following import MarketState, QuoteUpdate
from ibkr_gateway.frames import to_dataframe
from ibkr_gateway.inputs import (
    bar_size,
    decimal_text,
    duration,
    forex,
    future,
    index,
    new_client_order_id,
    option,
    parse_instrument,
    stock,
)
from ibkr_gateway.orders import (
    bracket_order,
    if_touched_order,
    limit_order,
    market_order,
    on_close_order,
    on_open_order,
    relative_order,
    stop_order,
    trailing_order,
)
from ibkr_gateway.streams import follow_orders, follow_orders_sync, follow_quotes, follow_quotes_sync

__version__ = "0.1.0"

__all__ = [
    "AsyncGateway",
    "Conflict",
    "Exhausted",
    "GatewayError",
    "InvalidRequest",
    "MarketState",
    "NotFound",
    "NotServed",
    "QuoteUpdate",
    "Refused",
    "SyncGateway",
    "TimedOut",
    "Tls",
    "Unauthenticated",
    "Unavailable",
    "bar_size",
    "bracket_order",
    "connect",
    "connect_sync",
    "decimal_text",
    "duration",
    "follow_orders",
    "follow_orders_sync",
    "follow_quotes",
    "follow_quotes_sync",
    "forex",
    "future",
    "if_touched_order",
    "index",
    "limit_order",
    "market_order",
    "new_client_order_id",
    "on_close_order",
    "on_open_order",
    "option",
    "parse_instrument",
    "relative_order",
    "stock",
    "stop_order",
    "to_dataframe",
    "trailing_order",
]
