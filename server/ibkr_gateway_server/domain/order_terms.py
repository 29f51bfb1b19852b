"""The terms of an order: what a caller may ask for, and what is wrong by itself, before IBKR is asked anything."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, replace
from datetime import datetime
from decimal import Decimal
from enum import StrEnum

from ibkr_gateway_server.domain.errors import Violations
from ibkr_gateway_server.domain.instruments import Instrument, SecurityType

# TWS holds prices and quantities as doubles: 15 significant digits survive the journey, more may not.
MAX_SIGNIFICANT_DIGITS = 15


class Side(StrEnum):
    """IBKR's codes of an order's direction."""

    BUY = "BUY"
    SELL = "SELL"

    @property
    def opposite(self) -> Side:
        """The direction that closes what this one opens."""
        return Side.SELL if self is Side.BUY else Side.BUY


class OrderType(StrEnum):
    """Order types under the contract's names; `BROKER_ORDER_TYPES` has IBKR's."""

    MKT = "MKT"
    LMT = "LMT"
    STP = "STP"
    STP_LMT = "STP_LMT"
    TRAIL = "TRAIL"
    TRAIL_LIMIT = "TRAIL_LIMIT"
    BRACKET = "BRACKET"
    MOC = "MOC"
    LOC = "LOC"
    OPG = "OPG"
    MIT = "MIT"
    LIT = "LIT"
    REL = "REL"


class TimeInForce(StrEnum):
    """IBKR's codes of how long an order lives."""

    DAY = "DAY"
    GTC = "GTC"
    IOC = "IOC"
    FOK = "FOK"
    GTD = "GTD"
    OPG = "OPG"


class OcaType(StrEnum):
    """What becomes of the others of an OCA group when one fills, under the contract's names. IB: ocaType 1 to 3."""

    CANCEL_WITH_BLOCK = "CANCEL_WITH_BLOCK"
    REDUCE_WITH_BLOCK = "REDUCE_WITH_BLOCK"
    REDUCE_WITHOUT_BLOCK = "REDUCE_WITHOUT_BLOCK"


class LegRole(StrEnum):
    """The part a leg plays."""

    ENTRY = "ENTRY"
    TAKE_PROFIT = "TAKE_PROFIT"
    STOP_LOSS = "STOP_LOSS"


# IBKR's codes of the types that it knows: a bracket is several orders, an opening one a time in force. Source: TWS API,
# order types.
BROKER_ORDER_TYPES = {
    OrderType.MKT: "MKT",
    OrderType.LMT: "LMT",
    OrderType.STP: "STP",
    OrderType.STP_LMT: "STP LMT",
    OrderType.TRAIL: "TRAIL",
    OrderType.TRAIL_LIMIT: "TRAIL LIMIT",
    OrderType.MOC: "MOC",
    OrderType.LOC: "LOC",
    OrderType.MIT: "MIT",
    OrderType.LIT: "LIT",
    OrderType.REL: "REL",
}


@dataclass(frozen=True, slots=True)
class Prices:
    """Which prices a type takes, by their fields' names: those it needs, those it may have, and one of several."""

    needed: tuple[str, ...] = ()
    optional: tuple[str, ...] = ()
    one_of: tuple[str, ...] = ()


# Every price that is not named here for a type is an error for it. Source: TWS API, order types.
PRICES_OF = {
    OrderType.MKT: Prices(),
    OrderType.LMT: Prices(needed=("limit_price",)),
    OrderType.STP: Prices(needed=("stop_price",)),
    OrderType.STP_LMT: Prices(needed=("stop_price", "limit_price")),
    OrderType.TRAIL: Prices(optional=("trail_stop_price",), one_of=("trailing_amount", "trailing_percent")),
    OrderType.TRAIL_LIMIT: Prices(
        needed=("limit_offset",), optional=("trail_stop_price",), one_of=("trailing_amount", "trailing_percent")
    ),
    OrderType.BRACKET: Prices(
        needed=("take_profit_price", "stop_loss_price"), optional=("limit_price", "stop_loss_limit_price")
    ),
    OrderType.MOC: Prices(),
    OrderType.LOC: Prices(needed=("limit_price",)),
    OrderType.OPG: Prices(optional=("limit_price",)),
    OrderType.MIT: Prices(needed=("stop_price",)),
    OrderType.LIT: Prices(needed=("stop_price", "limit_price")),
    OrderType.REL: Prices(optional=("limit_price", "limit_offset")),
}

# In the contract's currency and on its tick; the distances among them are positive.
PRICE_FIELDS = (
    "limit_price",
    "stop_price",
    "trailing_amount",
    "trail_stop_price",
    "limit_offset",
    "take_profit_price",
    "stop_loss_price",
    "stop_loss_limit_price",
)
_DISTANCES = frozenset({"trailing_amount", "trailing_percent", "limit_offset"})

# An order that waits for a price cannot be of the moment; one of an auction has the auction's time.
_WAITING: tuple[TimeInForce, ...] = (TimeInForce.DAY, TimeInForce.GTC, TimeInForce.GTD)
TIMES_OF: dict[OrderType, tuple[TimeInForce, ...]] = {
    **dict.fromkeys(OrderType, _WAITING),
    OrderType.MKT: tuple(TimeInForce),
    OrderType.LMT: tuple(TimeInForce),
    OrderType.MOC: (TimeInForce.DAY,),
    OrderType.LOC: (TimeInForce.DAY,),
    # DAY is what a request that says nothing means.
    OrderType.OPG: (TimeInForce.OPG, TimeInForce.DAY),
}

# Only what has a limit price is shown in a book, so only it can be shown in part: these have one that is not given.
_DISPLAYED = frozenset({OrderType.TRAIL_LIMIT, OrderType.BRACKET, OrderType.REL})


@dataclass(frozen=True, slots=True)
class OrderSpec:
    """The terms of an order, of a bracket all three legs' in one. `account_id` empty: the login's only account.

    Which prices a type takes and needs is `PRICES_OF`; `trading.plan` makes the orders of it that IBKR gets.
    """

    instrument: Instrument
    side: Side
    quantity: Decimal
    order_type: OrderType
    limit_price: Decimal | None = None
    stop_price: Decimal | None = None
    time_in_force: TimeInForce = TimeInForce.DAY
    account_id: str = ""
    outside_regular_hours: bool = False
    strategy_id: str = ""
    note: str = ""
    trailing_amount: Decimal | None = None
    trailing_percent: Decimal | None = None
    trail_stop_price: Decimal | None = None
    limit_offset: Decimal | None = None
    take_profit_price: Decimal | None = None
    stop_loss_price: Decimal | None = None
    stop_loss_limit_price: Decimal | None = None
    bracket_transmit: bool = True
    oca_group: str = ""
    oca_type: OcaType | None = None
    good_till_time: datetime | None = None
    good_after_time: datetime | None = None
    all_or_none: bool = False
    hidden: bool = False
    display_size: int = 0

    def normalised(self) -> OrderSpec:
        """The same order in the one spelling that is recorded, hashed and sent: an opening order as MKT or LMT with
        the auction's time in force, a group with what a fill in it does."""
        spec = self
        if spec.order_type is OrderType.OPG:
            opening = OrderType.MKT if spec.limit_price is None else OrderType.LMT
            spec = replace(spec, order_type=opening, time_in_force=TimeInForce.OPG)
        if spec.oca_group and spec.oca_type is None:
            spec = replace(spec, oca_type=OcaType.CANCEL_WITH_BLOCK)
        return spec

    def violations(self, found: Violations) -> None:
        """Note every term that is wrong by itself, without asking IBKR."""
        if self.instrument.security_type is SecurityType.IND:
            found.add("instrument.security_type", "an index cannot be traded; name a future, an option or a fund on it")
        _check_quantity(self.quantity, found)
        _check_prices(self, found)
        if self.order_type is OrderType.BRACKET:
            _check_bracket(self, found)
        elif not self.bracket_transmit:
            found.add("bracket_transmit", "is for a BRACKET order; leave it out")
        _check_times(self, found)
        _check_group(self, found)
        _check_display(self, found)
        for name, limit in (("strategy_id", 64), ("note", 256)):
            length = len(getattr(self, name))
            if length > limit:
                found.add(name, f"has {length} characters; {limit} are allowed")


@dataclass(frozen=True, slots=True)
class LegTerms:
    """One order of a plan as IBKR gets it: what differs between the legs of a spec. Prices are per unit."""

    role: LegRole
    order_type: OrderType
    side: Side
    quantity: Decimal
    time_in_force: TimeInForce
    limit_price: Decimal | None = None
    stop_price: Decimal | None = None
    trailing_amount: Decimal | None = None
    trailing_percent: Decimal | None = None
    trail_stop_price: Decimal | None = None
    limit_offset: Decimal | None = None
    oca_group: str = ""
    oca_type: OcaType | None = None
    transmits: bool = True
    """False: TWS keeps it until a later leg of the plan transmits all of them. IB: transmit."""


def significant_digits(number: Decimal) -> int:
    """Digits that matter: 100.50 has 4."""
    return len(number.normalize().as_tuple().digits)


def _check_quantity(quantity: Decimal, found: Violations) -> None:
    if not quantity.is_finite() or quantity <= 0:
        found.add("quantity", f"{quantity} is not a positive number; the side says whether to buy or sell")
    elif significant_digits(quantity) > MAX_SIGNIFICANT_DIGITS:
        found.add("quantity", f"has more than {MAX_SIGNIFICANT_DIGITS} significant digits")


def _check_prices(spec: OrderSpec, found: Violations) -> None:
    kind, rules = spec.order_type, PRICES_OF[spec.order_type]
    for name in (*PRICE_FIELDS, "trailing_percent"):
        price: Decimal | None = getattr(spec, name)
        if price is None:
            if name in rules.needed:
                found.add(name, f"is needed for a {kind} order")
        elif name not in rules.needed + rules.optional + rules.one_of:
            found.add(name, f"is not taken by a {kind} order; leave it out")
        else:
            _check_price(name, price, found)
    given = [name for name in rules.one_of if getattr(spec, name) is not None]
    if rules.one_of and len(given) != 1:
        either = " or ".join(rules.one_of)
        found.add(rules.one_of[0], f"a {kind} order takes {either}: {'both are' if given else 'neither is'} given")


def _check_price(name: str, price: Decimal, found: Violations) -> None:
    if not price.is_finite():
        found.add(name, f"{price} is not a price")
    elif significant_digits(price) > MAX_SIGNIFICANT_DIGITS:
        found.add(name, f"has more than {MAX_SIGNIFICANT_DIGITS} significant digits")
    elif name in _DISTANCES and price <= 0:
        found.add(name, f"{price:f} is not a positive distance; the side says in which direction it is")
    elif name == "trailing_percent" and price >= 100:
        found.add(name, f"{price:f} is not below 100; 1.5 is 1.5 %")


def _check_bracket(spec: OrderSpec, found: Violations) -> None:
    """The exits are on their sides of the entry, so that neither would trade at once."""
    is_buy = spec.side is Side.BUY
    for name, other, is_beyond in _bracket_relations():
        price, bound = getattr(spec, name), getattr(spec, other)
        if price is None or bound is None or not (price.is_finite() and bound.is_finite()):
            continue
        is_above = is_beyond is is_buy
        if price == bound and name == "stop_loss_limit_price":
            continue
        if price <= bound if is_above else price >= bound:
            side = "above" if is_above else "below"
            found.add(name, f"{price:f} is not {side} {other} {bound:f}, where that of a {spec.side} bracket is")


def _bracket_relations() -> Iterator[tuple[str, str, bool]]:
    """Which exit's price is beyond which other, as seen by a buyer: above it (True) or below."""
    yield "take_profit_price", "limit_price", True
    yield "stop_loss_price", "limit_price", False
    yield "take_profit_price", "stop_loss_price", True
    yield "stop_loss_limit_price", "stop_loss_price", False


def _check_times(spec: OrderSpec, found: Violations) -> None:
    taken = TIMES_OF[spec.order_type]
    if spec.time_in_force not in taken:
        text = f"{spec.time_in_force} is not taken by a {spec.order_type} order; {' or '.join(taken)}"
        found.add("time_in_force", text)
    if spec.time_in_force is TimeInForce.GTD and spec.good_till_time is None:
        found.add("good_till_time", "is needed for the time in force GTD")
    if spec.time_in_force is not TimeInForce.GTD and spec.good_till_time is not None:
        found.add("good_till_time", f"is not taken with the time in force {spec.time_in_force}; GTD takes it")
    for name in ("good_till_time", "good_after_time"):
        moment: datetime | None = getattr(spec, name)
        if moment is not None and moment.microsecond:
            found.add(name, "has a part of a second; IBKR takes whole ones")
    if spec.good_till_time and spec.good_after_time and spec.good_till_time <= spec.good_after_time:
        found.add("good_till_time", f"{spec.good_till_time} is not after good_after_time {spec.good_after_time}")


def _check_group(spec: OrderSpec, found: Violations) -> None:
    group, is_bracket = spec.oca_group, spec.order_type is OrderType.BRACKET
    if len(group) > 64 or not group.isascii() or not (group.isprintable() or not group):
        found.add("oca_group", "must be at most 64 printable ASCII characters")
    if group and is_bracket:
        found.add("oca_group", "is not taken by a BRACKET order, whose exits are a group of their own; leave it out")
    if spec.oca_type is not None and not group and not is_bracket:
        found.add("oca_type", "says what happens in an oca_group, and none is given")


def _check_display(spec: OrderSpec, found: Violations) -> None:
    is_limited = spec.order_type in _DISPLAYED or spec.limit_price is not None
    for name in ("hidden", "display_size"):
        if getattr(spec, name) and not is_limited:
            found.add(name, f"is not taken by a {spec.order_type} order, which no book shows; leave it out")
    if spec.hidden and spec.display_size:
        found.add("display_size", f"{spec.display_size} units cannot be displayed of a hidden order")
    elif spec.display_size < 0:
        found.add("display_size", f"{spec.display_size} is negative; 0 displays all")
    elif spec.quantity.is_finite() and 0 < spec.quantity < spec.display_size:
        found.add("display_size", f"{spec.display_size} is more than the quantity {spec.quantity:f}")
