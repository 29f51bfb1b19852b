"""How many orders a model may have a person asked about: so many a minute, so many a day."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from datetime import datetime, timedelta

from ibkr_gateway_mcp.options import Limits
from ibkr_gateway_mcp.refusals import Refusal

MINUTE, DAY = timedelta(minutes=1), timedelta(days=1)


class Budget:
    """Counts by key, so that the same order counts once however often it is called for."""

    def __init__(self, limits: Limits, now: Callable[[], datetime]) -> None:
        self._limits = limits
        self._now = now
        self._taken: dict[str, datetime] = {}

    def remember(self, taken: Iterable[tuple[str, datetime]]) -> None:
        """Count what was taken before this process began."""
        for key, moment in taken:
            self._taken.setdefault(key, moment)

    def take(self, key: str) -> None:
        """Raises Refusal(ORDER_RATE) when nothing is left; then nothing is counted."""
        now = self._now()
        self._taken = {kept: moment for kept, moment in self._taken.items() if now - moment < DAY}
        if key in self._taken:
            return
        for span, limit, words in (
            (MINUTE, self._limits.per_minute, "a minute"),
            (DAY, self._limits.per_day, "a day"),
        ):
            within = sorted(moment for moment in self._taken.values() if now - moment < span)
            if len(within) >= limit:
                free_at = within[len(within) - limit] + span if limit else now + span
                wait_s = max(1, round((free_at - now).total_seconds()))
                raise Refusal(
                    "ORDER_RATE",
                    f"this adapter asks about at most {limit} orders {words}; nothing was sent",
                    limit=str(limit),
                    retry_after_s=str(wait_s),
                )
        self._taken[key] = now
