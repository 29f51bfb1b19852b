"""What the gateway has lost: its link to IBKR, single farms, the right time.

Source of the notices: TWS API, message codes. Which requests a gateway without a link still answers is a guess: those
about what it holds itself.
"""

from __future__ import annotations

from ibkr_gateway_server.simulator.feeds.bars import LiveBars, RealTimeBars
from ibkr_gateway_server.simulator.feeds.depth import Depth
from ibkr_gateway_server.simulator.feeds.news import Headlines
from ibkr_gateway_server.simulator.feeds.quotes import Quotes
from ibkr_gateway_server.simulator.feeds.registry import Feed
from ibkr_gateway_server.simulator.feeds.ticks import TickByTick

LOST = (1100, "Connectivity between IB and Trader Workstation has been lost.")
DATA_LOST = (1101, "Connectivity between IB and Trader Workstation has been restored - data lost.")
DATA_KEPT = (1102, "Connectivity between IB and Trader Workstation has been restored - data maintained.")
SERVER_BROKEN = (
    2110,
    "Connectivity between Trader Workstation and server is broken. It will be restored automatically.",
)

# By farm: its name, and the codes and texts of its being up, broken and inactive.
_NAMES = {"market": "usfarm", "history": "ushmds", "contracts": "secdefnj"}
_OK = {
    "market": (2104, "Market data farm connection is OK:"),
    "history": (2106, "HMDS data farm connection is OK:"),
    "contracts": (2158, "Sec-def data farm connection is OK:"),
}
_BROKEN = {
    "market": (2103, "Market data farm connection is broken:"),
    "history": (2105, "HMDS data farm connection is broken:"),
    "contracts": (2157, "Sec-def data farm connection is broken:"),
}
_INACTIVE = {
    "market": (2108, "Market data farm connection is inactive but should be available upon demand."),
    "history": (2107, "HMDS data farm connection is inactive but should be available upon demand."),
    # There is no such notice: it is never inactive.
    "contracts": (2158, "Sec-def data farm connection is OK:"),
}
_CONNECTING = (2119, "Market data farm is connecting:")

# Subscriptions that a restored link without data has lost.
MARKET_DATA: tuple[type[Feed], ...] = (Quotes, RealTimeBars, LiveBars, Depth, TickByTick, Headlines)
# What they tell has passed when it is silent; others tell the state they come back to.
PASSING: frozenset[type[Feed]] = frozenset({TickByTick, RealTimeBars, Headlines})

# Requests by the farm that answers them.
_REQUESTS = {
    "market": frozenset({1, 10, 50, 97, 22, 54, 55}),
    "history": frozenset({20, 84, 86, 87, 88, 96}),
    "contracts": frozenset({9, 78, 81}),
}
# Requests that go to IBKR: orders, and all of the farms'.
_REMOTE = frozenset({3, 4, 21, 24, 52, 58, 100, 102}).union(*_REQUESTS.values())


class Outage:
    """What is lost now."""

    def __init__(self) -> None:
        self.link_is_lost = False
        self.live_is_elsewhere = False
        """Whether another login has the live market data."""
        self.skew_s = 0.0
        """How far the gateway's clock is told to be off."""
        self._farms: dict[str, tuple[int, str]] = dict(_OK)
        self._silent: set[str] = set()

    @property
    def is_any(self) -> bool:
        """Whether anything is silent."""
        return self.link_is_lost or bool(self._silent)

    def hears(self, message_id: int) -> bool:
        """Whether a request reaches who answers it."""
        if self.link_is_lost and message_id in _REMOTE:
            return False
        return not any(message_id in _REQUESTS[farm] for farm in self._silent)

    def silences(self, kind: type[Feed]) -> bool:
        """Whether a subscription of this kind is silent."""
        if self.link_is_lost:
            return True
        if kind is LiveBars:
            return "history" in self._silent
        return "market" in self._silent and kind in MARKET_DATA

    def farms(self) -> list[tuple[int, str]]:
        """How the farms are, as a gateway tells a client that starts."""
        return [self._named(farm, notice) for farm, notice in self._farms.items()]

    def break_farm(self, farm: str) -> tuple[int, str]:
        """It is down and silent. Returns the notice."""
        self._silent.add(farm)
        return self._set(farm, _BROKEN[farm])

    def connect_farm(self) -> tuple[int, str]:
        """The market's is on its way, and silent still. Returns the notice."""
        self._silent.add("market")
        return self._set("market", _CONNECTING)

    def rest_farm(self, farm: str) -> tuple[int, str]:
        """It sleeps, and works when it is asked. Returns the notice."""
        self._silent.discard(farm)
        return self._set(farm, _INACTIVE[farm])

    def mend_farm(self, farm: str) -> tuple[int, str]:
        """It is up. Returns the notice."""
        self._silent.discard(farm)
        return self._set(farm, _OK[farm])

    def _set(self, farm: str, notice: tuple[int, str]) -> tuple[int, str]:
        self._farms[farm] = notice
        return self._named(farm, notice)

    @staticmethod
    def _named(farm: str, notice: tuple[int, str]) -> tuple[int, str]:
        code, text = notice
        return code, text + _NAMES[farm]
