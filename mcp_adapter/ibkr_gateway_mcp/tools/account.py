"""Balances, positions, profit and loss, executions."""

from __future__ import annotations

from typing import Annotated

from ibkr_gateway.v1 import account_service_pb2 as pb
from mcp.server.mcpserver import MCPServer
from pydantic import Field

from ibkr_gateway_mcp.adapter import Adapter
from ibkr_gateway_mcp.answers.account import AccountPnl, AccountStatus, AccountSummary, Execution, Executions, Position
from ibkr_gateway_mcp.inputs import SYMBOL, AccountId, OrderId, Rows, Time, order_key, timestamp
from ibkr_gateway_mcp.reads import first
from ibkr_gateway_mcp.refusals import Refusal
from ibkr_gateway_mcp.tools import READ


def register(server: MCPServer, adapter: Adapter) -> None:
    """Offer the tools of AccountService."""
    account = adapter.gateway.account

    @server.tool(title="Account status", annotations=READ)
    async def get_account_status(account_id: AccountId | None = None, max_rows: Rows = 200) -> AccountStatus:
        """Balances, margin and positions."""
        answer = await account.GetAccountStatus(pb.GetAccountStatusRequest(account_id=account_id or ""))
        shown, note = first(answer.positions, max_rows, "positions", "raise max_rows")
        return AccountStatus(
            summary=AccountSummary.of(answer.summary),
            positions=[Position.of(position) for position in shown],
            is_stale=answer.is_stale,
            note=note,
        )

    @server.tool(title="Profit and loss", annotations=READ)
    async def get_pnl(
        timeframe: Annotated[
            str | None, Field(pattern=r"^[A-Za-z0-9 _-]{1,32}$", description="Whatever it says, the day's figures come")
        ] = None,
        account_id: AccountId | None = None,
        max_rows: Rows = 200,
    ) -> AccountPnl:
        """Profit and loss of the account and by position: of the day, of what is open, of what was closed today. IBKR
        provides no other span."""
        answer = await account.GetPnl(pb.GetPnlRequest(account_id=account_id or "", timeframe=timeframe or ""))
        _, note = first(answer.pnl.details, max_rows, "positions", "raise max_rows")
        if timeframe is not None and timeframe.upper() not in ("DAY", "TODAY", "1D", "1 D"):
            note = " ".join(filter(None, ["These are the day's figures: IBKR provides no other span.", note]))
        del answer.pnl.details[max_rows:]
        return AccountPnl.of(answer.pnl, note=note)

    @server.tool(title="Executions", annotations=READ)
    async def list_executions(
        symbol: Annotated[str | None, Field(pattern=SYMBOL, description="Only this symbol")] = None,
        order_id: Annotated[OrderId | None, Field(description="Only of this client_order_id")] = None,
        start_time: Annotated[Time | None, Field(description="Only from this moment on")] = None,
        end_time: Annotated[Time | None, Field(description="Only before this moment")] = None,
        account_id: AccountId | None = None,
        max_rows: Rows = 50,
        page_token: Annotated[
            str | None, Field(pattern=r"^[A-Za-z0-9_=.-]{1,200}$", description="next_page_token of the page before")
        ] = None,
    ) -> Executions:
        """Fills from the gateway's durable record, newest first, with their commissions."""
        key = order_key(order_id).client_order_id if order_id else ""
        if order_id and not key:
            raise Refusal("FIELD_INVALID", "executions are found by client_order_id", order_id="give client_order_id")
        answer = await account.ListExecutions(
            pb.ListExecutionsRequest(
                account_id=account_id or "",
                symbol=symbol or "",
                client_order_id=key,
                start_time=timestamp(start_time),
                end_time=timestamp(end_time),
                page_size=max_rows,
                page_token=page_token or "",
            )
        )
        more = answer.next_page_token
        return Executions(
            executions=[Execution.of(execution) for execution in answer.executions],
            next_page_token=more or None,
            note=f"There are more. For the rest: the same with page_token={more}." if more else None,
        )
