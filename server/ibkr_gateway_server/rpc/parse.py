"""From requests to the domain: every wrong field of a request is found before it is refused."""

from __future__ import annotations

import re
from collections.abc import Iterable, Sequence
from datetime import UTC, datetime
from decimal import Decimal
from enum import Enum
from typing import TypeVar

from google.protobuf.duration_pb2 import Duration
from google.protobuf.message import Message
from google.protobuf.timestamp_pb2 import Timestamp
from google.protobuf.unknown_fields import UnknownFieldSet
from ibkr_gateway.v1 import common_pb2, market_data_service_pb2, orders_service_pb2

from ibkr_gateway_server.domain.audit import DEFAULT_PAGE_SIZE, MAX_PAGE_SIZE, PageRequest
from ibkr_gateway_server.domain.bars import (
    BarSize,
    BarsRequest,
    DurationUnit,
    HistorySpan,
    LiveBarsRequest,
    LongHistoryRequest,
    WhatToShow,
)
from ibkr_gateway_server.domain.depth import DepthRequest
from ibkr_gateway_server.domain.errors import FieldsInvalid, FieldViolation, RequestMalformed, Violations
from ibkr_gateway_server.domain.instruments import Instrument, OptionRight, SecurityType
from ibkr_gateway_server.domain.orders import (
    MAX_SIGNIFICANT_DIGITS,
    LegRole,
    OrderKey,
    OrderSpec,
    OrderType,
    Side,
    TimeInForce,
    significant_digits,
)
from ibkr_gateway_server.domain.ticks import TickType

E = TypeVar("E", bound=Enum)

# The contract's order of these is the domain's; their names differ, since a Python name cannot begin with a digit.
BAR_SIZES = dict(enumerate(BarSize, start=1))
DURATION_UNITS = dict(enumerate(DurationUnit, start=1))

# What this version sends; the rest of the contract is refused by name, never ignored.
SENT_ORDER_TYPES = (OrderType.MKT, OrderType.LMT)
SENT_TIMES_IN_FORCE = (TimeInForce.DAY, TimeInForce.GTC, TimeInForce.IOC, TimeInForce.FOK, TimeInForce.OPG)
_NOT_YET = (
    "cash_quantity",
    "good_till_time",
    "good_after_time",
    "trailing_amount",
    "trailing_percent",
    "trail_stop_price",
    "limit_offset",
    "take_profit_price",
    "stop_loss_price",
    "stop_loss_limit_price",
    "bracket_transmit",
    "oca_group",
    "oca_type",
    "all_or_none",
    "hidden",
    "display_size",
)

# ASCII digits only: other scripts' digits are digits to Python.
_DECIMAL = re.compile(r"-?\d{1,15}(\.\d{1,15})?", re.ASCII)
_DATE = re.compile(r"\d{4}-\d{2}(-\d{2})?", re.ASCII)

# What IBKR keeps up to date. Source: TWS API, reqHistoricalData with keepUpToDate, and reqRealTimeBars.
LIVE_SHOWN = (WhatToShow.TRADES, WhatToShow.MIDPOINT, WhatToShow.BID, WhatToShow.ASK)

MAX_INSTRUMENTS = 100
MAX_KEYS = 100
MAX_DURATION = 86400
MAX_ROWS = 20
DEFAULT_ROWS = 5
HEARTBEAT_S = (1.0, 60.0)
DEFAULT_HEARTBEAT_S = 15.0

# Instruments that were read before, by their bytes: programs ask for the same ones again and again.
_KNOWN: dict[bytes, Instrument] = {}
_KNOWN_LIMIT = 4096


def instrument(message: common_pb2.Instrument, found: Violations) -> Instrument:
    """An instrument; what is wrong with it is noted."""
    encoded = message.SerializeToString()
    known = _KNOWN.get(encoded)
    if known is None:
        wrong = Violations()
        known = _instrument(message, wrong)
        if wrong:
            found.extend(wrong)
        elif len(encoded) < 500:
            if len(_KNOWN) >= _KNOWN_LIMIT:
                _KNOWN.clear()
            _KNOWN[encoded] = known
    return known


def _instrument(message: common_pb2.Instrument, found: Violations) -> Instrument:
    parsed = Instrument(
        con_id=message.con_id,
        symbol=message.symbol,
        security_type=enum(message, "security_type", SecurityType, found, required=False),
        exchange=message.exchange,
        currency=message.currency,
        primary_exchange=message.primary_exchange,
        expiry=message.expiry,
        strike=_decimal(message.strike, "strike", found),
        right=enum(message, "right", OptionRight, found, required=False),
        multiplier=_decimal(message.multiplier, "multiplier", found),
        local_symbol=message.local_symbol,
        trading_class=message.trading_class,
    )
    if message.expiry and not _DATE.fullmatch(message.expiry):
        found.add("expiry", "must be YYYY-MM-DD, or YYYY-MM for a month")
    if message.combo_legs:
        found.add("combo_legs", "are not supported yet")
    for name in ("symbol", "exchange", "currency", "primary_exchange", "local_symbol", "trading_class"):
        value = getattr(message, name)
        if len(value) > 40 or not value.isascii() or not value.isprintable():
            found.add(name, "must be at most 40 printable ASCII characters")
    parsed.violations(found)
    return parsed


def one_instrument(message: Message, name: str = "instrument") -> Instrument:
    """The instrument in a request's field. Raises FieldsInvalid."""
    found = Violations()
    with found.under(name) as nested:
        parsed = instrument(getattr(message, name), nested)
    found.raise_if_any()
    return parsed


def instruments(messages: Iterable[common_pb2.Instrument]) -> list[Instrument]:
    """1 to 100 instruments. Raises FieldsInvalid naming each wrong one by its position."""
    found = Violations()
    parsed = []
    for index, message in enumerate(messages):
        with found.under(f"instruments[{index}]") as nested:
            parsed.append(instrument(message, nested))
    if not 1 <= len(parsed) <= MAX_INSTRUMENTS:
        found.add("instruments", f"{len(parsed)} given; 1 to {MAX_INSTRUMENTS} are allowed")
    found.raise_if_any()
    return parsed


def bars_request(message: market_data_service_pb2.GetHistoricalBarsRequest) -> BarsRequest:
    """A historical request. Raises FieldsInvalid."""
    found = Violations()
    with found.under("instrument") as nested:
        named = instrument(message.instrument, nested)
    bar_size = BAR_SIZES.get(message.bar_size)
    if bar_size is None:
        found.add("bar_size", "is needed: BAR_SIZE_1_SEC to BAR_SIZE_1_MONTH")
    history = _history(message.duration, found)
    shown = enum(message, "what_to_show", WhatToShow, found, required=False)
    end = time(message.end_time) if message.HasField("end_time") else None
    found.raise_if_any()
    assert bar_size is not None
    assert history is not None
    return BarsRequest(named, bar_size, history.value, history.unit, shown, message.regular_hours_only, end)


def live_bars_request(message: market_data_service_pb2.StreamBarsRequest) -> LiveBarsRequest:
    """Which bars that go on. Raises FieldsInvalid."""
    found = Violations()
    with found.under("instrument") as nested:
        named = instrument(message.instrument, nested)
    bar_size = BAR_SIZES.get(message.bar_size)
    if bar_size is None or bar_size is BarSize.SEC_1:
        found.add("bar_size", "is needed: BAR_SIZE_5_SECS to BAR_SIZE_1_MONTH; IBKR updates none of one second")
    elif message.real_time and bar_size is not BarSize.SECS_5:
        found.add("bar_size", "is BAR_SIZE_5_SECS where real_time is set")
    shown = enum(message, "what_to_show", WhatToShow, found, required=False)
    if shown is not None and shown not in LIVE_SHOWN:
        found.add("what_to_show", f"{shown} does not go on; one of {', '.join(LIVE_SHOWN)}")
    history = _history(message.duration, found) if message.HasField("duration") else None
    if history is not None and message.real_time:
        found.add("duration", "is not for real_time: IBKR's real-time bars have no history")
    found.raise_if_any()
    assert bar_size is not None
    return LiveBarsRequest(named, bar_size, shown, message.regular_hours_only, history, message.real_time)


def _history(message: market_data_service_pb2.HistoryDuration, found: Violations) -> HistorySpan | None:
    unit = DURATION_UNITS.get(message.unit)
    if unit is None:
        found.add("duration.unit", "is needed: DURATION_UNIT_SECOND, DAY, WEEK, MONTH or YEAR")
    if not 1 <= message.value <= MAX_DURATION:
        found.add("duration.value", f"{message.value} is not within 1 to {MAX_DURATION}")
    return HistorySpan(message.value, unit) if unit is not None else None


def depth_request(message: market_data_service_pb2.StreamMarketDepthRequest) -> DepthRequest:
    """Whose book, and how many rows of it. Raises FieldsInvalid."""
    found = Violations()
    with found.under("instrument") as nested:
        named = instrument(message.instrument, nested)
    row_count = rows(message, "row_count", found)
    found.raise_if_any()
    return DepthRequest(named, row_count, message.smart_depth)


def rows(message: Message, name: str, found: Violations) -> int:
    """Rows of a book on each side; what is wrong is noted."""
    count: int = getattr(message, name) if message.HasField(name) else DEFAULT_ROWS
    if not 1 <= count <= MAX_ROWS:
        found.add(name, f"{count} is not within 1 to {MAX_ROWS}")
    return count


def head_timestamp_request(
    message: market_data_service_pb2.GetHeadTimestampRequest,
) -> tuple[Instrument, WhatToShow | None]:
    """Whose earliest bar of which prices. Raises FieldsInvalid."""
    found = Violations()
    with found.under("instrument") as nested:
        named = instrument(message.instrument, nested)
    shown = enum(message, "what_to_show", WhatToShow, found, required=False)
    found.raise_if_any()
    return named, shown


def long_history_request(message: market_data_service_pb2.StreamHistoricalBarsRequest) -> LongHistoryRequest:
    """Bars of a range. Raises FieldsInvalid."""
    found = Violations()
    with found.under("instrument") as nested:
        named = instrument(message.instrument, nested)
    bar_size = BAR_SIZES.get(message.bar_size)
    if bar_size is None:
        found.add("bar_size", "is needed: BAR_SIZE_1_SEC to BAR_SIZE_1_MONTH")
    shown = enum(message, "what_to_show", WhatToShow, found, required=False)
    if not message.HasField("start_time"):
        found.add("start_time", "is needed: bars from then on")
    end = time(message.end_time) if message.HasField("end_time") else None
    found.raise_if_any()
    assert bar_size is not None
    return LongHistoryRequest(named, bar_size, time(message.start_time), end, shown, message.regular_hours_only)


def tick_request(message: market_data_service_pb2.StreamTicksRequest) -> tuple[Instrument, TickType]:
    """Whose ticks of which kind. Raises FieldsInvalid."""
    found = Violations()
    with found.under("instrument") as nested:
        named = instrument(message.instrument, nested)
    tick_type = enum(message, "tick_type", TickType, found)
    found.raise_if_any()
    assert tick_type is not None
    return named, tick_type


def order_spec(message: orders_service_pb2.OrderSpec, found: Violations) -> OrderSpec:
    """An order's terms, only to be used when nothing is noted; what is wrong is noted, all of it."""
    with found.under("instrument") as nested:
        named = instrument(message.instrument, nested)
    side = enum(message, "side", Side, found)
    order_type = enum(message, "order_type", OrderType, found)
    if order_type is not None and order_type not in SENT_ORDER_TYPES:
        found.add("order_type", f"{order_type} is not supported yet; MKT and LMT are")
    tif = enum(message, "time_in_force", TimeInForce, found, required=False)
    if tif is not None and tif not in SENT_TIMES_IN_FORCE:
        found.add("time_in_force", f"{tif} is not supported yet; {', '.join(SENT_TIMES_IN_FORCE)} are")
    set_fields = {field.name for field, _ in message.ListFields()}
    for name in _NOT_YET:
        if name in set_fields:
            found.add(name, "is not supported yet; leave it out")
    if not message.quantity:
        found.add("quantity", 'is needed, as a decimal: "100"')
    quantity = _decimal(message.quantity, "quantity", found)
    limit_price = _decimal(message.limit_price, "limit_price", found) if message.HasField("limit_price") else None
    stop_price = _decimal(message.stop_price, "stop_price", found) if message.HasField("stop_price") else None
    # What could not be read stands in as something harmless, so that the rest is checked all the same.
    spec = OrderSpec(
        instrument=named,
        side=side or Side.BUY,
        quantity=Decimal(1) if quantity is None else quantity,
        order_type=order_type or OrderType.MKT,
        limit_price=limit_price if order_type else None,
        stop_price=stop_price if order_type else None,
        time_in_force=tif or TimeInForce.DAY,
        account_id=message.account_id,
        outside_regular_hours=message.outside_regular_hours,
        strategy_id=message.strategy_id,
        note=message.note,
    )
    spec.violations(found)
    return spec


def order_key(message: orders_service_pb2.OrderKey) -> OrderKey:
    """Which order. Raises FieldsInvalid when none is named."""
    role = enum(message, "leg_role", LegRole, (found := Violations()), required=False)
    found.raise_if_any()
    key = OrderKey(message.client_order_id, message.order_id, message.perm_id, role)
    if not key.client_order_id and key.order_id <= 0 and key.perm_id <= 0:
        found = Violations()
        found.add("order", "name it by client_order_id, order_id or perm_id")
        found.raise_if_any()
    return key


def order_keys(messages: Sequence[orders_service_pb2.OrderKey]) -> list[OrderKey]:
    """Which orders, each once. Raises FieldsInvalid when none or too many are named, or one is not."""
    found = Violations()
    if not 1 <= len(messages) <= MAX_KEYS:
        found.add("orders", f"{len(messages)} are named; 1 to {MAX_KEYS} are allowed")
    found.raise_if_any()
    return list(dict.fromkeys(order_key(message) for message in messages))


def cancel_scope(message: orders_service_pb2.CancelAllOrdersRequest) -> tuple[int, str]:
    """Whose orders, and of which account. Raises FieldsInvalid."""
    found = Violations()
    if not enum_name(message, "scope"):
        found.add("scope", "is needed: CANCEL_SCOPE_OWN, CANCEL_SCOPE_ACCOUNT or CANCEL_SCOPE_GLOBAL")
    by_account = message.scope == orders_service_pb2.CANCEL_SCOPE_ACCOUNT
    if by_account and not message.account_id:
        found.add("account_id", "is needed with CANCEL_SCOPE_ACCOUNT")
    elif message.account_id and not by_account:
        found.add("account_id", "goes with CANCEL_SCOPE_ACCOUNT only")
    found.raise_if_any()
    return message.scope, message.account_id


def refuse_unknown_fields(message: Message, path: str = "") -> None:
    """An order with a field we do not know may mean something we would not do. Raises RequestMalformed."""
    unknown = UnknownFieldSet(message)
    if len(unknown):
        raise RequestMalformed(path or message.DESCRIPTOR.name, "has fields this server does not know; update it")
    for field, value in message.ListFields():
        if field.message_type is not None:
            for nested in value if field.is_repeated else (value,):
                refuse_unknown_fields(nested, f"{path}.{field.name}".lstrip("."))


def page(size: int, token: str) -> PageRequest:
    """Which page. Raises FieldsInvalid, RequestMalformed."""
    if size < 0:
        found = Violations()
        found.add("page_size", f"{size} is negative")
        found.raise_if_any()
    if token and not (token.isascii() and token.isdigit() and len(token) <= 18):
        raise RequestMalformed("page_token", "is not one that this server gave")
    return PageRequest(min(size or DEFAULT_PAGE_SIZE, MAX_PAGE_SIZE), int(token or 0))


def time(message: Timestamp) -> datetime:
    """A point in time, UTC. Raises FieldsInvalid for one that no calendar has."""
    try:
        return message.ToDatetime(UTC)
    except (ValueError, OverflowError):
        wrong = FieldViolation("time", f"{message.seconds} s are not within the years 1 to 9999")
        raise FieldsInvalid((wrong,)) from None


def span(message: Message) -> tuple[datetime | None, datetime | None]:
    """The optional start_time and end_time of a request."""
    start, end = (
        time(getattr(message, name)) if message.HasField(name) else None for name in ("start_time", "end_time")
    )
    return start, end


def heartbeat_s(message: Message) -> float:
    """Seconds between heartbeats. Raises FieldsInvalid."""
    if not message.HasField("heartbeat_interval"):
        return DEFAULT_HEARTBEAT_S
    return seconds(message.heartbeat_interval, "heartbeat_interval", *HEARTBEAT_S)  # type: ignore[attr-defined]


def seconds(duration: Duration, name: str, least: float, most: float) -> float:
    """A span of time within bounds. Raises FieldsInvalid."""
    value = duration.seconds + duration.nanos / 1e9
    if not least <= value <= most:
        found = Violations()
        found.add(name, f"{value:g} s is not within {least:g} to {most:g} s")
        found.raise_if_any()
    return value


def enum_name(message: Message, name: str) -> str:
    """An enum field's value without its prefix; "" when unspecified or unknown to this server."""
    descriptor = message.DESCRIPTOR.fields_by_name[name].enum_type
    assert descriptor is not None
    value = descriptor.values_by_number.get(getattr(message, name))
    prefix = descriptor.values[0].name.removesuffix("UNSPECIFIED")
    return "" if value is None or value.number == 0 else value.name.removeprefix(prefix)


def enum(message: Message, name: str, kind: type[E], found: Violations, *, required: bool = True) -> E | None:
    """An enum field as the domain's member of the same name; what is wrong with it is noted."""
    number = getattr(message, name)
    text = enum_name(message, name)
    if text and text in kind.__members__:
        return kind[text]
    if number or required:
        problem = "is needed" if not number else f"{number} is not known to this server"
        found.add(name, f"{problem}; one of {', '.join(kind.__members__)}")
    return None


def _decimal(text: str, name: str, found: Violations) -> Decimal | None:
    if not text:
        return None
    if not _DECIMAL.fullmatch(text):
        found.add(name, "is not a decimal number of plain digits, like 187.30")
        return None
    parsed = Decimal(text)
    if significant_digits(parsed) > MAX_SIGNIFICANT_DIGITS:
        found.add(name, f"has more than {MAX_SIGNIFICANT_DIGITS} significant digits")
    return parsed
