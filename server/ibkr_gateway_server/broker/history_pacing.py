"""IBKR's pacing of historical bars: how many in ten minutes, how many of one kind in two seconds, how many at a time.

A request takes its place in the order in which it came. One whose turn comes before its caller's deadline waits for it;
one whose turn does not is refused at once, with the time after which it would be served; none of the two is sent.

Source: TWS API, historical data limitations. For bars of 30 seconds and less: 60 requests in 10 minutes (BID_ASK counts
twice), no identical one within 15 seconds, fewer than six of one contract, exchange and kind within 2 seconds. For
wider bars IBKR has lifted these limits and slows down whoever asks too much; the two of seconds are kept for them all
the same. At most 50 are open at a time. Two of the 60 are left for what other programs of the login ask.
"""

from __future__ import annotations

import asyncio
import math
from collections import deque
from collections.abc import Callable
from itertools import accumulate

from ibkr_gateway_server.broker.pacing import Pacer, Priority
from ibkr_gateway_server.domain.bars import BarSize, WhatToShow
from ibkr_gateway_server.domain.errors import PacingHistorical
from ibkr_gateway_server.domain.instruments import Instrument
from ibkr_gateway_server.domain.tallies import PACING_DEFERRED, PACING_VIOLATIONS, Tallies
from ibkr_gateway_server.domain.usage import Usage

REQUESTS_PER_WINDOW = 58
# IBKR counts by its own clock, when a request arrives: what is just allowed here may be just too soon there.
MARGIN_S = 0.2
WINDOW_S = 600.0 + MARGIN_S
IDENTICAL_S = 15.0 + MARGIN_S
SAME_KIND_PER_BURST = 5
BURST_S = 2.0 + MARGIN_S
IN_FLIGHT = 50
# Between two of one kind that wait, so that they keep their order.
ORDER_S = 0.001

SMALL_BARS = frozenset({BarSize.SEC_1, BarSize.SECS_5, BarSize.SECS_10, BarSize.SECS_15, BarSize.SECS_30})


def weight_of(size: BarSize, shown: WhatToShow | None) -> int:
    """What a request takes of the window's budget."""
    if size not in SMALL_BARS:
        return 0
    return 2 if shown is WhatToShow.BID_ASK else 1


Kind = tuple[int, str, WhatToShow | None]


def kind_of(instrument: Instrument, shown: WhatToShow | None) -> Kind:
    """What a few requests within two seconds must not have in common."""
    return instrument.con_id, instrument.exchange, shown


class HistoryPacing:
    """Gives requests their turns. `clock` is monotonic, in seconds."""

    def __init__(self, pacer: Pacer, clock: Callable[[], float], tallies: Tallies) -> None:
        self._pacer = pacer
        self._clock = clock
        self._tallies = tallies
        self._halved_until = -math.inf
        # When parts of the budget were taken, or will be by requests that wait; in this order.
        self._taken: deque[tuple[float, int]] = deque()
        # Of each contract and kind: when its last requests have their turns, and when they were sent.
        self._turns: dict[Kind, deque[float]] = {}
        self._sent: dict[Kind, deque[float]] = {}

    async def turn(self, kind: Kind, weight: int, timeout_s: float) -> None:
        """Returns when a request may be sent, at once. Raises PacingHistorical when that is not within its time."""
        now = self._clock()
        at = max(now, self._turn_of(kind, now), self._room_at(weight, now))
        if at > now:
            self._tallies.add(PACING_DEFERRED)
        if at - now > timeout_s:
            raise PacingHistorical(retry_after_s=_tenths(at - now))
        self._turns.setdefault(kind, deque(maxlen=SAME_KIND_PER_BURST)).append(at)
        self._take(at, weight)
        await asyncio.sleep(at - now)
        await self._message(kind, timeout_s)

    def spend(self, weight: int) -> None:
        """Take part of the budget for bars that somebody else asks for now. Raises PacingHistorical."""
        now = self._clock()
        at = self._room_at(weight, now)
        if at > now:
            self._tallies.add(PACING_DEFERRED)
            raise PacingHistorical(retry_after_s=_tenths(at - now))
        self._take(now, weight)

    def has_room(self, weight: int) -> bool:
        """Whether so much of the budget is left."""
        now = self._clock()
        return self._room_at(weight, now) <= now

    def has_turn(self, kind: Kind) -> bool:
        """Whether bars that somebody else asks for may be asked for now, after the last ones of their kind."""
        sent = self._sent.get(kind)
        return sent is None or len(sent) < SAME_KIND_PER_BURST or self._clock() - sent[0] >= BURST_S

    def note_sent(self, kind: Kind) -> None:
        """Somebody else has asked for bars of this kind."""
        self._sent.setdefault(kind, deque(maxlen=SAME_KIND_PER_BURST)).append(self._clock())

    def violated(self) -> None:
        """IBKR says that it was too much: other programs of the login ask as well. Half the budget, for as long as what
        they have asked counts."""
        self._tallies.add(PACING_VIOLATIONS, "162")
        self._halved_until = self._clock() + WINDOW_S

    def usage(self) -> Usage:
        """Requests of the last ten minutes, those for BID_ASK counted twice, and how many there may be."""
        now = self._clock()
        self._forget(now)
        return Usage("history", sum(weight for at, weight in self._taken if at <= now), self._limit(now), WINDOW_S)

    async def _message(self, kind: Kind, timeout_s: float) -> None:
        """Room for the message itself. One that has had to wait for it must not come too close to its successors."""
        while True:
            await self._pacer.take(Priority.HISTORY, timeout_s)
            sent, now = self._sent.setdefault(kind, deque(maxlen=SAME_KIND_PER_BURST)), self._clock()
            if len(sent) < SAME_KIND_PER_BURST or now - sent[0] >= BURST_S:
                sent.append(now)
                return
            await asyncio.sleep(sent[0] + BURST_S - now)

    def _turn_of(self, kind: Kind, now: float) -> float:
        """When the next request of this contract and kind has its turn."""
        for known in (self._turns, self._sent):
            for old in [each for each, times in known.items() if times and times[-1] <= now - BURST_S]:
                del known[old]
        turns = self._turns.get(kind)
        if turns is None:
            return now
        # Timers of one moment run in any order, so no two turns are at one.
        behind = turns[-1] + ORDER_S if turns[-1] > now else now
        return max(behind, turns[0] + BURST_S) if len(turns) == SAME_KIND_PER_BURST else behind

    def _room_at(self, weight: int, now: float) -> float:
        """When there is so much room in the budget, behind those that wait for it."""
        self._forget(now)
        excess = sum(taken for _, taken in self._taken) + weight - self._limit(now)
        if not weight or excess <= 0:
            return now
        freed = accumulate(taken for _, taken in self._taken)
        return next(at for (at, _), by_then in zip(self._taken, freed, strict=True) if by_then >= excess) + WINDOW_S

    def _take(self, at: float, weight: int) -> None:
        if weight:
            self._taken.append((max(at, self._taken[-1][0]) if self._taken else at, weight))

    def _limit(self, now: float) -> int:
        return REQUESTS_PER_WINDOW // 2 if now < self._halved_until else REQUESTS_PER_WINDOW

    def _forget(self, now: float) -> None:
        while self._taken and self._taken[0][0] <= now - WINDOW_S:
            self._taken.popleft()


def _tenths(seconds: float) -> float:
    """To tenths, and never less: who comes back after that time must not be too early."""
    return math.ceil(seconds * 10 - 1e-6) / 10
