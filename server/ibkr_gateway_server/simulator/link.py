"""The gateway's own connections to IBKR: the link to its servers, and the farms that serve its data.

A client's socket stays open while these are lost. What a live gateway then does with an order that arrives is not
captured anywhere; here it is lost with the link, without a word, which is the worst that a client must be ready for.
"""

from __future__ import annotations

from enum import Enum

# Requests that IBKR's servers answer, not the gateway itself: market data, contracts, history, orders, scans, news.
UPSTREAM = frozenset({1, 3, 4, 9, 10, 20, 22, 24, 50, 54, 55, 58, 78, 81, 82, 83, 84, 86, 87, 88, 91, 96, 97})


class Farm(Enum):
    """A data farm: its name, and the codes of its being lost, found, idle."""

    MARKET_DATA = ("usfarm", 2103, 2104, 2108)
    HISTORICAL = ("ushmds", 2105, 2106, 2107)
    DEFINITIONS = ("secdefnj", 2157, 2158, 2158)

    @property
    def title(self) -> str:
        """As notices spell it."""
        return self.value[0]

    @property
    def serves(self) -> frozenset[int]:
        """The requests that it answers."""
        return _SERVED[self]

    def lost(self) -> tuple[int, str]:
        """The notice of its loss."""
        return self.value[1], f"{_KINDS[self]} farm connection is broken:{self.title}"

    def found(self) -> tuple[int, str]:
        """The notice that it is there."""
        return self.value[2], f"{_KINDS[self]} farm connection is OK:{self.title}"

    def idle(self) -> tuple[int, str]:
        """The notice that it rests."""
        text = "farm connection is inactive but should be available upon demand."
        return self.value[3], f"{_KINDS[self]} {text}{self.title}"


_KINDS = {Farm.MARKET_DATA: "Market data", Farm.HISTORICAL: "HMDS data", Farm.DEFINITIONS: "Sec-def data"}
_SERVED = {
    Farm.MARKET_DATA: frozenset({1, 10, 50, 97}),
    Farm.HISTORICAL: frozenset({20, 87, 88, 96}),
    Farm.DEFINITIONS: frozenset({9, 78, 81}),
}

LOST = (1100, "Connectivity between IB and Trader Workstation has been lost.")
LOST_TO_SERVER = (
    2110,
    "Connectivity between Trader Workstation and server is broken. It will be restored automatically.",
)
RESTORED_WITHOUT_DATA = (
    1101,
    "Connectivity between IB and Trader Workstation has been restored - data lost.",
)
RESTORED = (1102, "Connectivity between IB and Trader Workstation has been restored - data maintained.")


class Link:
    """What of the way to IBKR is there."""

    def __init__(self) -> None:
        self.is_up = True
        self.tells_orders = False
        """Whether callbacks of orders come through while the link is lost; otherwise they come when it is back."""
        self.lost_farms: set[Farm] = set()

    def answers(self, message_id: int) -> bool:
        """Whether a request is answered."""
        if not self.is_up and message_id in UPSTREAM:
            return False
        return all(message_id not in farm.serves or farm is Farm.MARKET_DATA for farm in self.lost_farms)

    @property
    def has_market_data(self) -> bool:
        """Whether ticks come."""
        return self.is_up and Farm.MARKET_DATA not in self.lost_farms

    @property
    def holds_orders(self) -> bool:
        """Whether callbacks of orders wait."""
        return not self.is_up and not self.tells_orders
