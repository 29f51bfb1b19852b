"""What live gateways do one way or the other, by version or by setting."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field

MIN_CLIENT_VERSION = 157
# From 201 on the protocol is protobuf; every client negotiates down to text.
MAX_SERVER_VERSION = 200


@dataclass(frozen=True, slots=True)
class Behaviour:
    """The habits of one simulated gateway."""

    max_version: int = MAX_SERVER_VERSION
    """Highest server version it agrees to, 157 to 200."""

    acknowledge_s: float = 0.005
    """Seconds from an order's arrival to its acknowledgement, as on a nearby live gateway."""

    exchange_s: float = 0.02
    """Seconds from there to the exchange's word."""

    always_open: bool = True
    """True: the market trades around the clock, so that it moves whenever someone looks. False: it has the exchanges'
    hours and holidays."""

    enforces_pacing: bool = False
    """True: more than 50 messages in a second end the connection with error 100. False: they are taken, as by a gateway
    that is set to pace its clients instead."""

    cancels_across_clients: bool = True
    """True: a client may cancel another's order by its id, as captured on a paper gateway in 2026. False: own orders
    only, as IBKR documents it."""

    previews_twice: bool = False
    """True: a what-if is answered by a first openOrder without figures and a second one with them, as some gateways
    do."""

    base_currencies: Mapping[str, str] = field(default_factory=dict)
    """By account, the currency that its totals are stated in, where that is not USD. It must be of a listed pair."""

    presets_tif: bool = False
    """True: an order without a time in force is taken as DAY with warning 10349, as by gateways since late 2025."""

    hard_to_borrow: frozenset[str] = frozenset()
    """Symbols whose short sales are held with 404 until shares are located."""

    locate_s: float = 5.0
    """Seconds until they are."""

    not_allowed: frozenset[str] = frozenset()
    """Symbols that the account may not trade: orders are refused with 203."""
