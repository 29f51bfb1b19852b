"""Resources: what changes, to be read again when a subscription says so."""

from __future__ import annotations

from mcp.server.mcpserver import MCPServer
from mcp.server.mcpserver.exceptions import ResourceNotFoundError

from ibkr_gateway_mcp import reads
from ibkr_gateway_mcp.adapter import Adapter
from ibkr_gateway_mcp.answers.common import Answer
from ibkr_gateway_mcp.feeds import OPEN_ORDERS, POSITIONS, QUOTES, TRADING_STATUS
from ibkr_gateway_mcp.inputs import listed

JSON = "application/json"


def register(server: MCPServer, adapter: Adapter) -> None:
    """Offer the resources of an adapter."""
    gateway = adapter.gateway

    @server.resource(
        QUOTES + "{symbol}",
        name="quote",
        title="Live quote",
        mime_type=JSON,
        description="Quote of one symbol: AAPL, MES:FUT, SPX:IND, EUR.USD, or a contract id. Subscribed to, it costs "
        "one market-data line.",
    )
    async def quote(symbol: str) -> str:
        try:
            instrument = listed(symbol)
        except ValueError as error:
            raise ResourceNotFoundError(str(error)) from None
        return _json(await reads.quote(gateway, instrument))

    @server.resource(
        POSITIONS,
        name="positions",
        title="Positions",
        mime_type=JSON,
        description="Positions at their marks. Only where the login has one account.",
    )
    async def positions() -> str:
        return _json(await reads.positions(gateway))

    @server.resource(
        OPEN_ORDERS,
        name="open_orders",
        title="Open orders",
        mime_type=JSON,
        description="Orders that may still fill, also those placed in TWS or by other programs.",
    )
    async def open_orders() -> str:
        return _json(await reads.open_orders(gateway, include_external=True))

    @server.resource(
        TRADING_STATUS,
        name="trading_status",
        title="Trading status",
        mime_type=JSON,
        description="Whether an order would be sent now, and everything that is in the way.",
    )
    async def trading_status() -> str:
        return _json(await reads.trading_status(gateway))


def _json(answer: Answer) -> str:
    return answer.model_dump_json()
