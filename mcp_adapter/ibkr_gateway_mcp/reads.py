"""Reads that tools and resources share."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TypeVar

from ibkr_gateway import AsyncGateway
from ibkr_gateway.v1 import account_service_pb2 as account_pb
from ibkr_gateway.v1 import common_pb2
from ibkr_gateway.v1 import gateway_service_pb2 as gateway_pb
from ibkr_gateway.v1 import market_data_service_pb2 as market_pb
from ibkr_gateway.v1 import orders_service_pb2 as orders_pb

from ibkr_gateway_mcp.answers.account import Positions
from ibkr_gateway_mcp.answers.gateway import TradingStatus
from ibkr_gateway_mcp.answers.market import Quote
from ibkr_gateway_mcp.answers.orders import OpenOrders, OrderStatus

T = TypeVar("T")


async def quote(gateway: AsyncGateway, instrument: common_pb2.Instrument) -> Quote:
    """One snapshot of one instrument."""
    request = market_pb.GetQuoteRequest(instrument=instrument)
    return Quote.of((await gateway.market_data.GetQuote(request)).quote)


async def positions(gateway: AsyncGateway, account_id: str = "") -> Positions:
    """Positions at their marks."""
    request = account_pb.GetPositionsRequest(account_id=account_id)
    return Positions.of(await gateway.account.GetPositions(request))


async def open_orders(
    gateway: AsyncGateway, *, include_external: bool, account_id: str = "", limit: int = 1000
) -> OpenOrders:
    """Orders that may still fill."""
    request = orders_pb.ListOpenOrdersRequest(include_external=include_external, account_id=account_id)
    orders = (await gateway.orders.ListOpenOrders(request)).orders
    shown, note = first(orders, limit, "orders", "raise max_rows")
    return OpenOrders(orders=[OrderStatus.of(order) for order in shown], note=note)


async def trading_status(gateway: AsyncGateway) -> TradingStatus:
    """Whether an order would be sent now, and why not."""
    return TradingStatus.of((await gateway.gateway.GetTradingStatus(gateway_pb.GetTradingStatusRequest())).status)


def first(found: Sequence[T], limit: int, what: str, how: str) -> tuple[Sequence[T], str | None]:
    """The first of many, and what is said of the rest."""
    if len(found) <= limit:
        return found, None
    return found[:limit], f"Showing {limit} of {len(found)} {what}. For the rest: {how}."
