"""What tools take: flat fields as a model fills them in, strict and ASCII, and the contract's messages made of them."""

from __future__ import annotations

import inspect
import re
from collections.abc import Awaitable, Callable
from datetime import UTC, datetime
from decimal import Decimal
from typing import Annotated, Any, TypeVar, get_type_hints

from google.protobuf.timestamp_pb2 import Timestamp
from ibkr_gateway import decimal_text, parse_instrument
from ibkr_gateway.v1 import common_pb2
from ibkr_gateway.v1 import orders_service_pb2 as pb
from pydantic import AfterValidator, BaseModel, BeforeValidator, ConfigDict, Field, WithJsonSchema

T = TypeVar("T")

# What a model writes into an id ends in a log line and in a request: nothing but these, and [0-9] rather than \d, which
# would take every script's digits.
SYMBOL = r"^[A-Za-z0-9][A-Za-z0-9 ./_^-]{0,31}$"
NAME = r"^[A-Za-z0-9]([A-Za-z0-9._-]{0,31})?$"
ACCOUNT = r"^[A-Za-z0-9]{1,32}$"
CURRENCY = r"^[A-Z]{3}$"
DATE = r"^[0-9]{4}-[0-9]{2}(-[0-9]{2})?$"
TIME = r"^[0-9]{4}-[0-9]{2}-[0-9]{2}(T[0-9]{2}:[0-9]{2}(:[0-9]{2}(\.[0-9]{1,6})?)?(Z|[+-][0-9]{2}:[0-9]{2}))?$"
DECIMAL = r"^-?[0-9]{1,15}(\.[0-9]{1,10})?$"
ORDER_ID = r"^([0-9]{1,10}|perm:[0-9]{1,18}|[A-Za-z0-9_-]{16,64})$"
PREVIEW_ID = r"^[0-9a-f]{32}$"
LISTED_SYMBOL = r"^[A-Za-z0-9][A-Za-z0-9 ./_^-]{0,31}(:[A-Za-z]{3,6})?$"
PRINTABLE = r"^[ -~]{1,100}$"


def _decimal(value: object) -> object:
    """A JSON number as the decimal it was written as: shortest text that reads back to the same double."""
    if isinstance(value, float):
        return decimal_text(Decimal(repr(value))) if value == value and abs(value) < 1e15 else str(value)
    return str(value) if isinstance(value, int) and not isinstance(value, bool) else value


def _moment(text: str) -> str:
    datetime.fromisoformat(text)
    return text


def listed(text: str) -> common_pb2.Instrument:
    """The instrument that one word names: AAPL, MES:FUT, EUR.USD, or a contract id. Raises ValueError."""
    if not re.fullmatch(LISTED_SYMBOL, text):
        raise ValueError("no such symbol")
    return parse_instrument(text)


def _named(text: str) -> str:
    listed(text)
    return text


DecimalText = Annotated[
    str,
    BeforeValidator(_decimal),
    Field(pattern=DECIMAL),
    WithJsonSchema({"anyOf": [{"type": "string", "pattern": DECIMAL}, {"type": "number"}]}),
]
AccountId = Annotated[
    str, Field(pattern=ACCOUNT, description="IBKR account, as DU1234567. Only needed when the login has several.")
]
OrderId = Annotated[
    str,
    Field(
        pattern=ORDER_ID,
        description="client_order_id (16 to 64 of A-Z a-z 0-9 _ -), IBKR's order_id (digits), or perm:ID.",
    ),
]
PreviewId = Annotated[str, Field(pattern=PREVIEW_ID, description="preview_id, as preview_order answered it.")]
Time = Annotated[
    str,
    Field(pattern=TIME, description="ISO 8601: 2026-11-23T15:00:00Z; a date is its first moment UTC"),
    AfterValidator(_moment),
]
SymbolText = Annotated[str, Field(pattern=LISTED_SYMBOL), AfterValidator(_named)]
Rows = Annotated[int, Field(ge=1, le=1000)]


class Fields(BaseModel):
    """Fields of one thing that a tool takes flat."""

    model_config = ConfigDict(extra="forbid", frozen=True, use_attribute_docstrings=True)


def timestamp(text: str | None) -> Timestamp | None:
    """A moment as the gateway takes it."""
    if text is None:
        return None
    moment = datetime.fromisoformat(text)
    made = Timestamp()
    made.FromDatetime(moment if moment.tzinfo else moment.replace(tzinfo=UTC))
    return made


def order_key(order_id: str) -> pb.OrderKey:
    """The order that an id names: IBKR's ids are digits, ours are 16 characters or longer."""
    if order_id.startswith("perm:"):
        return pb.OrderKey(perm_id=int(order_id.removeprefix("perm:")))
    if re.fullmatch(r"[0-9]{1,10}", order_id):
        return pb.OrderKey(order_id=int(order_id))
    return pb.OrderKey(client_order_id=order_id)


def flat(tool: Callable[..., Awaitable[T]]) -> Callable[..., Awaitable[T]]:
    """A tool that takes the fields of its first parameter each by its own name, as models fill them in best.

    What it is then: a function whose signature has those fields in place of that parameter.
    """
    hints = get_type_hints(tool, include_extras=True)
    first, *others = inspect.signature(tool).parameters.values()
    fields: type[Fields] = hints[first.name]
    infos = fields.model_fields

    async def called(**arguments: Any) -> T:
        return await tool(fields(**{name: arguments.pop(name) for name in infos}), **arguments)

    taken = [
        inspect.Parameter(
            name,
            inspect.Parameter.KEYWORD_ONLY,
            annotation=Annotated[info.annotation, *info.metadata, Field(description=info.description)],
            default=inspect.Parameter.empty if info.is_required() else info.default,
        )
        for name, info in infos.items()
    ]
    taken += [each.replace(kind=inspect.Parameter.KEYWORD_ONLY, annotation=hints[each.name]) for each in others]
    called.__name__, called.__qualname__, called.__module__ = tool.__name__, tool.__qualname__, tool.__module__
    called.__doc__ = tool.__doc__
    called.__signature__ = inspect.Signature(taken, return_annotation=hints["return"])  # type: ignore[attr-defined]
    called.__annotations__ = {each.name: each.annotation for each in taken} | {"return": hints["return"]}
    return called
