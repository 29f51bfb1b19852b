"""An order's terms from what people have: text, Decimal or int for numbers, words for the rest.

    limit_order("AAPL", "BUY", 100, "187.30", time_in_force="GTC")
    bracket_order(future("MES"), "BUY", 1, "6900", take_profit="6950", stop_loss="6880")

Prices are in the contract's currency per unit. Every function raises ValueError for a text that is no number or no such
word, and TypeError for a float: it cannot hold most decimal prices. Whether the terms fit each other and the contract
is for the gateway to say: PreviewOrder sends nothing.
"""

from __future__ import annotations

from datetime import datetime
from decimal import Decimal
from typing import Any, TypedDict, Unpack

from google.protobuf.timestamp_pb2 import Timestamp

from ibkr_gateway.inputs import decimal_text, parse_instrument
from ibkr_gateway.v1 import common_pb2
from ibkr_gateway.v1 import orders_service_pb2 as pb

Number = str | Decimal | int
Named = common_pb2.Instrument | str
"""An instrument, or its name as `parse_instrument` reads it."""

_SIDES = {name.removeprefix("SIDE_"): number for name, number in common_pb2.Side.items() if number}
_TIMES = {name.removeprefix("TIME_IN_FORCE_"): number for name, number in pb.TimeInForce.items() if number}
_OCA_TYPES = {name.removeprefix("OCA_TYPE_"): number for name, number in pb.OcaType.items() if number}


class Terms(TypedDict, total=False):
    """What every kind of order may have besides its prices."""

    account_id: str
    """Needed when the login has several accounts."""
    time_in_force: str
    """DAY (the default), GTC, IOC, FOK, GTD or OPG."""
    good_till: datetime
    """End of a GTD order; without a zone it is refused."""
    good_after: datetime
    """Not before this time."""
    outside_regular_hours: bool
    oca_group: str
    """Orders of one group cancel or reduce each other."""
    oca_type: str
    """CANCEL_WITH_BLOCK, REDUCE_WITH_BLOCK or REDUCE_WITHOUT_BLOCK."""
    all_or_none: bool
    hidden: bool
    display_size: int
    strategy_id: str
    """Kept in the record, not sent to IBKR."""
    note: str
    """Kept in the record, not sent to IBKR."""


def market_order(instrument: Named, side: str, quantity: Number, **terms: Unpack[Terms]) -> pb.OrderSpec:
    """At any price."""
    return _order(pb.ORDER_TYPE_MKT, instrument, side, quantity, terms)


def limit_order(instrument: Named, side: str, quantity: Number, price: Number, **terms: Unpack[Terms]) -> pb.OrderSpec:
    """At the price or better."""
    return _order(pb.ORDER_TYPE_LMT, instrument, side, quantity, terms, limit_price=price)


def stop_order(
    instrument: Named,
    side: str,
    quantity: Number,
    stop_price: Number,
    limit_price: Number | None = None,
    **terms: Unpack[Terms],
) -> pb.OrderSpec:
    """A market order once the stop price trades; with a limit price a limit order."""
    kind = pb.ORDER_TYPE_STP if limit_price is None else pb.ORDER_TYPE_STP_LMT
    return _order(kind, instrument, side, quantity, terms, stop_price=stop_price, limit_price=limit_price)


def if_touched_order(
    instrument: Named,
    side: str,
    quantity: Number,
    trigger_price: Number,
    limit_price: Number | None = None,
    **terms: Unpack[Terms],
) -> pb.OrderSpec:
    """A market order once the price is touched from the other side than a stop; with a limit price a limit order."""
    kind = pb.ORDER_TYPE_MIT if limit_price is None else pb.ORDER_TYPE_LIT
    return _order(kind, instrument, side, quantity, terms, stop_price=trigger_price, limit_price=limit_price)


def trailing_order(
    instrument: Named,
    side: str,
    quantity: Number,
    *,
    amount: Number | None = None,
    percent: Number | None = None,
    first_stop: Number | None = None,
    limit_offset: Number | None = None,
    **terms: Unpack[Terms],
) -> pb.OrderSpec:
    """A stop that follows the market by an amount or by percent; with `limit_offset` it leaves a limit order.

    `first_stop`: where it begins; None: from the market. Raises ValueError unless exactly one distance is given.
    """
    if (amount is None) is (percent is None):
        raise ValueError("a trailing order has an amount or a percent, and not both")
    kind = pb.ORDER_TYPE_TRAIL if limit_offset is None else pb.ORDER_TYPE_TRAIL_LIMIT
    prices = {"trailing_amount": amount, "trailing_percent": percent, "trail_stop_price": first_stop}
    return _order(kind, instrument, side, quantity, terms, **prices, limit_offset=limit_offset)


def on_close_order(
    instrument: Named, side: str, quantity: Number, price: Number | None = None, **terms: Unpack[Terms]
) -> pb.OrderSpec:
    """In the closing auction, at the price or better, or at any."""
    kind = pb.ORDER_TYPE_MOC if price is None else pb.ORDER_TYPE_LOC
    return _order(kind, instrument, side, quantity, terms, limit_price=price)


def on_open_order(
    instrument: Named, side: str, quantity: Number, price: Number | None = None, **terms: Unpack[Terms]
) -> pb.OrderSpec:
    """In the opening auction, at the price or better, or at any."""
    return _order(pb.ORDER_TYPE_OPG, instrument, side, quantity, terms, limit_price=price)


def relative_order(
    instrument: Named, side: str, quantity: Number, cap: Number, offset: Number, **terms: Unpack[Terms]
) -> pb.OrderSpec:
    """Pegged to the best price of its own side, better by the offset, at the cap at worst."""
    return _order(pb.ORDER_TYPE_REL, instrument, side, quantity, terms, limit_price=cap, limit_offset=offset)


def bracket_order(
    instrument: Named,
    side: str,
    quantity: Number,
    price: Number | None = None,
    *,
    take_profit: Number,
    stop_loss: Number,
    stop_loss_limit: Number | None = None,
    transmit: bool = True,
    **terms: Unpack[Terms],
) -> pb.OrderSpec:
    """An entry at the price or better, or at any, that closes by itself with a profit or with a loss.

    `stop_loss_limit` makes the stop-loss a stop-limit; `transmit` False leaves all three in TWS for a person to send.
    """
    order = _order(
        pb.ORDER_TYPE_BRACKET,
        instrument,
        side,
        quantity,
        terms,
        limit_price=price,
        take_profit_price=take_profit,
        stop_loss_price=stop_loss,
        stop_loss_limit_price=stop_loss_limit,
    )
    order.bracket_transmit = transmit
    return order


def _order(
    kind: pb.OrderType.ValueType,
    instrument: Named,
    side: str,
    quantity: Number,
    terms: Terms,
    **prices: Number | None,
) -> pb.OrderSpec:
    decimals: dict[str, Any] = {name: decimal_text(price) for name, price in prices.items() if price is not None}
    return pb.OrderSpec(
        order_type=kind,
        instrument=parse_instrument(instrument) if isinstance(instrument, str) else instrument,
        side=_word("side", side, _SIDES),
        quantity=decimal_text(quantity),
        **decimals,
        **_fields(terms),
    )


def _fields(terms: Terms) -> dict[str, Any]:
    """The terms under the contract's names."""
    fields: dict[str, Any] = dict(terms)
    if "time_in_force" in terms:
        fields["time_in_force"] = _word("time in force", terms["time_in_force"], _TIMES)
    if "oca_type" in terms:
        fields["oca_type"] = _word("OCA type", terms["oca_type"], _OCA_TYPES)
    for name in ("good_till", "good_after"):
        if name in fields:
            fields[f"{name}_time"] = _timestamp(name, fields.pop(name))
    return fields


def _word(what: str, text: str, allowed: dict[str, Any]) -> Any:
    if text.upper() not in allowed:
        raise ValueError(f"{what} {text!r} is not one of {', '.join(allowed)}")
    return allowed[text.upper()]


def _timestamp(name: str, time: datetime) -> Timestamp:
    if time.tzinfo is None:
        raise ValueError(f"{name} {time} has no time zone: which moment it is cannot be known")
    made = Timestamp()
    made.FromDatetime(time)
    return made
