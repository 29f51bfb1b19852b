"""What somebody wants of the gateway: orders with keys of their own; and what the gateway says of them."""

from __future__ import annotations

import random
from collections.abc import Callable
from dataclasses import dataclass, field
from decimal import Decimal

from ibkr_gateway_server.domain.instruments import Instrument, SecurityType
from ibkr_gateway_server.domain.orders import Order as KnownOrder
from ibkr_gateway_server.domain.orders import OrderKey, OrderSpec, OrderType, Side, TimeInForce

SYMBOLS = ("AAPL", "MSFT")
_TIMES = (
    *(TimeInForce.DAY, TimeInForce.DAY, TimeInForce.DAY, TimeInForce.GTC),
    *(TimeInForce.IOC, TimeInForce.IOC, TimeInForce.FOK),
)


@dataclass(slots=True)
class Intent:
    """One order that a caller wants, and what it has been told of it."""

    key: str
    spec: OrderSpec
    is_acknowledged: bool = False
    """An answer has named its state, so it must never be forgotten."""
    is_cancel_asked: bool = False
    answers: list[str] = field(default_factory=list)


@dataclass(frozen=True, slots=True)
class Word:
    """What the gateway says of its orders: the orderRef of a key, and the order, or OrderNotFound."""

    order_ref: Callable[[str], str]
    order: Callable[[OrderKey], KnownOrder]


def intents_of(name: str, price: Callable[[str], float], chance: random.Random, count: int) -> list[Intent]:
    """What somebody may want, with keys of its own."""
    return [Intent(f"{name}-{number:04d}", _spec(price, chance)) for number in range(count)]


def _spec(price_of: Callable[[str], float], chance: random.Random) -> OrderSpec:
    symbol = chance.choice(SYMBOLS)
    price = Decimal(str(round(price_of(symbol), 2)))
    side = chance.choice((Side.BUY, Side.SELL))
    away = Decimal(1 if side is Side.SELL else -1)
    kind, far = chance.choice(("market", "near", "near", "far", "far", "through", "through")), Decimal("0.2")
    distance = {"near": Decimal("0.0005"), "far": far, "through": Decimal("-0.002")}.get(kind)
    limit = None if distance is None else (price * (1 + away * distance)).quantize(Decimal("0.01"))
    return OrderSpec(
        instrument=Instrument(symbol=symbol, security_type=SecurityType.STK),
        side=side,
        # Of the larger ones some fill in parts: few hundred shares are shown at each price.
        quantity=Decimal(chance.choice((1, 10, 100, 700, 2500, 6000, 6000))),
        order_type=OrderType.MKT if limit is None else OrderType.LMT,
        limit_price=limit,
        time_in_force=chance.choice(
            (TimeInForce.DAY, TimeInForce.DAY, TimeInForce.GTC, TimeInForce.IOC, TimeInForce.FOK)
        ),
    )
