"""What is counted of the session with IBKR: the names, and the counts themselves.

Counting is an addition to a dictionary, so that the tick path can afford it; metrics read the counts when they are
asked for. Names are Prometheus's: counters end in `_total`, units are in the name.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass


# Kinds are compared by identity: there is one of each, and they are looked up on the tick path.
@dataclass(frozen=True, slots=True, eq=False)
class Count:
    """Something that only rises. `label` names what its parts are told apart by; empty: it has none."""

    name: str
    about: str
    label: str = ""


@dataclass(frozen=True, slots=True, eq=False)
class Level:
    """Something that rises and falls."""

    name: str
    about: str
    label: str = ""


def _name(short: str) -> str:
    return f"ibkr_gateway_{short}"


# The session.
CONNECT_FAILURES = Count(_name("connect_failures_total"), "Attempts to connect to TWS that failed", "cause")
RECONNECTS = Count(_name("reconnects_total"), "Connections to TWS after the first")
SESSION_STATE = Level(_name("session_state"), "1 for the state that the session is in", "state")
SYNC_TIMEOUTS = Count(_name("sync_timeouts_total"), "Connections given up since TWS did not say what begins one")
SYNC_INCOMPLETE = Count(_name("sync_incomplete_total"), "First questions that TWS did not answer to their end", "part")
HEARTBEAT_MISSES = Count(_name("heartbeat_misses_total"), "Questions for the time that TWS did not answer")
HEARTBEAT_SECONDS = Level(_name("heartbeat_rtt_seconds"), "Time that TWS took to answer the last heartbeat")
CLOCK_SKEW_SECONDS = Level(_name("broker_clock_skew_seconds"), "TWS's clock ahead of this machine's")
FARM_IS_OK = Level(_name("farm_is_ok"), "1 while a data farm of IBKR's is connected, else 0", "farm")
BROKER_NOTICES = Count(_name("broker_notices_total"), "Messages of TWS that speak of no request", "ibkr_code")
PACING_VIOLATIONS = Count(_name("pacing_violations_total"), "Times that IBKR called this program too fast", "ibkr_code")
FRAMES_AFTER_END = Count(_name("frames_after_fin_total"), "Messages that were read after TWS had ended the connection")
DECODE_ERRORS = Count(_name("decode_errors_total"), "Messages of TWS that could not be read", "message_id")
UNKNOWN_MESSAGES = Count(_name("unknown_messages_total"), "Messages of TWS of a kind that is not known", "message_id")
BROKER_TIMEOUTS = Count(_name("broker_timeouts_total"), "Requests that TWS did not answer in time", "request")
OPEN_REQUESTS = Level(_name("open_requests"), "Requests to TWS that wait for their answer")

# Market data.
LINES = Level(_name("market_data_lines"), "Market-data lines in use")
FEEDS = Level(_name("feeds"), "Upstream subscriptions in use, by kind", "kind")
LATE_TICKS = Count(_name("late_ticks_total"), "Messages for a request or subscription that has ended")
SENTINELS = Count(_name("sentinels_total"), "Values of TWS's that mean: there is none")
COMPETING_SESSIONS = Count(_name("competing_sessions_total"), "Lines whose live data went to another login")
RESUBSCRIBES = Count(_name("resubscribes_total"), "Subscriptions that were asked for again", "cause")
CONFLATED = Count(_name("conflated_total"), "Quotes that a newer one replaced before their reader took them")
SLOW_CONSUMERS = Count(_name("slow_consumers_total"), "Streams cut off since their reader was too slow")

# History.
PACING_DEFERRED = Count(_name("pacing_deferred_total"), "Historical requests held back or refused for pacing")
HISTORY_CACHE_HITS = Count(_name("history_cache_hits_total"), "Historical requests answered without asking TWS")
HISTORY_IN_FLIGHT = Level(_name("history_in_flight"), "Historical requests that wait for their answer")
UNKNOWN_TIME_ZONES = Count(_name("unknown_time_zones_total"), "Time zones of TWS's that are not known here")

# Accounts.
SUMMARY_SUBSCRIPTIONS = Level(_name("account_summary_subscriptions"), "Account summaries that are followed at TWS")
UNKNOWN_ACCOUNT_TAGS = Count(_name("unknown_account_tags_total"), "Account values under a tag that is not known")

# Orders.
ORDERS_UNKNOWN = Level(_name("orders_unknown"), "Orders that may or may not be at IBKR")
ORDER_ID_FLOOR = Level(_name("order_id_floor"), "Highest order id that has been used")
IDEMPOTENT_HITS = Count(_name("idempotent_hits_total"), "Orders placed again under an id that names one already")
ORDERS_RESURRECTED = Count(_name("resurrected_total"), "Orders that were taken for ended or never placed, and were not")
ORDER_CONFLICTS = Count(_name("order_conflicts_total"), "Intents of which IBKR has shown a second order")

# The record.
AUDIT_ERRORS = Count(_name("audit_errors_total"), "Transactions of the record that failed", "cause")
AUDIT_BACKLOG = Level(_name("audit_backlog"), "Changes of orders that the record does not hold yet")

# The process.
LOOP_LAG_SECONDS = Level(_name("loop_lag_seconds"), "How late the event loop last ran what was due")

KINDS: tuple[Count | Level, ...] = tuple(kind for kind in globals().values() if isinstance(kind, Count | Level))


class Tallies:
    """The counts and levels of one gateway."""

    def __init__(self) -> None:
        self._values: dict[Count | Level, dict[str, float]] = {kind: {} if kind.label else {"": 0.0} for kind in KINDS}
        self._watched: dict[Level, Callable[[], float]] = {}

    def add(self, count: Count, label: str = "", by: int = 1) -> None:
        """One more, or several."""
        values = self._values[count]
        values[label] = values.get(label, 0.0) + by

    def set(self, level: Level, value: float, label: str = "") -> None:
        """It is now so high."""
        self._values[level][label] = value

    def watch(self, level: Level, value: Callable[[], float]) -> None:
        """A level without a label that is looked at when somebody asks."""
        self._watched[level] = value

    def value(self, kind: Count | Level, label: str = "") -> float:
        """The count or level now."""
        if isinstance(kind, Level) and (watched := self._watched.get(kind)) is not None:
            return watched()
        return self._values[kind].get(label, 0.0)

    def values(self) -> Iterator[tuple[Count | Level, dict[str, float]]]:
        """All of them, by label."""
        for kind, by_label in self._values.items():
            watched = self._watched.get(kind) if isinstance(kind, Level) else None
            yield kind, {"": watched()} if watched is not None else dict(by_label)
