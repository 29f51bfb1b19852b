"""Requests about accounts: summaries, updates, positions, P&L."""

from __future__ import annotations

from typing import TYPE_CHECKING

from ibkr_gateway_server.simulator.codec import contracts, messages
from ibkr_gateway_server.simulator.feeds.pnl import Pnl
from ibkr_gateway_server.simulator.ledger import Figures
from ibkr_gateway_server.simulator.wire import Fields

if TYPE_CHECKING:
    from ibkr_gateway_server.simulator.session import Session

MAX_SUMMARIES = 2
BASE_CURRENCY = "USD"
LEDGER_TAG = "$LEDGER"

# A tag, its currency ("" where it is not money), and its value.
Row = tuple[str, str, str]


def subscribe_summary(session: Session, fields: Fields) -> None:
    fields.skip()
    req_id, _group, tags = fields.integer(), fields.text(), fields.text()
    if len(session.summaries) >= MAX_SUMMARIES and req_id not in session.summaries:
        text = "Error processing request.-'bI' : cause - Maximum number of account summary requests exceeded"
        session.error(req_id, 322, text)
        return
    session.summaries[req_id] = frozenset(tag.partition(":")[0] for tag in tags.split(","))
    session.summary_rows[req_id] = {}
    _send_summary(session, req_id)
    session.send(messages.account_summary_end(req_id))


def cancel_summary(session: Session, fields: Fields) -> None:
    fields.skip()
    req_id = fields.integer()
    session.summaries.pop(req_id, None)
    session.summary_rows.pop(req_id, None)


def tell_changes(session: Session) -> None:
    """Balances and marks again, to a client that follows them."""
    for req_id in session.summaries:
        _send_summary(session, req_id)
    if session.updates_account:
        _send_account(session, session.updates_account)


def _send_summary(session: Session, req_id: int) -> None:
    """What has changed of a summary since it was last sent. Tags come in alphabetical order, whatever was asked."""
    wanted, sent = session.summaries[req_id], session.summary_rows[req_id]
    for account, ledger in session.gateway.ledgers.items():
        figures = ledger.figures(session.gateway.mark)
        rows = [row for row in summary_rows(figures) if row[0] in wanted]
        rows += ledger_rows(figures) if LEDGER_TAG in wanted else []
        for tag, currency, value in sorted(rows):
            if sent.get((account, tag, currency)) != value:
                sent[account, tag, currency] = value
                session.send(messages.account_summary(req_id, account, tag, value, currency))


def summary_rows(figures: Figures) -> list[Row]:
    """Every summary tag."""
    amounts = {
        "AccruedCash": 0.0,
        "AvailableFunds": figures.available,
        "BuyingPower": max(figures.available, 0.0) * 4,
        "EquityWithLoanValue": figures.net_liquidation,
        "ExcessLiquidity": figures.excess,
        "FullAvailableFunds": figures.available,
        "FullExcessLiquidity": figures.excess,
        "FullInitMarginReq": figures.initial_margin,
        "FullMaintMarginReq": figures.maintenance_margin,
        "GrossPositionValue": figures.gross,
        "InitMarginReq": figures.initial_margin,
        "LookAheadAvailableFunds": figures.available,
        "LookAheadExcessLiquidity": figures.excess,
        "LookAheadInitMarginReq": figures.initial_margin,
        "LookAheadMaintMarginReq": figures.maintenance_margin,
        "MaintMarginReq": figures.maintenance_margin,
        "NetLiquidation": figures.net_liquidation,
        "PreviousDayEquityWithLoanValue": figures.net_liquidation - figures.daily,
        "RealizedPnL": figures.realized,
        "TotalCashValue": figures.cash,
        "UnrealizedPnL": figures.unrealized,
    }
    cushion = figures.excess / figures.net_liquidation if figures.net_liquidation else 0.0
    return [
        *((tag, BASE_CURRENCY, f"{amount:.2f}") for tag, amount in amounts.items()),
        ("AccountType", "", "INDIVIDUAL"),
        ("Cushion", "", f"{cushion:.6f}"),
        ("DayTradesRemaining", "", "-1"),
        ("LookAheadNextChange", "", "0"),
    ]


def ledger_rows(figures: Figures) -> list[Row]:
    """Balances by currency, which here is one, and all together in the base currency."""
    amounts = {
        "CashBalance": figures.cash,
        "FuturesPNL": figures.futures_gain,
        "NetLiquidationByCurrency": figures.net_liquidation,
        "OptionMarketValue": figures.option_value,
        "RealizedPnL": figures.realized,
        "StockMarketValue": figures.stock_value,
        "TotalCashBalance": figures.cash,
        "UnrealizedPnL": figures.unrealized,
    }
    rows: list[Row] = []
    for currency in ("BASE", BASE_CURRENCY):
        rows += ((tag, currency, f"{amount:.2f}") for tag, amount in amounts.items())
        rows += [("Currency", currency, currency), ("ExchangeRate", currency, "1.00")]
    return rows


def subscribe_updates(session: Session, fields: Fields) -> None:
    fields.skip()
    subscribes, account = fields.flag(), fields.text()
    accounts = session.gateway.ledgers
    account = account or next(iter(accounts))
    if account not in accounts:
        session.error(-1, 321, f"Error validating request.-'bV' : cause - Invalid account code '{account}'.")
        return
    session.updates_account = account if subscribes else ""
    if subscribes:
        _send_account(session, account)
        session.send(messages.account_download_end(account))


def _send_account(session: Session, account: str) -> None:
    session.send(
        messages.account_value("AccountCode", account, "", account),
        messages.account_value("AccountReady", "true", "", account),
    )
    for tag, currency, value in _all_rows(session, account):
        session.send(messages.account_value(tag, value, currency, account))
    for holding in session.gateway.ledgers[account]:
        if holding.quantity:
            session.send(session.portfolio_row(account, holding.listing))
    session.send(messages.account_update_time(session.gateway.now, "US/Eastern"))


def _all_rows(session: Session, account: str) -> list[Row]:
    figures = session.gateway.ledgers[account].figures(session.gateway.mark)
    return summary_rows(figures) + ledger_rows(figures)


def updates_multi(session: Session, fields: Fields) -> None:
    fields.skip()
    req_id, account, model = fields.integer(), fields.text(), fields.text()
    for name in session.gateway.ledgers:
        for tag, currency, value in _all_rows(session, name) if account in ("", name) else ():
            session.send(messages.account_update_multi(req_id, name, model, tag, value, currency))
    session.send(messages.account_update_multi_end(req_id))


def subscribe_positions(session: Session, _fields: Fields) -> None:
    session.reads_positions = True
    for account, ledger in session.gateway.ledgers.items():
        for holding in ledger:
            if holding.quantity:
                session.send(contracts.position(account, holding.listing, holding.quantity, holding.average_cost))
    session.send(messages.position_end())


def cancel_positions(session: Session, _fields: Fields) -> None:
    session.reads_positions = False


def positions_multi(session: Session, fields: Fields) -> None:
    fields.skip()
    req_id, account = fields.integer(), fields.text()
    for name, ledger in session.gateway.ledgers.items():
        for holding in ledger if account in ("", name) else ():
            if holding.quantity:
                row = (name, holding.listing, holding.quantity, holding.average_cost)
                session.send(contracts.position_multi(req_id, *row))
    session.send(messages.position_multi_end(req_id))


def subscribe_pnl(session: Session, fields: Fields) -> None:
    _start_pnl(session, fields.integer(), fields.text(), 0)


def subscribe_pnl_single(session: Session, fields: Fields) -> None:
    req_id, account, _model = fields.integer(), fields.text(), fields.text()
    _start_pnl(session, req_id, account, fields.integer())


def cancel_pnl(session: Session, fields: Fields) -> None:
    session.feeds.stop(Pnl, fields.integer())


def _start_pnl(session: Session, req_id: int, account: str, con_id: int) -> None:
    ledger = session.gateway.ledgers.get(account)
    if ledger is None or (con_id and con_id not in ledger.holdings):
        session.error(req_id, 321, "Error validating request.-'bI' : cause - Invalid account code or contract.")
        return
    feed = Pnl(req_id, ledger, con_id)
    session.feeds.start(feed)
    session.send(*feed.changes(session.gateway.market, session.gateway.now))
