"""From a scenario's text to its events, each of them checked."""

from __future__ import annotations

import tomllib
from collections.abc import Callable
from pathlib import Path
from typing import Any

from ibkr_gateway_server.simulator.behaviour import MAX_SERVER_VERSION, MIN_CLIENT_VERSION
from ibkr_gateway_server.simulator.faults import Fault, Rule, WrongRule
from ibkr_gateway_server.simulator.instruments import ContractQuery
from ibkr_gateway_server.simulator.orders import Terms
from ibkr_gateway_server.simulator.scenario.events import (
    ClearEvent,
    Event,
    FaultEvent,
    GatewaySettings,
    Happening,
    JumpEvent,
    NoticeEvent,
    OrderEvent,
    QuoteEvent,
    Scenario,
)
from ibkr_gateway_server.simulator.scenario.table import Table, WrongScenario

MAX_EVENTS = 100_000
MAX_AT_S = 366 * 86400.0


def read(path: Path) -> Scenario:
    """The scenario in a file. Raises WrongScenario; OSError when the file cannot be read."""
    try:
        return parse(path.read_text(encoding="utf-8"))
    except UnicodeDecodeError:
        raise WrongScenario("it is not UTF-8 text") from None


def parse(text: str) -> Scenario:
    """The scenario in a text. Raises WrongScenario."""
    try:
        document = tomllib.loads(text)
    except tomllib.TOMLDecodeError as error:
        raise WrongScenario(f"it is not TOML: {error}") from None
    top = Table(document, "scenario")
    name = top.text("name", "")
    settings = _settings(Table(top.table("gateway"), "[gateway]")) if top.has("gateway") else None
    given = top.tables("event")
    if len(given) > MAX_EVENTS:
        raise top.wrong("event", f"there are more than {MAX_EVENTS}")
    top.end()
    lines = [number for number, line in enumerate(text.splitlines(), 1) if line.strip().startswith("[[event]]")]
    # Events may also be written inside an array, without headers; then their lines are not known.
    numbered = zip(given, lines if len(lines) == len(given) else [0] * len(given), strict=True)
    events = tuple(_event(Table(table, _place(i, line))) for i, (table, line) in enumerate(numbered, 1))
    return Scenario(name, settings, events)


def _place(number: int, line: int) -> str:
    return f"event {number} (line {line})" if line else f"event {number}"


def _settings(table: Table) -> GatewaySettings:
    seed = table.integer("seed") if table.has("seed") else None
    accounts = table.texts("accounts") if table.has("accounts") else ()
    start = table.moment("start") if table.has("start") else None
    behaviour: dict[str, Any] = {}
    if table.has("hours"):
        behaviour["always_open"] = table.choice("hours", {"always": True, "exchange": False})
    for key in ("acknowledge_s", "exchange_s", "locate_s"):
        if table.has(key):
            behaviour[key] = table.number(key, low=0.0, high=86400.0)
    flags = {"enforce_pacing": "enforces_pacing"}
    for key in ("enforce_pacing", "cancels_across_clients", "previews_twice", "presets_tif"):
        if table.has(key):
            behaviour[flags.get(key, key)] = table.flag(key)
    for key in ("hard_to_borrow", "not_allowed"):
        if table.has(key):
            behaviour[key] = frozenset(table.texts(key))
    if table.has("server_version"):
        behaviour["max_version"] = table.integer("server_version", low=MIN_CLIENT_VERSION, high=MAX_SERVER_VERSION)
    table.end()
    return GatewaySettings(seed, accounts, start, tuple(behaviour.items()))


def _event(table: Table) -> Event:
    at_s = table.number("at", low=0.0, high=MAX_AT_S)
    kinds = [kind for kind in _KINDS if table.has(kind)]
    if len(kinds) != 1:
        raise table.wrong("fault", f"an event has exactly one of {', '.join(_KINDS)}")
    happening = _KINDS[kinds[0]](table)
    table.end()
    return Event(at_s, happening, table.place)


def _fault(table: Table) -> FaultEvent:
    fault: Fault = table.choice("fault", {each.name.lower(): each for each in Fault})
    times: int | None = 1
    if table.has("times"):
        # "always": as often as it can.
        times = table.integer("times", low=0, high=1_000_000_000) or None
    try:
        rule = Rule(
            fault=fault,
            message_id=table.integer("message", low=1, high=9999) if table.has("message") else None,
            times=times,
            probability=table.number("probability", 1.0),
            duration_s=table.number_or_none("duration"),
            delay_s=table.number("delay", 0.0),
            code=table.integer("code", 0),
            text=table.text("text", ""),
            field=table.integer("field", low=0, high=999) if table.has("field") else None,
            value=table.text_of_number("value"),
        )
    except WrongRule as wrong:
        raise table.wrong(wrong.key, wrong.why) from None
    return FaultEvent(rule)


def _notice(table: Table) -> NoticeEvent:
    return NoticeEvent(table.integer("notice", low=1, high=99_999), table.text("text", ""))


def _contract(table: Table, symbol: str) -> ContractQuery:
    return ContractQuery(symbol=symbol, sec_type=table.text("type", "STK"), exchange="SMART")


def _quote(table: Table) -> QuoteEvent:
    contract = _contract(table, table.text("quote"))
    bid, ask, last = (table.number_or_none(key, low=1e-6, high=1e9) for key in ("bid", "ask", "last"))
    if bid is None and ask is None and last is None:
        raise table.wrong("bid", "give a bid, an ask or a last price")
    if bid is not None and ask is not None and bid >= ask:
        raise table.wrong("ask", f"{ask:g} is not above the bid of {bid:g}")
    return QuoteEvent(contract, bid, ask, last)


def _order(table: Table) -> OrderEvent:
    given = Table(table.table("order"), f"{table.place}: order")
    contract = _contract(given, given.text("symbol"))
    terms = Terms(
        action=given.choice("action", {"BUY": "BUY", "SELL": "SELL"}),
        quantity=given.number("quantity", low=1e-6, high=1e9),
        order_type=given.text("order_type", "MKT"),
        limit_price=given.number_or_none("limit"),
        aux_price=given.number_or_none("stop"),
        tif=given.text("tif", "DAY"),
        account=given.text("account", ""),
        outside_rth=given.flag("outside_rth") if given.has("outside_rth") else False,
    )
    given.end()
    return OrderEvent(contract, terms)


def _jump(table: Table) -> JumpEvent:
    return JumpEvent(table.number("advance", low=0.0, high=MAX_AT_S))


def _clear(table: Table) -> ClearEvent:
    if not table.flag("clear"):
        raise table.wrong("clear", "only true means something")
    return ClearEvent()


_KINDS: dict[str, Callable[[Table], Happening]] = {
    "fault": _fault,
    "notice": _notice,
    "quote": _quote,
    "order": _order,
    "advance": _jump,
    "clear": _clear,
}
