"""How late the event loop runs; and where it stands when something holds it up, told by a thread that still runs then.

While the loop stands nothing is answered, neither a call nor a health check.
"""

from __future__ import annotations

import asyncio
import logging
import sys
import threading
from time import monotonic

log = logging.getLogger(__name__)

BEAT_S = 0.25
# Late by more than this is a defect: its place is logged, once each time.
STALL_S = 1.0
FRAMES_LOGGED = 12


class LoopWatch:
    """Of the loop that `run` runs in."""

    def __init__(self) -> None:
        self._due = monotonic()
        self._last_lag_s = 0.0

    @property
    def lag_s(self) -> float:
        """How late the loop last ran what was due, or is by now."""
        return max(self._last_lag_s, monotonic() - self._due)

    async def run(self) -> None:
        """Watch, until cancelled."""
        ended = threading.Event()
        thread = threading.Thread(
            target=self._look, args=(threading.get_ident(), ended), name="loop-watch", daemon=True
        )
        self._due = monotonic() + BEAT_S
        thread.start()
        try:
            while True:
                await asyncio.sleep(BEAT_S)
                now = monotonic()
                self._last_lag_s, self._due = max(0.0, now - self._due), now + BEAT_S
        finally:
            ended.set()

    def _look(self, loops_thread: int, ended: threading.Event) -> None:
        told = 0.0
        while not ended.wait(BEAT_S):
            due = self._due
            if due != told and monotonic() - due > STALL_S:
                told = due
                log.error("the event loop stands", extra={"trace": _place(loops_thread)})


def _place(thread: int) -> str:
    """Where a thread is, innermost last, as files and lines: no values."""
    frames: list[str] = []
    frame = sys._current_frames().get(thread)
    while frame is not None and len(frames) < FRAMES_LOGGED:
        frames.append(f"{frame.f_code.co_filename.rpartition('/')[2]}:{frame.f_lineno}")
        frame = frame.f_back
    return " > ".join(reversed(frames))
