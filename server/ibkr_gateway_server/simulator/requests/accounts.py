"""Requests about accounts: summaries, updates, positions, P&L."""

from __future__ import annotations

from collections.abc import Iterator
from typing import TYPE_CHECKING

from ibkr_gateway_server.simulator import account_values
from ibkr_gateway_server.simulator.account_values import BASE, Row
from ibkr_gateway_server.simulator.codec import messages
from ibkr_gateway_server.simulator.feeds.accounts import (
    AccountUpdates,
    Balances,
    Positions,
    PositionsMulti,
    Summary,
    UpdatesMulti,
)
from ibkr_gateway_server.simulator.feeds.pnl import Pnl, PnlSingle
from ibkr_gateway_server.simulator.ledger import Ledger
from ibkr_gateway_server.simulator.listings import Listing
from ibkr_gateway_server.simulator.wire import Fields

if TYPE_CHECKING:
    from ibkr_gateway_server.simulator.session import Session

MAX_SUMMARIES = 2
ALL = "All"
LEDGER_TAG = "$LEDGER"

_TOO_MANY_SUMMARIES = (
    "Error processing request.-'bI' : cause - Maximum number of account summary requests exceeded; "
    "desubscribe to previous request first"
)
_UNSUBSCRIBED = "API client has been unsubscribed from account data."


def subscribe_summary(session: Session, fields: Fields) -> None:
    fields.skip()
    req_id, group, tags = fields.integer(), fields.text(), fields.text()
    if len(session.feeds.of(Summary)) >= MAX_SUMMARIES and session.feeds.find(Summary, req_id) is None:
        session.error(req_id, 322, _TOO_MANY_SUMMARIES)
        return
    ledgers = _ledgers(session, "" if group in (ALL, "") else group)
    if not ledgers:
        # A login without groups of accounts has this one group; that an account's own number does is a guess.
        session.error(req_id, 321, f"Error validating request.-'bI' : cause - Invalid group '{group}'")
        return
    wanted = tags.split(",")

    def rows() -> Iterator[tuple[str, list[Row]]]:
        return _summary_rows(session, ledgers, wanted)

    feed = Summary(
        req_id, ledgers, rows, lambda account, row: messages.account_summary(req_id, account, row[0], row[2], row[1])
    )
    _start(session, feed, messages.account_summary_end(req_id))


def cancel_summary(session: Session, fields: Fields) -> None:
    fields.skip()
    session.feeds.stop(Summary, fields.integer())


def subscribe_updates(session: Session, fields: Fields) -> None:
    fields.skip()
    subscribes, account = fields.flag(), fields.text()
    account = account or next(iter(session.gateway.ledgers))
    ledger = session.gateway.ledgers.get(account)
    if ledger is None:
        session.error(-1, 321, f"Error validating request.-'bV' : cause - Invalid account code '{account}'.")
        return
    before = session.feeds.stop(AccountUpdates, -1)
    if before is not None and (not subscribes or before.ledger is not ledger):
        # Sent after an unsubscription, and when another account takes the place of the one followed until now.
        session.error(
            -1, 2100, _UNSUBSCRIBED if not subscribes else f"New account data requested from TWS. {_UNSUBSCRIBED}"
        )
    if subscribes:
        feed = AccountUpdates(ledger, session.gateway.valuation, lambda followed: _account_rows(session, followed))
        session.feeds.start(feed)
        session.send(*feed.changes(session.gateway.market, session.gateway.now), messages.account_download_end(account))


def subscribe_updates_multi(session: Session, fields: Fields) -> None:
    fields.skip()
    req_id, account, model, is_light = fields.integer(), fields.text(), fields.text(), fields.flag()
    ledgers = _ledgers(session, account)
    if not ledgers:
        session.error(req_id, 321, f"Error validating request.-'cA' : cause - Invalid account code '{account}'.")
        return

    def rows() -> Iterator[tuple[str, list[Row]]]:
        for ledger in ledgers.values():
            every = _account_rows(session, ledger)
            yield ledger.account, [row for row in every if _is_light(row)] if is_light else every

    feed = UpdatesMulti(
        req_id,
        ledgers,
        rows,
        lambda name, row: messages.account_update_multi(req_id, name, model, row[0], row[2], row[1]),
    )
    _start(session, feed, messages.account_update_multi_end(req_id))


def cancel_updates_multi(session: Session, fields: Fields) -> None:
    fields.skip()
    session.feeds.stop(UpdatesMulti, fields.integer())


def subscribe_positions(session: Session, _fields: Fields) -> None:
    feed = Positions(session.gateway.ledgers)
    session.feeds.start(feed)
    session.send(*feed.all(), messages.position_end())


def cancel_positions(session: Session, _fields: Fields) -> None:
    session.feeds.stop(Positions, -1)


def subscribe_positions_multi(session: Session, fields: Fields) -> None:
    fields.skip()
    req_id, account = fields.integer(), fields.text()
    ledgers = _ledgers(session, account)
    if not ledgers:
        session.error(req_id, 321, f"Error validating request.-'by' : cause - Invalid account code '{account}'.")
        return
    feed = PositionsMulti(ledgers, req_id)
    session.feeds.start(feed)
    session.send(*feed.all(), messages.position_multi_end(req_id))


def cancel_positions_multi(session: Session, fields: Fields) -> None:
    fields.skip()
    session.feeds.stop(PositionsMulti, fields.integer())


def subscribe_pnl(session: Session, fields: Fields) -> None:
    req_id, account = fields.integer(), fields.text()
    if ledger := _ledger_of_pnl(session, req_id, account):
        _start_pnl(session, Pnl(req_id, ledger, session.gateway.valuation))


def subscribe_pnl_single(session: Session, fields: Fields) -> None:
    req_id, account, _model, con_id = fields.integer(), fields.text(), fields.text(), fields.integer()
    if ledger := _ledger_of_pnl(session, req_id, account):
        _start_pnl(session, PnlSingle(req_id, ledger, session.gateway.valuation, con_id=con_id))


def cancel_pnl(session: Session, fields: Fields) -> None:
    session.feeds.stop(Pnl, fields.integer())


def cancel_pnl_single(session: Session, fields: Fields) -> None:
    session.feeds.stop(PnlSingle, fields.integer())


def tell_position(session: Session, account: str, listing: Listing) -> None:
    """A position that a fill has changed, to each subscription that it concerns."""
    holding = session.gateway.ledgers[account].holdings[listing.con_id]
    for feed in (*session.feeds.of(Positions), *session.feeds.of(PositionsMulti)):
        if account in feed.ledgers:
            session.send(feed.row(account, holding))
    for updates in session.feeds.of(AccountUpdates):
        if updates.ledger.account == account:
            session.send(*updates.of_position(holding))


def _start(session: Session, feed: Balances, end: list[str]) -> None:
    session.feeds.start(feed)
    session.send(*feed.changes(session.gateway.market, session.gateway.now), end)


def _ledgers(session: Session, account: str) -> dict[str, Ledger]:
    """The ledger of an account, or of all; none for an account of others."""
    return {name: ledger for name, ledger in session.gateway.ledgers.items() if account in ("", name)}


def _account_rows(session: Session, ledger: Ledger) -> list[Row]:
    return account_values.account_rows(ledger.account, ledger.figures(session.gateway.valuation))


def _is_light(row: Row) -> bool:
    """Whether ledgerAndNLV asks for this one: a currency's, or the net liquidation. Which rows exactly is a guess."""
    return row[0].startswith("NetLiquidation") or row[0] in account_values.LEDGER_TAGS


def _summary_rows(session: Session, ledgers: dict[str, Ledger], wanted: list[str]) -> Iterator[tuple[str, list[Row]]]:
    """Each account's rows, and its ledgers where they are asked for."""
    tags = {account_values.ALIASES.get(tag, tag) for tag in wanted}
    asked = [tag.partition(":")[2] for tag in wanted if tag.partition(":")[0] == LEDGER_TAG]
    valuation = session.gateway.valuation
    every = {account: ledger.figures(valuation) for account, ledger in ledgers.items()}
    for account, figures in every.items():
        yield account, [row for row in account_values.summary_rows(figures) if row[0] in tags]
    if asked:
        # "$LEDGER" is all together, "$LEDGER:EUR" one currency, "$LEDGER:ALL" every one (TWS API, reqAccountSummary).
        # They are of the whole group: users have been told of RealCurrency BASE under the account "All".
        group = ALL if len(ledgers) == len(session.gateway.ledgers) else next(iter(ledgers))
        base = next(iter(ledgers.values())).base
        balances = account_values.group_balances(list(every.values()), lambda name: valuation.rate(name, base))
        named = [each for each in balances if "ALL" in asked or each.currency in {name or BASE for name in asked}]
        yield group, account_values.ledger_rows(group, named)


def _ledger_of_pnl(session: Session, req_id: int, account: str) -> Ledger | None:
    ledger = session.gateway.ledgers.get(account)
    if ledger is None:
        session.error(req_id, 321, f"Error validating request.-'bI' : cause - Invalid account code '{account}'.")
    return ledger


def _start_pnl(session: Session, feed: Pnl) -> None:
    session.feeds.start(feed)
    session.send(*feed.changes(session.gateway.market, session.gateway.now))
