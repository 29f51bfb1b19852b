"""Troubles to come: what shall go wrong with which message, for tests of what clients make of it.

A fault waits for the next message of its kind on any connection and is used up by it.
"""

from __future__ import annotations

from collections import defaultdict, deque
from enum import Enum


class Fault(Enum):
    """What happens to a client's message."""

    LOSE = "it is read and forgotten: no effect, no reply"
    DISCONNECT_BEFORE = "the connection breaks before it takes effect"
    DISCONNECT_AFTER = "it takes effect, and the connection breaks before any reply"


class Faults:
    """What is to go wrong, by message id. Requests are clients' messages (3: placeOrder), replies the gateway's."""

    def __init__(self) -> None:
        self._requests: dict[int, deque[Fault]] = defaultdict(deque)
        self._replies: dict[int, int] = defaultdict(int)

    def on_request(self, message_id: int, fault: Fault, *, times: int = 1) -> None:
        """The next `times` requests of this kind meet this fault."""
        self._requests[message_id].extend([fault] * times)

    def lose_reply(self, message_id: int, *, times: int = 1) -> None:
        """The next `times` replies of this kind are not sent."""
        self._replies[message_id] += times

    def clear(self) -> None:
        """Nothing goes wrong any more."""
        self._requests.clear()
        self._replies.clear()

    def take(self, message_id: int) -> Fault | None:
        """The fault of a request that has just arrived."""
        waiting = self._requests.get(message_id)
        return waiting.popleft() if waiting else None

    def loses(self, message_id: str) -> bool:
        """Whether a reply that is about to be sent gets lost."""
        if not self._replies:
            return False
        number = int(message_id)
        if not self._replies.get(number):
            return False
        self._replies[number] -= 1
        return True
