"""Server messages without a contract or an order in them. Each returns the fields of one message, its id first."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import UTC, datetime
from zoneinfo import ZoneInfo

from ibkr_gateway_server.simulator.market import OptionModel
from ibkr_gateway_server.simulator.wire import UNSET_DOUBLE, plain

# Server versions from which a field or a form exists. Source: the conditions of the public clients' decoders.
ADVANCED_REJECT = 166
TIME_ZONES_IN_DATES = 174
ERROR_TIME = 194
HISTORY_END_APART = 196
CURRENT_TIME_IN_MILLIS = 197


def managed_accounts(accounts: Sequence[str]) -> list[str]:
    return ["15", "1", ",".join(accounts)]


def next_valid_id(order_id: int) -> list[str]:
    return ["9", "1", str(order_id)]


def current_time(now: float) -> list[str]:
    return ["49", "1", str(int(now))]


def current_time_in_millis(now: float) -> list[str]:
    return ["109", str(int(now * 1000))]


def error(version: int, req_id: int, code: int, text: str, now: float) -> list[str]:
    fields = ["4"] + (["2"] if version < ERROR_TIME else []) + [str(req_id), str(code), text]
    fields += [""] if version >= ADVANCED_REJECT else []
    return fields + ([str(int(now * 1000))] if version >= ERROR_TIME else [])


def tick_request_parameters(req_id: int, min_tick: float, bbo_exchange: str, *, is_subscribed: bool) -> list[str]:
    # What regulatory snapshots may be had: 3 of a login with subscriptions, 4 as captured of one without.
    return ["81", str(req_id), plain(min_tick), bbo_exchange, "3" if is_subscribed else "4"]


def market_data_type(req_id: int, data_type: int) -> list[str]:
    return ["58", "1", str(req_id), str(data_type)]


def tick_price(req_id: int, tick_type: int, price: float, size: float, mask: int = 0) -> list[str]:
    return ["1", "6", str(req_id), str(tick_type), plain(price), plain(size), str(mask)]


def tick_size(req_id: int, tick_type: int, size: float) -> list[str]:
    return ["2", "6", str(req_id), str(tick_type), plain(size)]


def tick_string(req_id: int, tick_type: int, value: str) -> list[str]:
    return ["46", "6", str(req_id), str(tick_type), value]


def tick_generic(req_id: int, tick_type: int, value: float) -> list[str]:
    return ["45", "6", str(req_id), str(tick_type), plain(value)]


def tick_option(req_id: int, tick_type: int, model: OptionModel) -> list[str]:
    values = (model.volatility, model.delta, model.price, 0.0, model.gamma, model.vega, model.theta, model.underlying)
    return ["21", str(req_id), str(tick_type), "1", *(repr(round(value, 8)) for value in values)]


def tick_option_unknown(req_id: int, tick_type: int) -> list[str]:
    """An option computation without a result: -1 and -2 say so."""
    return ["21", str(req_id), str(tick_type), "1", "-1.0", "-2.0", "-1.0", "-1.0", "-2.0", "-2.0", "-2.0", "-1.0"]


def tick_snapshot_end(req_id: int) -> list[str]:
    return ["57", "1", str(req_id)]


def historical_data(version: int, req_id: int, span: tuple[str, str], rows: Sequence[Sequence[str]]) -> list[str]:
    """Each row is date, open, high, low, close, volume, wap, count, spelled already."""
    fields = ["17", str(req_id), *(span if version < HISTORY_END_APART else ()), str(len(rows))]
    return fields + [field for row in rows for field in row]


def historical_data_end(req_id: int, span: tuple[str, str]) -> list[str]:
    return ["108", str(req_id), *span]


def historical_data_update(
    req_id: int, date: str, prices: Sequence[float], wap: float, volume: int, count: int
) -> list[str]:
    """`prices` is open, high, low, close; the message has them as open, close, high, low."""
    begin, high, low, close = (plain(price) for price in prices)
    return ["90", str(req_id), str(count), date, begin, close, high, low, plain(wap), str(volume)]


def historical_schedule(
    req_id: int, span: tuple[str, str], zone: str, days: Sequence[tuple[str, str, str]]
) -> list[str]:
    return ["106", str(req_id), *span, zone, str(len(days)), *(field for day in days for field in day)]


def head_timestamp(req_id: int, text: str) -> list[str]:
    return ["88", str(req_id), text]


def real_time_bar(req_id: int, start: int, prices: Sequence[float], volume: int, wap: float, count: int) -> list[str]:
    return [
        "50",
        "3",
        str(req_id),
        str(start),
        *(plain(price) for price in prices),
        str(volume),
        plain(wap),
        str(count),
    ]


def market_rule(rule_id: int, steps: Sequence[tuple[float, float]]) -> list[str]:
    return ["93", str(rule_id), str(len(steps)), *(plain(value) for step in steps for value in step)]


def account_summary(req_id: int, account: str, tag: str, value: str, currency: str) -> list[str]:
    return ["63", "1", str(req_id), account, tag, value, currency]


def account_summary_end(req_id: int) -> list[str]:
    return ["64", "1", str(req_id)]


def account_value(key: str, value: str, currency: str, account: str) -> list[str]:
    return ["6", "2", key, value, currency, account]


def account_update_time(now: float, zone: str) -> list[str]:
    return ["8", "1", datetime.fromtimestamp(now, ZoneInfo(zone)).strftime("%H:%M")]


def account_download_end(account: str) -> list[str]:
    return ["54", "1", account]


def account_update_multi(req_id: int, account: str, model: str, key: str, value: str, currency: str) -> list[str]:
    return ["73", "1", str(req_id), account, model, key, value, currency]


def account_update_multi_end(req_id: int) -> list[str]:
    return ["74", "1", str(req_id)]


def position_end() -> list[str]:
    return ["62", "1"]


def position_multi_end(req_id: int) -> list[str]:
    return ["72", "1", str(req_id)]


def pnl(req_id: int, daily: float, unrealized: float, realized: float) -> list[str]:
    return ["94", str(req_id), _gain(daily), _gain(unrealized), _gain(realized)]


def pnl_single(
    req_id: int,
    position: float,
    daily: float | None,
    unrealized: float | None,
    realized: float | None,
    value: float | None,
) -> list[str]:
    """None is "no value"."""
    return ["95", str(req_id), plain(position), *(_gain(amount) for amount in (daily, unrealized, realized, value))]


def open_order_end() -> list[str]:
    return ["53", "1"]


def completed_orders_end() -> list[str]:
    return ["102"]


def executions_end(req_id: int) -> list[str]:
    return ["55", "1", str(req_id)]


def commission_report(execution_id: str, commission: float, currency: str, realized: float | None) -> list[str]:
    return ["59", "1", execution_id, repr(float(commission)), currency, _gain(realized), UNSET_DOUBLE, ""]


def family_codes() -> list[str]:
    """78: an account of no family is told as any account with no code, as captured."""
    return ["78", "1", "*", ""]


def soft_dollar_tiers(req_id: int) -> list[str]:
    return ["77", str(req_id), "0"]


def user_info(req_id: int) -> list[str]:
    return ["107", str(req_id), ""]


def bar_time(version: int, start: int, zone: str, *, is_daily: bool, as_epoch: bool) -> str:
    """A bar's time: days as dates; else epoch seconds, or the exchange's time with its zone from version 174 on."""
    moment = datetime.fromtimestamp(start, ZoneInfo(zone))
    if is_daily:
        return moment.strftime("%Y%m%d")
    if as_epoch:
        return str(start)
    return moment.strftime(f"%Y%m%d %H:%M:%S {zone}" if version >= TIME_ZONES_IN_DATES else "%Y%m%d  %H:%M:%S")


def execution_time(version: int, now: float, zone: str) -> str:
    """When a fill happened, as execDetails spells it."""
    moment = datetime.fromtimestamp(now, ZoneInfo(zone))
    return moment.strftime(f"%Y%m%d %H:%M:%S {zone}" if version >= TIME_ZONES_IN_DATES else "%Y%m%d  %H:%M:%S")


def connection_time(now: float) -> str:
    """The handshake's time; a zone that every client can look up."""
    return datetime.fromtimestamp(now, UTC).strftime("%Y%m%d %H:%M:%S UTC")


def _gain(amount: float | None) -> str:
    """A gain or a value; with more than cents, so that those of positions and of executions add up to the account's."""
    return UNSET_DOUBLE if amount is None else plain(round(amount, 6))
