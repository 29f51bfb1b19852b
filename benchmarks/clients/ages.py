"""How old ticks are when they reach a reader, by the time that the firehose has put into their price."""

from __future__ import annotations

import time
from array import array

# What a line began with before the firehose: a price, and no time.
OLDEST_S = 60.0


class Ages:
    """The ages of what has been read since `begin`, and the number of updates and of those they replaced."""

    def __init__(self) -> None:
        self._ages = array("d")
        self._is_counting = False
        self.updates = 0
        self.conflated = 0

    def begin(self) -> None:
        """Count from now on; the harness waits for this line."""
        self._is_counting = True
        print("begin", flush=True)

    def add(self, bid: float, conflated: int = 0) -> None:
        """One update, by its bid."""
        age = time.monotonic() - bid
        if self._is_counting and 0.0 <= age < OLDEST_S:
            self.updates += 1
            self.conflated += conflated
            self._ages.append(age)

    def end(self) -> dict[str, float]:
        """What was counted; ages in milliseconds."""
        self._is_counting = False
        ages = sorted(self._ages) or [float("nan")]
        count = len(ages)
        return {
            "updates": self.updates,
            "conflated": self.conflated,
            "p50": ages[count // 2] * 1e3,
            "p99": ages[min(count * 99 // 100, count - 1)] * 1e3,
            "max": ages[-1] * 1e3,
        }
