"""Doubts: how long complete evidence must be silent about an order before anything is concluded from its silence.

"Not in the list" proves nothing by itself: an order can be accepted a minute and more after it was sent. So what was
never acknowledged is presumed never placed only when complete evidence sets, further apart than any lateness that has
been seen, do not name it, the last one twice, and TWS was connected and linked all that time. The word stays
*presumed*: should the order be seen later, it is what IBKR says, and an alarm. Nothing is sent again either way.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from dataclasses import dataclass, replace
from datetime import datetime
from zoneinfo import ZoneInfo

from ibkr_gateway_server.domain.events import Noted
from ibkr_gateway_server.domain.orders import OrderState
from ibkr_gateway_server.trading.conclusions import change_presumed_lost, signed
from ibkr_gateway_server.trading.entries import Change, Doubt, Entry
from ibkr_gateway_server.trading.transitions import Sign

# After long enough one more look decides, so much later: a row can come behind the end of its list.
LAST_LOOK_S = 2.0

# IBKR's lists are of the current day at its headquarters. Source: TWS API, reqExecutions. That completed orders are of
# the same day is a guess.
IBKR_ZONE = ZoneInfo("America/New_York")


@dataclass(frozen=True, slots=True)
class Patience:
    """How long to wait before concluding from silence, in seconds."""

    quarantine_s: float = 120.0
    """For an order that was never acknowledged, and for a change that IBKR does not show."""
    grace_s: float = 600.0
    """For an order that was acknowledged and is named no more."""


class Doubts:
    """Weighs complete evidence sets. `clock` is monotonic, in seconds."""

    def __init__(self, patience: Patience, clock: Callable[[], float]) -> None:
        self._patience = patience
        self._clock = clock
        self.watch = 0
        """Which unbroken time of connection and link this is."""

    def interrupt(self) -> None:
        """The connection or the link is lost: silence before it and after it do not add up."""
        self.watch += 1

    def next_s(self, entries: Iterable[Entry]) -> float | None:
        """Seconds until the next doubt may be settled; None: there is none, or it could have been and was not."""
        waits = [
            (doubt.since + limit_s if doubt.ripe_at is None else doubt.ripe_at + LAST_LOOK_S) - self._clock()
            for entry in entries
            for doubt, limit_s in self._of(entry)
            if doubt is not None and doubt.watch == self.watch
        ]
        return min((wait_s + 0.1 for wait_s in waits if wait_s > 0), default=None)

    def weigh(self, entry: Entry, is_listed: bool | None, now: datetime) -> list[Change]:
        """What a complete set says of an order that was open before it: True, it lists it as open; False, it names it
        otherwise; None, it does not name it."""
        if is_listed is None:
            return self._absent(entry, now)
        entry.doubt = None
        if not is_listed:
            return []
        return self._alone(entry, now) + self._unchanged(entry, now)

    @staticmethod
    def _alone(entry: Entry, now: datetime) -> list[Change]:
        """Of an order in conflict since an earlier life the other one is not there any more."""
        if entry.twins or entry.status.state is not OrderState.CONFLICT:
            return []
        return signed(entry, Sign.ALONE, now, recovered=True) + signed(entry, Sign.LISTED, now, recovered=True)

    def _absent(self, entry: Entry, now: datetime) -> list[Change]:
        changes = signed(entry, Sign.ABSENT, now, recovered=True)
        if entry.status.state is not OrderState.UNKNOWN:
            return changes
        entry.doubt = self._aged(entry.doubt, self._limit_s(entry))
        age_s = self._clock() - entry.doubt.since
        changes.append(Change(entry, Noted("reconcile.absent", {"since_s": round(age_s, 1)}), recovered=True))
        if self._is_settled(entry.doubt, self._limit_s(entry)) and not _is_kept_back(entry):
            # What was sent on an earlier day may have filled then, and no list of today's would say so.
            is_todays = _day(entry.status.create_time) == _day(now)
            sign = Sign.NEVER_PLACED if not entry.is_acknowledged and is_todays else Sign.GONE
            changes += signed(entry, sign, now, recovered=True)
        return changes

    def _unchanged(self, entry: Entry, now: datetime) -> list[Change]:
        """A change that a listing does not show may be on its way; after the quarantine it is not."""
        change = entry.change
        if change is None:
            return []
        change.doubt = self._aged(change.doubt, self._patience.quarantine_s)
        if not self._is_settled(change.doubt, self._patience.quarantine_s):
            return []
        return change_presumed_lost(entry, now)

    def _of(self, entry: Entry) -> list[tuple[Doubt | None, float]]:
        change = entry.change
        return [
            (entry.doubt, self._limit_s(entry)),
            (change.doubt if change is not None else None, self._patience.quarantine_s),
        ]

    def _limit_s(self, entry: Entry) -> float:
        return self._patience.grace_s if entry.is_acknowledged else self._patience.quarantine_s

    def _aged(self, doubt: Doubt | None, limit_s: float) -> Doubt:
        """The doubt after one more silent set: a new one where it has not lasted without a break."""
        if doubt is None or doubt.watch != self.watch:
            return Doubt(self._clock(), self.watch)
        if doubt.ripe_at is None and self._clock() - doubt.since >= limit_s:
            return replace(doubt, ripe_at=self._clock())
        return doubt

    def _is_settled(self, doubt: Doubt, limit_s: float) -> bool:
        return doubt.ripe_at is not None and self._clock() - doubt.ripe_at >= min(LAST_LOOK_S, limit_s)


def _is_kept_back(entry: Entry) -> bool:
    """Whether TWS says nothing of the order for as long as nobody transmits it there."""
    return entry.intent is not None and entry.intent.is_staged and not entry.is_acknowledged


def _day(moment: datetime) -> str:
    return moment.astimezone(IBKR_ZONE).date().isoformat()
