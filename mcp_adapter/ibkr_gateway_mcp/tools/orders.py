"""Orders. What can cost money goes through `placing`, which has a person asked before anything leaves."""

# Annotations are not postponed here: those of tools name functions of their own `register`.

from typing import Annotated

from ibkr_gateway.v1 import orders_service_pb2 as pb
from mcp.server.mcpserver import Context, Elicit, ElicitationResult, MCPServer, Resolve
from pydantic import Field

from ibkr_gateway_mcp.adapter import Adapter
from ibkr_gateway_mcp.answers.orders import CancelResult, OpenOrders, OrderPreview, OrderResult, OrderStatus
from ibkr_gateway_mcp.approval import Approval
from ibkr_gateway_mcp.asking import NoQuestion
from ibkr_gateway_mcp.inputs import AccountId, OrderId, PreviewId, Rows, flat, order_key
from ibkr_gateway_mcp.plain import plain
from ibkr_gateway_mcp.reads import open_orders
from ibkr_gateway_mcp.terms import Changes, OrderFields
from ibkr_gateway_mcp.tools import COMMAND, READ

# What a question comes to; the framework hands it on whether it was asked or not.
Asked = Approval | NoQuestion | Elicit[Approval]


def register(server: MCPServer, adapter: Adapter) -> None:
    """Offer the tools of OrdersService."""
    placing, changing, orders = adapter.placing, adapter.changing, adapter.gateway.orders

    @server.tool(
        title="Preview an order",
        annotations=READ,
        description="What an order would do (SAFE - read-only simulation): legs, value, commission, change of margin, "
        "warnings, and what is in the way. Nothing is sent. place_order needs its preview_id, within a minute.",
    )
    @flat
    async def preview_order(order: OrderFields) -> OrderPreview:
        kept = await placing.preview(order.spec())
        shown = plain(kept.shown)
        del shown["preview_token"]
        return OrderPreview.model_validate(
            shown
            | {
                "preview_id": kept.preview_id,
                "client_order_id": kept.client_order_id,
                "is_simulation": not kept.status.orders_enabled,
                "trading_mode": plain(kept.status)["trading_mode"],
                "expire_time": f"{kept.expire_time:%Y-%m-%dT%H:%M:%SZ}",
            }
        )

    @flat
    async def ask_to_place(order: OrderFields, preview_id: str | None, context: Context) -> Asked:
        return await placing.ask_to_place(order.spec(), preview_id, context)

    @server.tool(
        title="Place an order",
        annotations=COMMAND,
        description="Place the order of a preview (SAFE BY DEFAULT - requires ORDERS_ENABLED=true): with orders "
        "disabled it answers SIMULATED and sends nothing. Give the terms exactly as previewed, and preview_id. The "
        "person is asked before anything leaves. Called again with the same preview_id it is the same order.",
    )
    @flat
    async def place_order(
        order: OrderFields,
        outcome: Annotated[ElicitationResult[Approval], Resolve(ask_to_place)],
        preview_id: Annotated[
            PreviewId | None, Field(description="Of preview_order; needed when orders are enabled")
        ] = None,
    ) -> OrderResult:
        return OrderResult.of(await placing.place(order.spec(), preview_id, outcome))

    @flat
    async def ask_to_modify(changes: Changes, context: Context) -> Asked:
        return await changing.ask_to_modify(changes.order_id, changes.changed(), context)

    @server.tool(
        title="Change an order",
        annotations=COMMAND,
        description="Change prices or quantity of a working order (SAFE BY DEFAULT - requires ORDERS_ENABLED=true). "
        "Give only what is to change. The person is asked before anything leaves.",
    )
    @flat
    async def modify_order(
        changes: Changes, outcome: Annotated[ElicitationResult[Approval], Resolve(ask_to_modify)]
    ) -> OrderResult:
        return OrderResult.of(await changing.modify(changes.order_id, changes.changed(), outcome))

    async def ask_to_cancel(order_id: str, context: Context) -> Asked:
        return await changing.ask_to_cancel(order_id, context)

    @server.tool(
        title="Cancel an order",
        annotations=COMMAND,
        description="Cancel an order, of a bracket all its legs. The person is asked before anything leaves. Called "
        "again it is harmless.",
    )
    async def cancel_order(
        order_id: OrderId, outcome: Annotated[ElicitationResult[Approval], Resolve(ask_to_cancel)]
    ) -> CancelResult:
        return CancelResult.of(await changing.cancel(order_id, outcome))

    @server.tool(title="Order status", annotations=READ)
    async def get_order_status(order_id: OrderId) -> OrderStatus:
        """Where an order stands, by IBKR's evidence."""
        request = pb.GetOrderStatusRequest(order=order_key(order_id))
        return OrderStatus.of((await orders.GetOrderStatus(request)).status)

    @server.tool(title="Open orders", annotations=READ)
    async def list_open_orders(
        include_external: Annotated[bool, Field(description="True: also those placed in TWS or elsewhere")] = True,
        account_id: AccountId | None = None,
        max_rows: Rows = 100,
    ) -> OpenOrders:
        """Orders that may still fill."""
        return await open_orders(
            adapter.gateway, include_external=include_external, account_id=account_id or "", limit=max_rows
        )
