"""How long to wait before the next attempt, and when a loss has lasted too long to be borne in silence."""

from __future__ import annotations

import random
from collections.abc import Callable
from datetime import datetime, timedelta

from ibkr_gateway_server.broker.timings import SessionTimings
from ibkr_gateway_server.domain.restarts import RestartWindows


class Backoff:
    """Full jitter: random below a limit that doubles with each attempt, but never less than the floor."""

    def __init__(self, timings: SessionTimings, jitter: random.Random) -> None:
        self._timings = timings
        self._jitter = jitter
        self.limit_s = timings.first_backoff_s
        """Most that the next wait may be, before any cap."""

    def reset(self) -> None:
        """The last connection was settled: the next loss is a new one."""
        self.limit_s = self._timings.first_backoff_s

    def next_s(self, *, is_restarting: bool = False) -> float:
        """Seconds to wait now. While TWS restarts as planned there is no hurry."""
        timings = self._timings
        cap_s = timings.restart_backoff_limit_s if is_restarting else timings.backoff_limit_s
        floor_s, limit_s = timings.backoff_floor_s, min(self.limit_s, cap_s)
        self.limit_s = min(self.limit_s * 2, cap_s)
        return self._jitter.uniform(floor_s, max(floor_s, limit_s))


class Absence:
    """Since when IBKR cannot be reached, and whether that is more than a planned restart takes."""

    def __init__(self, windows: RestartWindows, alarm_after_s: float, now: Callable[[], datetime]) -> None:
        self._windows = windows
        self._alarm_after = timedelta(seconds=alarm_after_s)
        self._now = now
        self.since: datetime | None = now()
        """None while IBKR can be reached."""
        self._is_alarmed = False

    @property
    def is_planned_now(self) -> bool:
        """True within a planned restart."""
        return self._windows.around(self._now()) is not None

    @property
    def is_planned(self) -> bool:
        """True within a planned restart, and after it until IBKR is back."""
        return self.is_planned_now or (self.since is not None and self._windows.around(self.since) is not None)

    def begin(self) -> None:
        """IBKR is lost; of several losses without a return the first counts."""
        if self.since is None:
            self.since = self._now()

    def end(self) -> None:
        """It is back."""
        self.since, self._is_alarmed = None, False

    def is_alarm(self) -> bool:
        """Whether it has now lasted too long, counted from the end of a planned restart it began in. True once."""
        if self.since is None or self._is_alarmed or self.is_planned_now:
            return False
        window = self._windows.around(self.since)
        self._is_alarmed = self._now() - (window.end if window is not None else self.since) > self._alarm_after
        return self._is_alarmed
