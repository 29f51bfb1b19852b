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
from ibkr_gateway.v1 import common_pb2, orders_service_pb2

from ibkr_gateway_server.domain.audit import DEFAULT_PAGE_SIZE, MAX_PAGE_SIZE, PageRequest
from ibkr_gateway_server.domain.errors import FieldsInvalid, FieldViolation, RequestMalformed, Violations
from ibkr_gateway_server.domain.instruments import Instrument, OptionRight, SecurityType
from ibkr_gateway_server.domain.orders import (
    MAX_SIGNIFICANT_DIGITS,
    LegRole,
    OcaType,
    OrderKey,
    OrderSpec,
    OrderType,
    Side,
    TimeInForce,
    significant_digits,
)

E = TypeVar("E", bound=Enum)

# ASCII digits only: other scripts' digits are digits to Python.
_DECIMAL = re.compile(r"-?\d{1,15}(\.\d{1,15})?", re.ASCII)
_DATE = re.compile(r"\d{4}-\d{2}(-\d{2})?", re.ASCII)

MAX_INSTRUMENTS = 100
MAX_KEYS = 100
# Characters of why something is done, for the record.
MAX_COMMENT = 256
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


def order_spec(message: orders_service_pb2.OrderSpec, found: Violations) -> OrderSpec:
    """An order's terms in their one spelling, only to be used when nothing is noted; what is wrong is noted, all of
    it."""
    with found.under("instrument") as nested:
        named = instrument(message.instrument, nested)
    side = enum(message, "side", Side, found)
    order_type = enum(message, "order_type", OrderType, found)
    tif = enum(message, "time_in_force", TimeInForce, found, required=False)
    oca_type = enum(message, "oca_type", OcaType, found, required=False)
    if message.cash_quantity:
        found.add("cash_quantity", "is not supported; give a quantity")
    elif not message.quantity:
        found.add("quantity", 'is needed, as a decimal: "100"')
    quantity = _decimal(message.quantity, "quantity", found)

    def price(name: str) -> Decimal | None:
        return _optional_decimal(message, name, found)

    # What could not be read stands in as something harmless, so that the rest is checked all the same.
    spec = OrderSpec(
        instrument=named,
        side=side or Side.BUY,
        quantity=Decimal(1) if quantity is None else quantity,
        order_type=order_type or OrderType.MKT,
        limit_price=price("limit_price"),
        stop_price=price("stop_price"),
        time_in_force=tif or TimeInForce.DAY,
        account_id=message.account_id,
        outside_regular_hours=message.outside_regular_hours,
        strategy_id=message.strategy_id,
        note=message.note,
        trailing_amount=price("trailing_amount"),
        trailing_percent=price("trailing_percent"),
        trail_stop_price=price("trail_stop_price"),
        limit_offset=price("limit_offset"),
        take_profit_price=price("take_profit_price"),
        stop_loss_price=price("stop_loss_price"),
        stop_loss_limit_price=price("stop_loss_limit_price"),
        bracket_transmit=message.bracket_transmit or not message.HasField("bracket_transmit"),
        oca_group=message.oca_group,
        oca_type=oca_type,
        good_till_time=_moment(message, "good_till_time", found),
        good_after_time=_moment(message, "good_after_time", found),
        all_or_none=message.all_or_none,
        hidden=message.hidden,
        display_size=message.display_size,
    )
    wrong = Violations()
    # Of an order without a type nobody can say which other terms are right.
    known = spec if order_type else OrderSpec(named, spec.side, spec.quantity, OrderType.MKT)
    known.violations(wrong)
    found.extend(wrong, new_fields_only=True)
    return spec.normalised()


def _optional_decimal(message: Message, name: str, found: Violations) -> Decimal | None:
    """An optional number; one that is there and empty is wrong as well."""
    if not message.HasField(name):
        return None
    if not getattr(message, name):
        found.add(name, "is empty; leave it out, or give a decimal number")
    return _decimal(getattr(message, name), name, found)


def _moment(message: Message, name: str, found: Violations) -> datetime | None:
    """An optional point in time; what is wrong with it is noted."""
    try:
        return time(getattr(message, name)) if message.HasField(name) else None
    except FieldsInvalid as invalid:
        found.add(name, invalid.violations[0].description)
        return None


def order_key(message: orders_service_pb2.OrderKey) -> OrderKey:
    """Which order, or which leg of it. Raises FieldsInvalid when none is named."""
    found = Violations()
    with found.under("order") as nested:
        role = enum(message, "leg_role", LegRole, nested, required=False)
    key = OrderKey(message.client_order_id, message.order_id, message.perm_id, role)
    if not key.client_order_id and key.order_id <= 0 and key.perm_id <= 0:
        found.add("order", "name it by client_order_id, order_id or perm_id")
    elif role is not None and not key.client_order_id:
        found.add("order.leg_role", "goes with a client_order_id; an order_id or perm_id names one leg by itself")
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


def comment(text: str) -> str:
    """Why, for the record. Raises FieldsInvalid when it is too long."""
    found = Violations()
    if len(text) > MAX_COMMENT:
        found.add("comment", f"has {len(text)} characters, and {MAX_COMMENT} are the most")
    found.raise_if_any()
    return text


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
