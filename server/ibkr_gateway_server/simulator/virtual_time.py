"""An event loop whose time passes as fast as the work is done, and whose connections are in memory.

When nothing is ready its clock jumps to the next timer, so that an hour of waiting takes no time at all and the same
program does the same things in the same order in every run. `create_server` and `create_connection` meet each other in
memory under any host and port; programs that use asyncio's streams or protocols need no change.

There is no other world: a loop that waits for something that no timer will bring is stuck, and says so. Threads and
real sockets are not waited for.
"""

from __future__ import annotations

import asyncio
import math
import selectors
from collections.abc import Callable, Coroutine, Mapping
from typing import Any, TypeVar

from ibkr_gateway_server.simulator.in_memory import Listening, Pipe, connect

_T = TypeVar("_T")

# The lowest port that is given to those who do not mind.
FIRST_FREE_PORT = 49152
# A timer is a little late, as it always is on a real loop: there are clients that look whether more than a second has
# passed when their timer of a second runs, and that would otherwise ask for it again and again at the same moment.
_LATE_S = 1e-6


class Stuck(RuntimeError):
    """Everything waits, and nothing is due."""


class VirtualTimeLoop(asyncio.SelectorEventLoop):
    """A loop with a clock and a network of its own. `latency_s` is what a byte takes from one end to the other."""

    def __init__(self, *, latency_s: float = 0.0) -> None:
        self._virtual_time = 0.0
        super().__init__(_Selector(self))
        self._clock_resolution = math.ulp(1.0)
        self.latency_s = latency_s
        self._listening: dict[int, Listening] = {}
        self._free_port = FIRST_FREE_PORT

    def time(self) -> float:
        """Virtual seconds since the loop was made."""
        return self._virtual_time

    def jump(self, seconds: float) -> None:
        """Let time pass."""
        self._virtual_time += seconds
        # A timer of this very moment is due: were the resolution less than the last digit of the time, it would never
        # be, and the loop would look for it for ever.
        self._clock_resolution = math.ulp(self._virtual_time)

    async def create_server(  # type: ignore[override]  # in memory, so without the options of sockets
        self, protocol_factory: Callable[[], asyncio.BaseProtocol], host: Any = None, port: Any = None, **_options: Any
    ) -> Listening:
        """Listen in memory. Raises OSError when the port is taken."""
        if not port:
            port, self._free_port = self._free_port, self._free_port + 1
        if port in self._listening:
            raise OSError(98, "Address already in use")
        listening = Listening(protocol_factory, str(host), int(port), self._listening)
        self._listening[int(port)] = listening
        return listening

    async def create_connection(  # type: ignore[override]  # in memory, so without the options of sockets
        self, protocol_factory: Callable[[], asyncio.BaseProtocol], host: Any = None, port: Any = None, **_options: Any
    ) -> tuple[Pipe, asyncio.BaseProtocol]:
        """Connect in memory. Raises ConnectionRefusedError when nobody listens on the port."""
        await asyncio.sleep(self.latency_s)
        listening = self._listening.get(int(port))
        if listening is None:
            raise ConnectionRefusedError(111, f"Connect call failed ('{host}', {port})")
        return connect(self, protocol_factory(), listening, self.latency_s)


def run_virtually(main: Coroutine[Any, Any, _T], *, latency_s: float = 0.0) -> _T:
    """Run a program to its end in virtual time. Raises Stuck when it waits for what will never happen."""
    with asyncio.Runner(loop_factory=lambda: VirtualTimeLoop(latency_s=latency_s)) as runner:
        # There are clients that ask the policy for the loop, though one is running.
        asyncio.set_event_loop(runner.get_loop())
        try:
            return runner.run(main)
        finally:
            asyncio.set_event_loop(None)


class _Selector(selectors.BaseSelector):
    """Where the loop would wait, time jumps instead."""

    def __init__(self, loop: VirtualTimeLoop) -> None:
        self._loop = loop
        self._real = selectors.DefaultSelector()

    def select(self, timeout: float | None = None) -> list[tuple[selectors.SelectorKey, int]]:
        """What is ready at once: the loop's own wake-up calls. Otherwise time goes on by `timeout`."""
        ready = self._real.select(0)
        if ready or timeout == 0:
            return ready
        if timeout is None:
            raise Stuck("everything waits and no timer is set: nothing will ever happen")
        self._loop.jump(timeout + _LATE_S)
        return []

    def register(self, fileobj: Any, events: int, data: Any = None) -> selectors.SelectorKey:
        return self._real.register(fileobj, events, data)

    def unregister(self, fileobj: Any) -> selectors.SelectorKey:
        return self._real.unregister(fileobj)

    def modify(self, fileobj: Any, events: int, data: Any = None) -> selectors.SelectorKey:
        return self._real.modify(fileobj, events, data)

    def close(self) -> None:
        self._real.close()

    def get_map(self) -> Mapping[Any, selectors.SelectorKey]:
        return self._real.get_map()
