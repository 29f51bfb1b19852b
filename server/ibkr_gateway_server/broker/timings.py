"""How long the session waits, in seconds."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class SessionTimings:
    """How long the session waits, in seconds."""

    connect_timeout_s: float = 5.0
    """Opening the socket, until TWS has said its version."""
    handshake_timeout_s: float = 10.0
    """From its version until accounts and order id have come."""
    sync_timeout_s: float = 20.0
    """Each part of what is read after the handshake: accounts, subscriptions, orders."""
    resync_after_s: float = 30.0
    """Before a part that did not come to its end is asked for again."""
    request_timeout_s: float = 10.0
    """One request to TWS."""
    heartbeat_interval_s: float = 15.0
    """Between an answer to the question for the time, which shows that TWS still answers, and the next question."""
    heartbeat_timeout_s: float = 5.0
    """For each answer; after a miss the next question follows at once."""
    silence_limit_s: float = 30.0
    """Without any byte, beside two missed heartbeats, before the connection is given up."""
    backoff_floor_s: float = 0.5
    """Least between two attempts."""
    first_backoff_s: float = 1.0
    """Most before the first new attempt; it doubles each time, and the wait is random below it."""
    backoff_limit_s: float = 30.0
    """Most between two attempts."""
    restart_backoff_limit_s: float = 60.0
    """Most between two attempts while TWS restarts as planned."""
    settled_after_s: float = 60.0
    """Ready for so long, the next loss starts again at the first backoff."""
    alarm_after_s: float = 120.0
    """Without IBKR for so long, outside of a planned restart, an error is logged, once."""
    moved_limit_s: float = 600.0
    """After TWS has said that it moves to another port, before nobody on the one that is set is final."""
    pacing_pause_s: float = 2.0
    """Nothing is sent for so long after IBKR has called this program too fast."""
    read_only_kept_s: float = 60.0
    """After TWS has said that its API is read-only, before the next order tries whether it still is."""
    clock_skew_limit_s: float = 5.0
    """A difference between IBKR's clock and ours that is told."""
