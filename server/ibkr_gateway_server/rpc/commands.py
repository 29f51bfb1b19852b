"""Commands of a market-data connection: what cannot be read is an answer to its sender, not the end of all."""

from __future__ import annotations

from ibkr_gateway.v1 import market_data_service_pb2 as pb

from ibkr_gateway_server.domain.errors import DomainError, RequestMalformed, Violations
from ibkr_gateway_server.domain.ticks import TickType
from ibkr_gateway_server.rpc import parse, parse_market_data
from ibkr_gateway_server.streams.market_data import Beat, Channel, Command, ListOpen, Subscribe, Unsubscribe

MAX_ID_LENGTH = 64


def command(message: pb.SubscribeMarketDataRequest) -> Command:
    """One command, or why it cannot be read."""
    request_id = message.request_id
    try:
        found = Violations()
        if not 0 < len(request_id) <= MAX_ID_LENGTH or not request_id.isascii() or not request_id.isprintable():
            found.add("request_id", f"is needed: 1 to {MAX_ID_LENGTH} printable ASCII characters")
        found.raise_if_any()
        return Command(request_id, _action(message))
    except DomainError as error:
        return Command(request_id[:MAX_ID_LENGTH], error)


def _action(message: pb.SubscribeMarketDataRequest) -> Subscribe | Unsubscribe | ListOpen | Beat:
    kind = message.WhichOneof("command")
    if kind == "subscribe":
        return _subscribe(message.subscribe)
    if kind == "unsubscribe_request_id":
        return Unsubscribe(message.unsubscribe_request_id)
    if kind == "list":
        return ListOpen()
    if kind == "heartbeat_interval":
        return Beat(parse.heartbeat_s(message))
    raise RequestMalformed("command", "is needed: subscribe, unsubscribe_request_id, list or heartbeat_interval")


def _subscribe(message: pb.MarketDataSubscription) -> Subscribe:
    found = Violations()
    with found.under("subscribe") as nested:
        with nested.under("instrument") as deeper:
            named = parse.instrument(message.instrument, deeper)
        channel = parse.enum(message, "channel", Channel, nested)
        row_count = parse_market_data.rows(message, "depth_row_count", nested)
        tick_type = parse.enum(message, "tick_type", TickType, nested, required=channel is Channel.TICKS)
    found.raise_if_any()
    assert channel is not None
    return Subscribe(named, channel, row_count, tick_type or TickType.LAST)
