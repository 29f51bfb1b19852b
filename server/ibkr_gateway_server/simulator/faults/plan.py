"""When faults strike: those that wait, and the chance that the seed decides."""

from __future__ import annotations

from collections.abc import Collection

from ibkr_gateway_server.simulator.faults.outage import Outage
from ibkr_gateway_server.simulator.faults.rules import (
    AT_ONCE,
    LASTING,
    ON_CONNECTION,
    ON_REPLY,
    ON_REQUEST,
    Fault,
    Rule,
)
from ibkr_gateway_server.simulator.market.chance import uniform

# Apart from all other uses of the same seed.
_CHANCE = 0xFA17


class _Waiting:
    """One rule and what is left of it."""

    def __init__(self, rule: Rule, number: int, end: float | None) -> None:
        self.rule = rule
        self.number = number
        self.end = end
        self.left = rule.times
        self.tries = 0

    def is_over(self, now: float) -> bool:
        return self.left == 0 or (self.end is not None and now >= self.end)

    def strikes(self, seed: int) -> bool:
        """Whether it strikes this time; uses it up if so."""
        self.tries += 1
        if self.rule.probability < 1 and uniform(seed, _CHANCE, self.number, self.tries) >= self.rule.probability:
            return False
        if self.left is not None:
            self.left -= 1
        return True


class Faults:
    """What is to go wrong. A message or a connection meets the oldest fault that is about it and strikes."""

    def __init__(self, seed: int = 0) -> None:
        self._seed = seed
        self._count = 0
        self._requests: list[_Waiting] = []
        self._replies: list[_Waiting] = []
        self._connections: list[_Waiting] = []
        self.outage = Outage()

    def on_request(self, message_id: int, fault: Fault, *, times: int = 1) -> None:
        """The next `times` requests of this kind meet this fault."""
        self.add(Rule(fault, message_id, times))

    def lose_reply(self, message_id: int, *, times: int = 1) -> None:
        """The next `times` replies of this kind are not sent."""
        self.add(Rule(Fault.LOSE_REPLY, message_id, times))

    def add(self, rule: Rule, now: float | None = None) -> None:
        """Let this go wrong, from `now` on where it has a duration. Raises ValueError for what strikes at once."""
        if rule.fault in AT_ONCE:
            raise ValueError(f"{rule.fault.name} strikes at once; it does not wait")
        if rule.duration_s is not None and now is None:
            raise ValueError("a fault with a duration begins at a time")
        self._count += 1
        end = None if rule.duration_s is None or now is None else now + rule.duration_s
        waiting = _Waiting(rule, self._count, end)
        if rule.fault in LASTING:
            waiting.left = None
        self._list_of(rule.fault).append(waiting)

    def clear(self) -> None:
        """Nothing that waits goes wrong any more. What has gone wrong already stays so."""
        for waiting in (self._requests, self._replies, self._connections):
            waiting.clear()

    @property
    def waiting_count(self) -> int:
        """Faults that have not been used up. One whose time is over counts until it is looked at."""
        return len(self._requests) + len(self._replies) + len(self._connections)

    @property
    def touch_replies(self) -> bool:
        """Whether anything may happen to what the gateway says."""
        return bool(self._replies)

    @property
    def touch_connections(self) -> bool:
        """Whether anything may happen to connections as such."""
        return bool(self._connections)

    def take(self, message_id: int, now: float) -> Rule | None:
        """What happens to a request that has just arrived."""
        return self._struck(self._requests, message_id, now)

    def take_reply(self, message_id: int, now: float) -> Rule | None:
        """What happens to a message that is about to be sent."""
        return self._struck(self._replies, message_id, now)

    def take_connection(self, kinds: Collection[Fault], now: float) -> Rule | None:
        """What happens to a connection, of these kinds."""
        return self._struck(self._connections, None, now, kinds)

    def lasting(self, fault: Fault, now: float) -> Rule | None:
        """A fault that lasts, if it does."""
        self._connections = [each for each in self._connections if not each.is_over(now)]
        return next((each.rule for each in self._connections if each.rule.fault is fault), None)

    def _list_of(self, fault: Fault) -> list[_Waiting]:
        if fault in ON_REQUEST:
            return self._requests
        if fault in ON_REPLY:
            return self._replies
        assert fault in ON_CONNECTION
        return self._connections

    def _struck(
        self, waiting: list[_Waiting], message_id: int | None, now: float, kinds: Collection[Fault] | None = None
    ) -> Rule | None:
        if not waiting:
            return None
        waiting[:] = [each for each in waiting if not each.is_over(now)]
        for each in waiting:
            is_meant = kinds is None or each.rule.fault in kinds
            if is_meant and (message_id is None or each.rule.is_about(message_id)) and each.strikes(self._seed):
                if each.left == 0:
                    waiting.remove(each)
                return each.rule
        return None
