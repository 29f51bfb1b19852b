"""What TWS says of itself: its link to IBKR, IBKR's data farms, and everything else that speaks of no request."""

from __future__ import annotations

import logging
from collections.abc import Callable
from dataclasses import dataclass

from ibkr_gateway_server.domain.sessions import Farm
from ibkr_gateway_server.domain.tallies import FARM_IS_OK, Tallies

log = logging.getLogger(__name__)

# Source: TWS API, message codes: 1100 and 2110 lost, 1101 restored with data lost, 1102 restored with data kept.
LINK_LOST = frozenset({1100, 2110})
LINK_RESTORED = frozenset({1101, 1102})
FARM_OK = frozenset({2104, 2106, 2158})
FARM_IDLE = frozenset({2107, 2108})
FARM_BROKEN = frozenset({2103, 2105, 2157})
ABOUT_FARMS = FARM_OK | FARM_IDLE | FARM_BROKEN
CLIENT_ID_IN_USE = 326
PORT_CHANGED = 1300
TOO_FAST = 100

# The same notice is logged once in this time; TWS repeats some of them by the hundred.
QUIET_S = 60.0


class Farms:
    """IBKR's data farms, as the current connection has spoken of them."""

    def __init__(self, tallies: Tallies) -> None:
        self._tallies = tallies
        self._by_name: dict[str, Farm] = {}

    def note(self, code: int, text: str) -> None:
        """Take a notice; farms are named at its end: "…is OK:usfarm", and for 2107 "…upon demand.ushmds"."""
        name = text.replace(":", ".").rpartition(".")[2].strip()
        self._by_name[name] = Farm(name, code, code not in FARM_BROKEN)
        self._tallies.set(FARM_IS_OK, float(code not in FARM_BROKEN), name)

    def forget(self) -> None:
        """The connection has ended: nothing is known of any."""
        for name in self._by_name:
            self._tallies.set(FARM_IS_OK, 0.0, name)
        self._by_name.clear()

    def all(self) -> tuple[Farm, ...]:
        """Every one that was spoken of."""
        return tuple(self._by_name.values())

    def broken(self) -> list[str]:
        """The names of those that are down."""
        return sorted(farm.name for farm in self._by_name.values() if not farm.is_ok)


@dataclass(slots=True)
class _Told:
    at: float
    repeated: int = 0


class NoticeLog:
    """Logs notices; of the same one only the first in a minute, and how often it came in between."""

    def __init__(self, clock: Callable[[], float]) -> None:
        self._clock = clock
        self._told: dict[tuple[int, str], _Told] = {}

    def note(self, code: int, text: str) -> None:
        """Log it, unless it was just logged."""
        now, key = self._clock(), (code, text[:200])
        told = self._told.get(key)
        if told is not None and now - told.at < QUIET_S:
            told.repeated += 1
            return
        if len(self._told) > 100:
            self._told = {kept: each for kept, each in self._told.items() if now - each.at < QUIET_S}
        extra: dict[str, object] = {"ibkr_code": code, "text": text}
        if told is not None and told.repeated:
            extra["repeated"] = told.repeated
        log.info("TWS notice", extra=extra)
        self._told[key] = _Told(now)
