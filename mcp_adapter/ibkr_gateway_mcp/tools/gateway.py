"""The gateway itself: how it is, whether it trades, and the switch that stops it."""

# Annotations are not postponed here: those of tools name functions of their own `register`.

from typing import Annotated, Literal

from ibkr_gateway.v1 import gateway_service_pb2 as pb
from mcp.server.mcpserver import Context, Elicit, ElicitationResult, MCPServer, Resolve
from mcp.types import ToolAnnotations
from pydantic import Field

from ibkr_gateway_mcp.adapter import Adapter
from ibkr_gateway_mcp.answers.gateway import Halted, Health, TradingStatus
from ibkr_gateway_mcp.approval import Approval
from ibkr_gateway_mcp.asking import NoQuestion
from ibkr_gateway_mcp.reads import trading_status
from ibkr_gateway_mcp.tools import COMMAND

STATUS = ToolAnnotations(read_only_hint=True, destructive_hint=False, idempotent_hint=True, open_world_hint=False)


def register(server: MCPServer, adapter: Adapter) -> None:
    """Offer the tools of GatewayService."""
    gateway, changing = adapter.gateway.gateway, adapter.changing

    @server.tool(title="Health", annotations=STATUS)
    async def get_health() -> Health:
        """Whether the gateway works and is connected to IBKR, and in which mode it is."""
        return Health.of(await gateway.GetHealth(pb.GetHealthRequest()))

    @server.tool(title="Trading status", annotations=STATUS)
    async def get_trading_status() -> TradingStatus:
        """Whether an order would be sent now: mode (LIVE is real money), limits, and everything that is in the way."""
        return await trading_status(adapter.gateway)

    async def ask_to_halt(level: str, context: Context) -> Approval | NoQuestion | Elicit[Approval]:
        return await changing.ask_to_halt(level, context)

    @server.tool(
        title="Stop trading",
        annotations=COMMAND,
        description="Stop trading at once, also over restarts. BLOCK_NEW refuses new orders and asks nobody; "
        "CANCEL_OWN also cancels every open order of this gateway, stop-losses among them, and the person is asked. "
        "Only a person can resume, by `ibkr-gateway resume`.",
    )
    async def halt_trading(
        outcome: Annotated[ElicitationResult[Approval], Resolve(ask_to_halt)],
        level: Literal["BLOCK_NEW", "CANCEL_OWN"] = "BLOCK_NEW",
        comment: Annotated[
            str | None, Field(pattern=r"^[ -~]{1,256}$", description="Why, for the record and those who resume")
        ] = None,
    ) -> Halted:
        return Halted.of(await changing.halt(level, comment or "", outcome))
