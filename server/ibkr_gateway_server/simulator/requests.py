"""What each client request does: one function a message, and the table of them by message id."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from datetime import UTC, datetime
from typing import TYPE_CHECKING
from zoneinfo import ZoneInfo

from ibkr_gateway_server.simulator import history
from ibkr_gateway_server.simulator.codec import contracts, messages, orders
from ibkr_gateway_server.simulator.feeds import BarDate, LiveBars, Pnl, Quotes
from ibkr_gateway_server.simulator.gateway import OrderRefused
from ibkr_gateway_server.simulator.instruments import MARKET_RULES, ContractQuery, Listing, hours_text
from ibkr_gateway_server.simulator.ledger import Figures
from ibkr_gateway_server.simulator.wire import Fields, plain

if TYPE_CHECKING:
    from ibkr_gateway_server.simulator.session import Session

MAX_SUMMARIES = 2
MAX_LINES = 100

NO_DEFINITION = "No security definition has been found for the request"
NOT_SUBSCRIBED = (
    "Requested market data is not subscribed. Check API status by selecting the Account menu then under Management "
    "choose Market Data Subscription Manager and/or availability of delayed data."
)
HMDS = "Historical Market Data Service error message:"

# --- the session itself ----------------------------------------------------------------------------------------------


def request_ids(session: Session, fields: Fields) -> None:
    fields.skip()
    session.send(messages.next_valid_id(session.gateway.reserve_order_ids(session.client_id, fields.integer(1))))


def request_managed_accounts(session: Session, _fields: Fields) -> None:
    session.send(messages.managed_accounts(tuple(session.gateway.ledgers)))


def request_current_time(session: Session, _fields: Fields) -> None:
    session.send(messages.current_time(session.gateway.now))


def request_current_time_in_millis(session: Session, _fields: Fields) -> None:
    session.send(messages.current_time_in_millis(session.gateway.now))


def accept(_session: Session, _fields: Fields) -> None:
    """Taken without a reply, as a live gateway does: log level, auto-binding of manual orders."""


# --- contracts -------------------------------------------------------------------------------------------------------


def request_contract_details(session: Session, fields: Fields) -> None:
    fields.skip()
    req_id, query = fields.integer(), orders.read_contract(fields)
    matches = session.gateway.catalogue.match(query)
    if not matches:
        session.error(req_id, 200, NO_DEFINITION)
        return
    now = session.gateway.now
    for listing in matches:
        hours, regular = hours_text(listing, now, regular=False), hours_text(listing, now, regular=True)
        session.send(contracts.contract_data(session.version, req_id, listing, hours, regular))
    session.send(contracts.contract_data_end(req_id))


def request_matching_symbols(session: Session, fields: Fields) -> None:
    req_id, pattern = fields.integer(), fields.text()
    catalogue = session.gateway.catalogue
    found = catalogue.search(pattern)
    derivatives = {listing.con_id: ["OPT"] for listing in found if catalogue.options_of(listing.con_id)}
    session.send(contracts.symbol_samples(session.version, req_id, found, derivatives))


def request_option_chain(session: Session, fields: Fields) -> None:
    req_id = fields.integer()
    fields.skip(3)
    options = session.gateway.catalogue.options_of(fields.integer())
    for exchange in options[0].valid_exchanges.split(",") if options else ():
        session.send(contracts.option_chain(req_id, exchange, options))
    session.send(contracts.option_chain_end(req_id))


def request_market_rule(session: Session, fields: Fields) -> None:
    rule_id = fields.integer()
    if rule_id in MARKET_RULES:
        session.send(messages.market_rule(rule_id, MARKET_RULES[rule_id]))
    else:
        session.error(-1, 321, "Error validating request.-'ct' : cause - Invalid market rule id.")


# --- market data -----------------------------------------------------------------------------------------------------


def request_market_data_type(session: Session, fields: Fields) -> None:
    fields.skip()
    session.data_type = fields.integer(1)


def request_market_data(session: Session, fields: Fields) -> None:
    fields.skip()
    req_id, query = fields.integer(), orders.read_contract(fields)
    if query.sec_type == "BAG":
        fields.skip(4 * fields.count())
    fields.skip(3 if fields.flag() else 0)
    generic, is_snapshot = fields.text(), fields.flag()
    if req_id in session.quotes:
        session.error(req_id, 322, "Error processing request.-'cl' : cause - Duplicate ticker id")
        return
    listing = _one(session, req_id, query)
    if listing is None:
        return
    if len(session.quotes) >= MAX_LINES:
        session.error(req_id, 101, "Max number of tickers has been reached")
        return
    is_delayed = not listing.is_subscribed
    if is_delayed and session.data_type < 3:
        session.error(req_id, 354, f"{NOT_SUBSCRIBED}{listing.primary_exchange}/TOP")
        return
    if is_delayed:
        session.error(req_id, 10167, "Requested market data is not subscribed. Displaying delayed market data.")
    feed = Quotes(req_id, listing, is_delayed, frozenset(generic.split(",")), is_snapshot)
    session.send(*feed.start(session.gateway.market, session.gateway.now))
    if not is_snapshot:
        session.quotes[req_id] = feed


def cancel_market_data(session: Session, fields: Fields) -> None:
    fields.skip()
    req_id = fields.integer()
    if session.quotes.pop(req_id, None) is None:
        session.error(req_id, 300, f"Can't find EId with tickerId:{req_id}")


def request_real_time_bars(session: Session, fields: Fields) -> None:
    fields.skip()
    req_id, query = fields.integer(), orders.read_contract(fields)
    listing = _one(session, req_id, query)
    if listing is not None:
        start = math.floor(session.gateway.now / 5) * 5 + 5
        session.live_bars[req_id] = LiveBars(req_id, listing, 5, None, start)


def cancel_real_time_bars(session: Session, fields: Fields) -> None:
    fields.skip()
    session.live_bars.pop(fields.integer(), None)


# --- history ---------------------------------------------------------------------------------------------------------


def request_historical_data(session: Session, fields: Fields) -> None:
    req_id, query = fields.integer(), orders.read_contract(fields)
    fields.skip()
    end_text, size, duration, regular = fields.text(), fields.text(), fields.text(), fields.flag()
    shown, as_epoch = fields.text(), fields.integer(1) == 2
    if query.sec_type == "BAG":
        fields.skip(4 * fields.count())
    keeps_up = fields.flag()
    listing = _one(session, req_id, query)
    if listing is None:
        return
    if shown not in history.SHOWN or size not in history.BAR_SIZES:
        what = f"Invalid bar size setting: {size}" if shown in history.SHOWN else f"Invalid what to show: {shown}"
        session.error(req_id, 321, f"Error validating request.-'bQ' : cause - Historical data request: {what}")
        return
    where = f"{listing.local_symbol}@{listing.exchange}"
    if shown in history.TRADED and listing.sec_type == "CASH":
        session.error(req_id, 162, f"{HMDS}No historical market data for {where} {shown.title()}")
        return
    try:
        end = history.end_of(end_text, session.gateway.now)
        if shown == "SCHEDULE":
            _send_schedule(session, req_id, listing, end, history.span_of(duration))
            return
        starts = history.bar_starts(listing, size, duration, end, regular=regular)
    except history.BadRequest as refused:
        session.error(req_id, 321, f"Error validating request.-'bQ' : cause - {refused}")
        return
    if not starts:
        session.error(req_id, 162, f"{HMDS}HMDS query returned no data: {where} {shown.title()}")
        return
    width = history.BAR_SIZES[size]
    date_of = BarDate(session.version, listing.time_zone, width >= 86400, as_epoch)
    rows = [_bar_row(session, listing, start, min(start + width, end), date_of, shown) for start in starts]
    zone = ZoneInfo(listing.time_zone)
    moments = (datetime.fromtimestamp(starts[0], zone), datetime.fromtimestamp(end, zone))
    span = (moments[0].strftime("%Y%m%d  %H:%M:%S"), moments[1].strftime("%Y%m%d  %H:%M:%S"))
    session.send(messages.historical_data(session.version, req_id, span, rows))
    if session.version >= messages.HISTORY_END_APART:
        session.send(messages.historical_data_end(req_id, span))
    if keeps_up:
        session.live_bars[req_id] = LiveBars(req_id, listing, width, date_of, session.gateway.now + 5)


def _bar_row(session: Session, listing: Listing, start: int, end: float, date_of: BarDate, shown: str) -> list[str]:
    bar = session.gateway.market.bar(listing, start, max(end, start + 0.01))
    prices = [plain(price) for price in (bar.open, bar.high, bar.low, bar.close)]
    # Prices that are not trades have no volume; IBKR says so by -1.
    traded = [str(bar.volume), f"{bar.wap:.3f}", str(bar.count)] if shown in history.TRADED else ["-1", "-1", "-1"]
    return [date_of(start), *prices, *traded]


def _send_schedule(session: Session, req_id: int, listing: Listing, end: float, span: tuple[int, str]) -> None:
    count = span[0] if span[1] == "D" else 5
    starts = history.bar_starts(listing, "1 day", f"{max(count, 1) * 2} D", end, regular=True)[-count:]
    zone = ZoneInfo(listing.time_zone)
    opening, closing = listing.hours[1].split("-")
    rows: list[tuple[str, str, str]] = []
    for start in starts:
        day = datetime.fromtimestamp(start, zone).strftime("%Y%m%d")
        begin, finish = (f"{day}-{clock[:2]}:{clock[2:]}:00" for clock in (opening, closing))
        rows.append((begin, finish, day))
    whole = (rows[0][0], rows[-1][1]) if rows else ("", "")
    session.send(messages.historical_schedule(req_id, whole, listing.time_zone, rows))


def cancel_historical_data(session: Session, fields: Fields) -> None:
    fields.skip()
    req_id = fields.integer()
    if session.live_bars.pop(req_id, None) is None:
        session.error(req_id, 366, f"No historical data query found for ticker id:{req_id}")


def request_head_timestamp(session: Session, fields: Fields) -> None:
    req_id, query = fields.integer(), orders.read_contract(fields)
    fields.skip(3)
    as_epoch = fields.integer(1) == 2
    listing = _one(session, req_id, query)
    if listing is not None:
        first = datetime(2004, 1, 23, 14, 30, tzinfo=UTC)
        text = str(int(first.timestamp())) if as_epoch else first.strftime("%Y%m%d-%H:%M:%S")
        session.send(messages.head_timestamp(req_id, text))


# --- accounts --------------------------------------------------------------------------------------------------------


def request_account_summary(session: Session, fields: Fields) -> None:
    fields.skip()
    req_id, _group, tags = fields.integer(), fields.text(), fields.text()
    if len(session.summaries) >= MAX_SUMMARIES:
        session.error(
            req_id, 322, "Error processing request.-'bI' : cause - Maximum number of account summary requests exceeded"
        )
        return
    session.summaries[req_id] = dict.fromkeys(((tag, "") for tag in tags.split(",")), "")
    _send_summary(session, req_id)
    session.send(messages.account_summary_end(req_id))


def _send_summary(session: Session, req_id: int) -> None:
    """What has changed of a summary since it was last sent. Tags come in alphabetical order, whatever was asked."""
    sent = session.summaries[req_id]
    wanted = {tag for tag, account in sent if not account}
    for account, ledger in session.gateway.ledgers.items():
        rows = summary_rows(ledger.figures(session.gateway.mark))
        for tag in sorted(wanted & rows.keys()):
            value, currency = rows[tag]
            if sent.get((tag, account)) != value:
                sent[tag, account] = value
                session.send(messages.account_summary(req_id, account, tag, value, currency))


def account_changes(session: Session) -> None:
    """Balances and marks again, to those who follow them."""
    for req_id in session.summaries:
        _send_summary(session, req_id)
    if session.updates_account:
        _send_account(session, session.updates_account)


def summary_rows(figures: Figures) -> dict[str, tuple[str, str]]:
    """Every summary tag with its value and currency."""
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
    rows = {tag: (f"{amount:.2f}", "USD") for tag, amount in amounts.items()}
    rows["AccountType"] = ("INDIVIDUAL", "")
    rows["Cushion"] = (f"{figures.excess / figures.net_liquidation:.6f}", "")
    rows["DayTradesRemaining"] = ("-1", "")
    rows["LookAheadNextChange"] = ("0", "")
    return rows


def cancel_account_summary(session: Session, fields: Fields) -> None:
    fields.skip()
    session.summaries.pop(fields.integer(), None)


def request_account_updates(session: Session, fields: Fields) -> None:
    fields.skip()
    subscribe, account = fields.flag(), fields.text()
    accounts = session.gateway.ledgers
    account = account if account in accounts else next(iter(accounts))
    session.updates_account = account if subscribe else ""
    if not subscribe:
        return
    _send_account(session, account)
    session.send(messages.account_download_end(account))


def _send_account(session: Session, account: str) -> None:
    session.send(*_account_rows(session, account))
    for holding in session.gateway.ledgers[account]:
        if holding.quantity:
            session.send(session.portfolio_row(account, holding.listing))
    session.send(messages.account_update_time(session.gateway.now, "US/Eastern"))


def _account_rows(session: Session, account: str) -> Sequence[list[str]]:
    rows = summary_rows(session.gateway.ledgers[account].figures(session.gateway.mark))
    values = [
        messages.account_value("AccountCode", account, "", account),
        messages.account_value("AccountReady", "true", "", account),
    ]
    return [
        *values,
        *(messages.account_value(tag, value, currency, account) for tag, (value, currency) in rows.items()),
    ]


def request_account_updates_multi(session: Session, fields: Fields) -> None:
    fields.skip()
    req_id, account, model = fields.integer(), fields.text(), fields.text()
    ledgers = session.gateway.ledgers
    for name, ledger in ledgers.items():
        if account in ("", name):
            for tag, (value, currency) in summary_rows(ledger.figures(session.gateway.mark)).items():
                session.send(messages.account_update_multi(req_id, name, model, tag, value, currency))
    session.send(messages.account_update_multi_end(req_id))


def request_positions(session: Session, _fields: Fields) -> None:
    session.reads_positions = True
    for account, ledger in session.gateway.ledgers.items():
        for holding in ledger:
            if holding.quantity:
                session.send(contracts.position(account, holding.listing, holding.quantity, holding.average_cost))
    session.send(messages.position_end())


def cancel_positions(session: Session, _fields: Fields) -> None:
    session.reads_positions = False


def request_positions_multi(session: Session, fields: Fields) -> None:
    fields.skip()
    req_id, account = fields.integer(), fields.text()
    for name, ledger in session.gateway.ledgers.items():
        for holding in ledger if account in ("", name) else ():
            row = (name, holding.listing, holding.quantity, holding.average_cost)
            session.send(contracts.position_multi(req_id, *row))
    session.send(messages.position_multi_end(req_id))


def request_pnl(session: Session, fields: Fields) -> None:
    _start_pnl(session, fields.integer(), fields.text(), 0)


def request_pnl_single(session: Session, fields: Fields) -> None:
    req_id, account, _model = fields.integer(), fields.text(), fields.text()
    _start_pnl(session, req_id, account, fields.integer())


def _start_pnl(session: Session, req_id: int, account: str, con_id: int) -> None:
    ledger = session.gateway.ledgers.get(account)
    if ledger is None or (con_id and con_id not in ledger.holdings):
        session.error(req_id, 321, "Error validating request.-'bI' : cause - Invalid account code or contract.")
        return
    feed = session.pnl[req_id] = Pnl(req_id, ledger, con_id)
    session.send(*feed.changes(session.gateway.market, session.gateway.now))


def cancel_pnl(session: Session, fields: Fields) -> None:
    session.pnl.pop(fields.integer(), None)


# --- orders ----------------------------------------------------------------------------------------------------------


def place_order(session: Session, fields: Fields) -> None:
    order_id, query = fields.integer(), orders.read_contract(fields)
    terms = orders.read_order(session.version, fields, query)
    try:
        if terms.what_if:
            order, preview = session.gateway.preview(session.client_id, order_id, query, terms)
            session.send(orders.open_order(session.version, order, preview))
        else:
            session.gateway.place(session.client_id, order_id, query, terms)
    except OrderRefused as refused:
        session.error(order_id, refused.code, refused.text)


def cancel_order(session: Session, fields: Fields) -> None:
    fields.skip(1 if session.version < orders.CME_TAGGING_IN_CANCEL else 0)
    order_id = fields.integer()
    try:
        session.gateway.cancel(session.client_id, order_id)
    except OrderRefused as refused:
        session.error(order_id, refused.code, refused.text)


def global_cancel(session: Session, _fields: Fields) -> None:
    session.gateway.cancel_all()


def request_open_orders(session: Session, _fields: Fields) -> None:
    _send_open_orders(session, own=True)


def request_all_open_orders(session: Session, _fields: Fields) -> None:
    _send_open_orders(session, own=False)


def _send_open_orders(session: Session, *, own: bool) -> None:
    for order in session.gateway.open_orders():
        if not own or order.client_id == session.client_id:
            session.send(orders.open_order(session.version, order), orders.order_status(order))
    session.send(messages.open_order_end())


def request_completed_orders(session: Session, _fields: Fields) -> None:
    for order in session.gateway.completed_orders():
        session.send(orders.completed_order(session.version, order))
    session.send(messages.completed_orders_end())


def request_executions(session: Session, fields: Fields) -> None:
    fields.skip()
    req_id = fields.integer()
    client_id, account, since = fields.integer(), fields.text(), fields.text()
    symbol, kind, exchange, side = (fields.text() for _ in range(4))
    earliest = history.end_of(since, session.gateway.now) if since else 0.0
    for execution in session.gateway.executions:
        order = execution.order
        if (
            client_id in (0, order.client_id)
            and account in ("", order.terms.account)
            and execution.time >= earliest
            and symbol in ("", order.listing.symbol)
            and kind in ("", order.listing.sec_type)
            and exchange in ("", execution.exchange)
            and side in ("", order.terms.action, "BOT" if order.is_buy else "SLD")
        ):
            report = (execution.execution_id, execution.commission, order.listing.currency, execution.realized_pnl)
            session.send(orders.exec_details(session.version, req_id, execution), messages.commission_report(*report))
    session.send(messages.executions_end(req_id))


# --- rarely asked ----------------------------------------------------------------------------------------------------


def request_family_codes(session: Session, _fields: Fields) -> None:
    session.send(messages.family_codes())


def request_soft_dollar_tiers(session: Session, fields: Fields) -> None:
    session.send(messages.soft_dollar_tiers(fields.integer()))


def request_news_providers(session: Session, _fields: Fields) -> None:
    session.send(messages.news_providers())


def request_user_info(session: Session, fields: Fields) -> None:
    session.send(messages.user_info(fields.integer()))


def refuse(session: Session, fields: Fields) -> None:
    """A request of the protocol that this gateway does not simulate yet: an error under its id, never silence."""
    text = "Error processing request.-'cB' : cause - This request is not simulated."
    req_id = next(
        (
            int(field)
            for field in (fields.text() for _ in range(min(fields.left, 2)))
            if field.isdigit() and int(field) > 20
        ),
        -1,
    )
    session.error(req_id, 322, text)


def _one(session: Session, req_id: int, query: ContractQuery) -> Listing | None:
    """The one contract a data request means; otherwise the client has been told why not."""
    matches = session.gateway.catalogue.match(query)
    if len(matches) == 1:
        return matches[0]
    text = f"The contract description specified for {query.symbol} is ambiguous." if matches else NO_DEFINITION
    session.error(req_id, 200, text)
    return None


HANDLERS: dict[int, Callable[[Session, Fields], None]] = {
    1: request_market_data,
    2: cancel_market_data,
    3: place_order,
    4: cancel_order,
    5: request_open_orders,
    6: request_account_updates,
    7: request_executions,
    8: request_ids,
    9: request_contract_details,
    14: accept,
    15: accept,
    16: request_all_open_orders,
    17: request_managed_accounts,
    20: request_historical_data,
    25: cancel_historical_data,
    49: request_current_time,
    50: request_real_time_bars,
    51: cancel_real_time_bars,
    58: global_cancel,
    59: request_market_data_type,
    61: request_positions,
    62: request_account_summary,
    63: cancel_account_summary,
    64: cancel_positions,
    74: request_positions_multi,
    75: accept,
    76: request_account_updates_multi,
    77: accept,
    78: request_option_chain,
    79: request_soft_dollar_tiers,
    80: request_family_codes,
    81: request_matching_symbols,
    85: request_news_providers,
    87: request_head_timestamp,
    90: accept,
    91: request_market_rule,
    92: request_pnl,
    93: cancel_pnl,
    94: request_pnl_single,
    95: cancel_pnl,
    99: request_completed_orders,
    104: request_user_info,
    105: request_current_time_in_millis,
    # Requests of the protocol that are not simulated yet.
    **dict.fromkeys(
        (10, 11, 12, 13, 18, 19, 21, 22, 23, 24, 54, 55, 56, 57, 82, 83, 84, 86, 88, 89, 96, 97, 98), refuse
    ),
}
