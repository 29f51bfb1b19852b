"""How much trades: units since the beginning of time, of which differences are the volumes of spans."""

from __future__ import annotations

from functools import lru_cache

from ibkr_gateway_server.simulator.listings import Listing
from ibkr_gateway_server.simulator.market.chance import mixed
from ibkr_gateway_server.simulator.market.path import QUOTES_PER_S

# Units traded in a second, on average and besides the one in every quarter of it. Indices and currencies have none.
_PER_S = {"STK": 300.0, "FUT": 8.0, "OPT": 0.0}


class Turnover:
    """Volumes that `seed` decides."""

    def __init__(self, seed: int) -> None:
        self._seed = seed

    @staticmethod
    def is_told_of(listing: Listing) -> bool:
        """Whether the contract's trades are told."""
        return listing.sec_type in _PER_S

    def between(self, listing: Listing, first: int, stop: int) -> int:
        """Units traded in the quarters of a second from `first` up to, not including, `stop`: in each at least one."""
        return self.until(listing, stop) - self.until(listing, first)

    def until(self, listing: Listing, slot: int) -> int:
        """Units traded since the beginning of time."""
        rate = _PER_S[listing.sec_type] * (1 + listing.con_id % 7)
        if not rate:
            return slot
        now = slot / QUOTES_PER_S
        # Busier and quieter minutes; the amplitudes keep the sum from ever falling.
        busy = 16 * self._smooth(listing.con_id, 64, now) + 68 * self._smooth(listing.con_id, 1024, now)
        return int(rate * (now + busy)) + slot

    def _smooth(self, number: int, span: int, now: float) -> float:
        """One layer of noise by itself, in [-1, 1)."""
        index, rest = divmod(now, span)
        part = rest / span
        before, after = (_noise(self._seed, number, span, int(index) + step) for step in (0, 1))
        return before + (after - before) * part * part * (3 - 2 * part)


@lru_cache(maxsize=1 << 14)
def _noise(seed: int, number: int, layer: int, index: int) -> float:
    """One point of a noise layer, in [-1, 1)."""
    return mixed(seed, number, layer, index) / 2**63 - 1
