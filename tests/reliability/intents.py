"""What somebody wants of the gateway: orders with keys of their own, and changes; and what the gateway says of them."""

from __future__ import annotations

import random
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field, replace
from decimal import Decimal
from typing import Any

from ibkr_gateway_server.domain.instruments import Instrument, SecurityType
from ibkr_gateway_server.domain.orders import (
    LegRole,
    OcaType,
    OrderKey,
    OrderSpec,
    OrderType,
    Side,
    TimeInForce,
)
from ibkr_gateway_server.domain.orders import Order as KnownOrder

SYMBOLS = ("AAPL", "MSFT")
CENT = Decimal("0.01")
# Of the larger ones some fill in parts: few hundred shares are shown at each price.
QUANTITIES = (1, 10, 100, 700, 2500, 6000, 6000)

# The shares of all intents: a bracket is three orders, and takes as long as three.
BRACKETS, GROUPS, WAITING = 0.18, 0.07, 0.15

Price = Callable[[str], float]


@dataclass(slots=True)
class Intent:
    """One order that a caller wants, a bracket or one of a group perhaps, and what it has been told of it."""

    key: str
    spec: OrderSpec
    changes: dict[str, OrderSpec] = field(default_factory=dict)
    """What the caller has asked for later, by modify_id; no two of the same terms."""
    is_acknowledged: bool = False
    """An answer has named its state, so it must never be forgotten."""
    is_cancel_asked: bool = False
    answers: list[str] = field(default_factory=list)

    @property
    def may_rest(self) -> bool:
        """Whether it can be at the broker for long enough to be changed."""
        return self.spec.order_type is not OrderType.MKT and self.spec.time_in_force in (
            TimeInForce.DAY,
            TimeInForce.GTC,
        )

    @property
    def roles(self) -> tuple[LegRole, ...]:
        """The orders that it is at the broker."""
        return tuple(LegRole) if self.spec.order_type is OrderType.BRACKET else (LegRole.ENTRY,)


@dataclass(frozen=True, slots=True)
class Word:
    """What the gateway says of its orders: the orderRef of a leg, and the order, or OrderNotFound."""

    order_ref: Callable[[str, LegRole], str]
    order: Callable[[OrderKey], KnownOrder]


def leg_name(key: str, role: LegRole | None) -> str:
    """A leg in words: the entry has the name of its order."""
    return key if role in (None, LegRole.ENTRY) else f"{key} {role}"


def intents_of(name: str, price: Price, chance: random.Random, count: int) -> list[Intent]:
    """What somebody may want who knows market and limit orders, with keys of its own."""
    return [Intent(_key(name, number), _plain(price, chance)) for number in range(count)]


def all_kinds_of(name: str, price: Price, chance: random.Random, count: int) -> list[Intent]:
    """Orders of every kind: brackets, groups of which one cancels or reduces the others, and what waits for a price."""
    specs: list[OrderSpec] = []
    while len(specs) < count:
        kind = chance.random()
        if kind < BRACKETS:
            specs.append(_bracket(price, chance))
        elif kind < BRACKETS + GROUPS:
            specs += _group(f"{name}-{len(specs)}", price, chance)
        elif kind < BRACKETS + GROUPS + WAITING:
            specs.append(_waiting(price, chance))
        else:
            specs.append(_plain(price, chance))
    return [Intent(_key(name, number), spec) for number, spec in enumerate(specs[:count])]


def change_of(intent: Intent, chance: random.Random) -> str:
    """Have the caller want something else of its order. Returns the modify_id.

    Every change differs from all others by some cents or shares, so that the broker's terms say which of them it has.
    """
    number = len(intent.changes) + 1
    modify_id, spec = f"{intent.key}-m{number}", intent.spec
    prices = [name for name in _CHANGED_PRICES if getattr(spec, name) is not None]
    wanted: dict[str, Any] = {}
    if prices and chance.random() < 0.7:
        name = chance.choice(prices)
        price: Decimal = getattr(spec, name)
        away = chance.choice((Decimal(0), Decimal(0), Decimal("0.002"), Decimal("-0.002")))
        # Exits stay on their sides of the entry by more than this.
        wanted[name] = (price * (1 + away)).quantize(CENT) + number * CENT
    if not wanted or chance.random() < 0.4:
        wanted["quantity"] = max(spec.quantity * chance.choice((1, 2, 3)) // 2, Decimal(1)) + number
    intent.changes[modify_id] = replace(spec, **wanted)
    return modify_id


_CHANGED_PRICES = ("limit_price", "stop_price", "take_profit_price", "stop_loss_price")


def _key(name: str, number: int) -> str:
    return f"{name}-{number:04d}"


def _plain(price_of: Price, chance: random.Random) -> OrderSpec:
    symbol, side, price = _side_and_price(price_of, chance)
    away = Decimal(1 if side is Side.SELL else -1)
    kind = chance.choice(("market", "near", "near", "far", "far", "through", "through"))
    distance = {"near": Decimal("0.0005"), "far": Decimal("0.2"), "through": Decimal("-0.002")}.get(kind)
    limit = None if distance is None else (price * (1 + away * distance)).quantize(CENT)
    return OrderSpec(
        instrument=_stock(symbol),
        side=side,
        quantity=Decimal(chance.choice(QUANTITIES)),
        order_type=OrderType.MKT if limit is None else OrderType.LMT,
        limit_price=limit,
        time_in_force=chance.choice(
            (TimeInForce.DAY, TimeInForce.DAY, TimeInForce.GTC, TimeInForce.IOC, TimeInForce.FOK)
        ),
    )


def _bracket(price_of: Price, chance: random.Random) -> OrderSpec:
    """Of some the entry fills at once, so that the exits are live; of some an exit fills when the price moves."""
    symbol, side, price = _side_and_price(price_of, chance)
    toward = Decimal(1 if side is Side.BUY else -1)
    entry = chance.choice((None, Decimal("0.002"), Decimal("0.002"), Decimal("-0.001"), Decimal("-0.2")))
    limit = None if entry is None else (price * (1 + toward * entry)).quantize(CENT)
    base = price if limit is None else limit
    near, far = Decimal("0.004"), Decimal("0.3")
    profit, loss = chance.choice(((near, near), (near, far), (far, near), (far, far)))
    stop = (base * (1 - toward * loss)).quantize(CENT)
    return OrderSpec(
        instrument=_stock(symbol),
        side=side,
        quantity=Decimal(chance.choice(QUANTITIES)),
        order_type=OrderType.BRACKET,
        limit_price=limit,
        take_profit_price=(base * (1 + toward * profit)).quantize(CENT),
        stop_loss_price=stop,
        stop_loss_limit_price=stop - toward if chance.random() < 0.3 else None,
        time_in_force=chance.choice((TimeInForce.DAY, TimeInForce.GTC)),
    )


def _group(name: str, price_of: Price, chance: random.Random) -> Sequence[OrderSpec]:
    """Two or three that belong together."""
    oca_type = chance.choice((OcaType.CANCEL_WITH_BLOCK, OcaType.CANCEL_WITH_BLOCK, *OcaType))
    specs = [_plain(price_of, chance) for _ in range(chance.choice((2, 3)))]
    times = (TimeInForce.DAY, TimeInForce.GTC)
    return [replace(spec, oca_group=name, oca_type=oca_type, time_in_force=chance.choice(times)) for spec in specs]


def _waiting(price_of: Price, chance: random.Random) -> OrderSpec:
    """One of the types that wait for a price, or follow it."""
    symbol, side, price = _side_and_price(price_of, chance)
    kind = chance.choice(
        (
            *(OrderType.STP, OrderType.STP_LMT, OrderType.TRAIL, OrderType.TRAIL_LIMIT),
            *(OrderType.MIT, OrderType.LIT, OrderType.REL),
        )
    )
    # A stop is beyond the price, a touch on this side of it.
    beyond = Decimal(1 if (side is Side.BUY) == (kind in (OrderType.STP, OrderType.STP_LMT)) else -1)
    trigger = (price * (1 + beyond * chance.choice((Decimal("0.003"), Decimal("0.02"))))).quantize(CENT)
    worse = Decimal(1 if side is Side.BUY else -1)
    prices: dict[OrderType, dict[str, Decimal]] = {
        OrderType.STP: {"stop_price": trigger},
        OrderType.MIT: {"stop_price": trigger},
        OrderType.STP_LMT: {"stop_price": trigger, "limit_price": trigger + worse},
        OrderType.LIT: {"stop_price": trigger, "limit_price": trigger + worse},
        OrderType.TRAIL: chance.choice(({"trailing_amount": Decimal("2.50")}, {"trailing_percent": Decimal("1.5")})),
        OrderType.TRAIL_LIMIT: {"trailing_amount": Decimal("2.50"), "limit_offset": Decimal("0.10")},
        OrderType.REL: {"limit_offset": Decimal("0.02")},
    }
    return OrderSpec(
        instrument=_stock(symbol),
        side=side,
        quantity=Decimal(chance.choice(QUANTITIES)),
        order_type=kind,
        time_in_force=chance.choice((TimeInForce.DAY, TimeInForce.GTC)),
        **prices[kind],  # type: ignore[arg-type]
    )


def _side_and_price(price_of: Price, chance: random.Random) -> tuple[str, Side, Decimal]:
    symbol = chance.choice(SYMBOLS)
    return symbol, chance.choice((Side.BUY, Side.SELL)), Decimal(str(round(price_of(symbol), 2)))


def _stock(symbol: str) -> Instrument:
    return Instrument(symbol=symbol, security_type=SecurityType.STK)
