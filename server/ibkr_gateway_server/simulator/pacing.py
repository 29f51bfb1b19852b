"""How fast a client may ask: messages in a second, historical and real-time bars, ticks one by one.

Source: TWS API, error 100 and "Historical data limitations": for bars of 30 seconds or less no identical request within
15 seconds, fewer than six for the same contract, exchange and kind within 2 seconds, and no more than 60 within ten
minutes, where BID_ASK counts twice; no more than 50 open at a time. Real-time bars: 60 new ones within ten minutes.
Tick-by-tick data: one request for an instrument within 15 seconds.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Sequence

MESSAGES_PER_SECOND = 50
MAX_OPEN = 50
IDENTICAL_S = 15.0
SAME, SAME_S = 6, 2.0
REQUESTS, REQUESTS_S = 60, 600.0
SMALL_BARS = frozenset({"1 secs", "5 secs", "10 secs", "15 secs", "30 secs"})

REAL_TIME_BARS, REAL_TIME_BARS_S = 60, 600.0
TICKS_S = 15.0

# Where reqHistoricalData's fields stand behind its request id. Source: the public clients' encoders.
_CONTRACT, _EXCHANGE, _SIZE, _SHOWN = slice(0, 12), 7, 14, 17


class MessagePace:
    """Messages of one connection."""

    def __init__(self) -> None:
        self._arrivals: deque[float] = deque(maxlen=MESSAGES_PER_SECOND + 1)

    def is_too_fast(self, now: float) -> bool:
        """Whether this message is one too many within a second."""
        self._arrivals.append(now)
        return len(self._arrivals) > MESSAGES_PER_SECOND and now - self._arrivals[0] < 1.0

    @property
    def count(self) -> int:
        """Messages of the last second, at most one too many."""
        return len(self._arrivals)


class HistoryPace:
    """Requests for historical bars of one login."""

    def __init__(self) -> None:
        self._taken: deque[tuple[float, tuple[str, ...], tuple[str, ...], int]] = deque()

    def refuses(self, fields: Sequence[str], now: float, open_count: int) -> bool:
        """Whether a request violates the rules; one that does not is counted. `fields` begin behind the request id."""
        if open_count >= MAX_OPEN:
            return True
        if len(fields) <= _SHOWN or fields[_SIZE] not in SMALL_BARS:
            return False
        while self._taken and now - self._taken[0][0] >= REQUESTS_S:
            self._taken.popleft()
        weight = 2 if fields[_SHOWN] == "BID_ASK" else 1
        request = tuple(fields)
        same = (*fields[_CONTRACT], fields[_EXCHANGE], fields[_SHOWN])
        recent = [each for each in self._taken if now - each[0] < IDENTICAL_S]
        if any(each[1] == request for each in recent):
            return True
        if sum(each[2] == same and now - each[0] < SAME_S for each in recent) >= SAME - 1:
            return True
        if sum(each[3] for each in self._taken) + weight > REQUESTS:
            return True
        self._taken.append((now, request, same, weight))
        return False


class RealTimeBarPace:
    """Requests for real-time bars of one login."""

    def __init__(self) -> None:
        self._taken: deque[float] = deque()

    def refuses(self, now: float) -> bool:
        """Whether a request violates the rule; one that does not is counted."""
        while self._taken and now - self._taken[0] >= REAL_TIME_BARS_S:
            self._taken.popleft()
        if len(self._taken) >= REAL_TIME_BARS:
            return True
        self._taken.append(now)
        return False


class TickPace:
    """Requests for tick-by-tick data of one login."""

    def __init__(self) -> None:
        self._asked: dict[tuple[str, ...], float] = {}

    def refuses(self, fields: Sequence[str], now: float) -> bool:
        """Whether a request violates the rule. `fields` begin behind the request id."""
        contract = tuple(fields[_CONTRACT])
        before, self._asked[contract] = self._asked.get(contract), now
        return before is not None and now - before < TICKS_S
