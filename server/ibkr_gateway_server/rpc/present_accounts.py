"""Accounts as messages: balances and margin, positions, P&L."""

from __future__ import annotations

from ibkr_gateway.v1 import account_service_pb2

from ibkr_gateway_server.domain.accounts import AccountPnl, AccountSummary, PnlDetail, Position
from ibkr_gateway_server.rpc import present


def account_summary(summary: AccountSummary, *, is_stale: bool = False) -> account_service_pb2.AccountSummary:
    """Balances and margin."""
    return account_service_pb2.AccountSummary(
        account_id=summary.account_id,
        currency=summary.currency,
        net_liquidation=present.decimal(summary.net_liquidation),
        cash=present.decimal(summary.cash),
        buying_power=present.decimal(summary.buying_power),
        margin_excess=present.decimal(summary.margin_excess),
        maintenance_margin=present.decimal(summary.maintenance_margin),
        initial_margin=present.decimal(summary.initial_margin),
        available_funds=present.decimal(summary.available_funds),
        gross_position_value=present.decimal(summary.gross_position_value),
        cushion=present.decimal(summary.cushion),
        as_of_time=present.time(summary.as_of_time),
        is_stale=is_stale,
    )


def position(held: Position) -> account_service_pb2.Position:
    """One position."""
    return account_service_pb2.Position(
        account_id=held.account_id,
        instrument=present.instrument(held.instrument),
        quantity=present.decimal(held.quantity) or "0",
        average_cost=present.decimal(held.average_cost) or "0",
        market_price=held.market_price,
        market_value=present.decimal(held.market_value),
        unrealized_pnl=present.decimal(held.unrealized_pnl),
        realized_pnl=present.decimal(held.realized_pnl),
        currency=held.currency,
    )


def account_pnl(pnl: AccountPnl, *, is_stale: bool = False) -> account_service_pb2.AccountPnl:
    """P&L of an account and its positions."""
    return account_service_pb2.AccountPnl(
        account_id=pnl.account_id,
        currency=pnl.currency,
        daily_pnl=present.decimal(pnl.daily_pnl),
        unrealized_pnl=present.decimal(pnl.unrealized_pnl),
        realized_pnl=present.decimal(pnl.realized_pnl),
        details=[_pnl_detail(detail) for detail in pnl.details],
        as_of_time=present.time(pnl.as_of_time),
        is_stale=is_stale,
    )


def _pnl_detail(detail: PnlDetail) -> account_service_pb2.PnlDetail:
    return account_service_pb2.PnlDetail(
        instrument=present.instrument(detail.instrument),
        quantity=present.decimal(detail.quantity) or "0",
        daily_pnl=present.decimal(detail.daily_pnl),
        unrealized_pnl=present.decimal(detail.unrealized_pnl),
        realized_pnl=present.decimal(detail.realized_pnl),
        market_value=present.decimal(detail.market_value),
    )
