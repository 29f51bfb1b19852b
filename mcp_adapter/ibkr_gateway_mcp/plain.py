"""Messages of the contract as plain data, under its own names: what is absent is None, and text of others is marked."""

from __future__ import annotations

import re
from typing import Any

from google.protobuf.message import Message

Field = Any
"""A field's descriptor: of one class in protobuf's Python, of another in its C."""
LONGEST_TEXT = 2_000
"""Characters of a text of others that are passed on."""

# Ids whose 0 means that there is none yet.
_IDS = frozenset({"con_id", "order_id", "perm_id", "parent_order_id", "underlying_con_id"})

# Text that companies, exchanges, news agencies and IBKR write: whoever can put words there must not command the reader.
_UNTRUSTED = frozenset(
    {
        "ibkr_gateway.v1.ContractDetails.long_name",
        "ibkr_gateway.v1.ContractDetails.industry",
        "ibkr_gateway.v1.ContractDetails.category",
        "ibkr_gateway.v1.SymbolMatch.description",
        "ibkr_gateway.v1.Notice.text",
        "ibkr_gateway.v1.OrderPreview.warnings",
        "ibkr_gateway.v1.OrderStatus.why_held",
        "ibkr_gateway.v1.TradingStatus.halt_comment",
    }
)
_UNPRINTABLE = re.compile(
    # Controls, and what is invisible or turns the direction of what follows.
    r"[\x00-\x1f\x7f-\x9f\u200b-\u200f\u2028-\u202e\u2060-\u2069\ufeff\U000e0000-\U000e007f]"
)


def plain(message: Message) -> dict[str, Any]:
    """A message as plain data.

    Enums are names without their prefix, times ISO 8601 in UTC, spans seconds; decimals stay text. Absent fields, empty
    texts, unspecified enums and ids that are 0 are None.
    """
    return {field.name: _field(message, field) for field in message.DESCRIPTOR.fields}


def untrusted(text: str) -> dict[str, Any]:
    """Text of others: cut to a length, without characters that are not seen, and marked."""
    return {"text": _UNPRINTABLE.sub(" ", text)[:LONGEST_TEXT], "untrusted": True}


def _field(message: Message, field: Field) -> Any:
    value = getattr(message, field.name)
    if field.message_type is not None and field.message_type.GetOptions().map_entry:
        return dict(value)
    if field.is_repeated:
        if not value and field.name == "combo_legs":
            # An instrument is in every answer, and hardly ever a combination.
            return None
        return [_value(field, each) for each in value]
    if field.has_presence and not message.HasField(field.name):
        return None
    return _value(field, value)


def _value(field: Field, value: Any) -> Any:
    if field.message_type is not None:
        return _message(value)
    if field.enum_type is not None:
        return word(field.enum_type, value) if value else None
    if value == "" or (value == 0 and field.name in _IDS):
        return None
    return untrusted(str(value)) if field.full_name in _UNTRUSTED else value


def _message(value: Message) -> Any:
    kind = value.DESCRIPTOR.full_name
    if kind == "google.protobuf.Timestamp":
        return value.ToJsonString()  # type: ignore[attr-defined]
    if kind == "google.protobuf.Duration":
        return value.ToNanoseconds() / 1e9  # type: ignore[attr-defined]
    return plain(value)


def word(enum: Any, number: int) -> str:
    """The name of a value without its enum's prefix; of one that is newer than the stubs its number."""
    known = enum.values_by_number.get(number)
    return known.name.removeprefix(enum_prefix(enum.name)) if known else str(number)


def enum_prefix(name: str) -> str:
    """What every value of an enum begins with: ORDER_STATE_ of OrderState."""
    return re.sub(r"(?<=[a-z])(?=[A-Z])", "_", name).upper() + "_"
