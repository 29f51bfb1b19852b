"""How often a model may have a person asked: so many times a minute, so many times a day."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from datetime import datetime, timedelta

from ibkr_gateway_mcp.options import Limits
from ibkr_gateway_mcp.refusals import Refusal

MINUTE, DAY = timedelta(minutes=1), timedelta(days=1)


class Budget:
    """Counts questions, whatever they are answered: who is asked without end says yes in the end."""

    def __init__(self, limits: Limits, now: Callable[[], datetime]) -> None:
        self._limits = limits
        self._now = now
        self._taken: list[datetime] = []

    def remember(self, taken: Iterable[datetime]) -> None:
        """Count what was taken before this process began."""
        self._taken += taken

    def take(self) -> None:
        """Raises Refusal(ORDER_RATE) when nothing is left; then nothing is counted."""
        now = self._now()
        self._taken = sorted(moment for moment in self._taken if now - moment < DAY)
        for span, limit, words in (
            (MINUTE, self._limits.per_minute, "a minute"),
            (DAY, self._limits.per_day, "a day"),
        ):
            within = [moment for moment in self._taken if now - moment < span]
            if len(within) >= limit:
                free_at = within[-limit] + span if limit else now + span
                raise Refusal(
                    "ORDER_RATE",
                    f"this adapter asks a person at most {limit} times {words}; nothing was sent",
                    limit=str(limit),
                    retry_after_s=str(max(1, round((free_at - now).total_seconds()))),
                )
        self._taken.append(now)
