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

__version__ = "0.1.0"

__all__ = [
    "AsyncGateway",
    "Conflict",
    "Exhausted",
    "GatewayError",
    "InvalidRequest",
    "NotFound",
    "NotServed",
    "Refused",
    "SyncGateway",
    "TimedOut",
    "Tls",
    "Unauthenticated",
    "Unavailable",
    "bar_size",
    "connect",
    "connect_sync",
    "decimal_text",
    "duration",
    "forex",
    "future",
    "index",
    "new_client_order_id",
    "option",
    "parse_instrument",
    "stock",
]
