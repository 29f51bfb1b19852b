"""The TCP shell: the only part that reads a clock or touches a socket."""

from __future__ import annotations

import asyncio
import socket
import time
from collections import Counter
from collections.abc import AsyncIterator, Callable, Sequence
from contextlib import asynccontextmanager, suppress
from dataclasses import dataclass, replace
from typing import Any, cast

from ibkr_gateway_server.simulator.behaviour import MAX_SERVER_VERSION, Behaviour
from ibkr_gateway_server.simulator.faults import Fault, Faults, Rule, WrongRule
from ibkr_gateway_server.simulator.faults.acts import inject
from ibkr_gateway_server.simulator.gateway import Gateway
from ibkr_gateway_server.simulator.instruments import ContractQuery
from ibkr_gateway_server.simulator.market import Tape
from ibkr_gateway_server.simulator.scenario import Scenario, WrongScenario, parse
from ibkr_gateway_server.simulator.session import Session

DEFAULT_SEED = 7
DEFAULT_ACCOUNT = "DU1234567"
# A live gateway sends a line's changes about four times a second.
TICK_INTERVAL_S = 0.25
PLACE_ORDER = 3
# As far as contracts are listed and holidays known.
MAX_JUMP_S = 366 * 86400.0

# A client that does not read is let go before what waits for it fills the memory.
MAX_UNSENT_BYTES = 32 * 1024 * 1024


@dataclass(frozen=True, slots=True)
class Address:
    """Where the simulator listens."""

    host: str
    port: int

    def __str__(self) -> str:
        return f"{self.host}:{self.port}"


@dataclass(frozen=True, slots=True)
class State:
    """What the simulator has seen and holds."""

    seed: int
    simulated_time: float
    connection_count: int
    order_frame_count: int
    waiting_fault_count: int
    link_is_lost: bool


class Simulator:
    """A simulated IB Gateway that can listen on TCP.

    `clock` gives epoch seconds; `speed` makes its seconds pass faster (2.0: twice) from now on. `tick_interval_s` is in
    real seconds. With a `start`, in epoch seconds, the simulated time begins there, with a `tape` at its beginning.
    """

    def __init__(
        self,
        seed: int = DEFAULT_SEED,
        accounts: Sequence[str] = (DEFAULT_ACCOUNT,),
        clock: Callable[[], float] = time.time,
        server_version: int = MAX_SERVER_VERSION,
        tick_interval_s: float = TICK_INTERVAL_S,
        *,
        speed: float = 1.0,
        behaviour: Behaviour | None = None,
        start: float | None = None,
        tape: Tape | None = None,
    ) -> None:
        self._begin = clock()
        self._real_clock = clock
        self._speed = speed
        self._tape = tape
        if start is None:
            start = tape.begin if tape is not None else self._begin
        # How far the clock is from the real one, apart from its speed.
        self._moved_s = start - self._begin
        self._tick_interval_s = tick_interval_s
        behaviour = replace(behaviour or Behaviour(), max_version=server_version)
        self._accounts = tuple(accounts)
        self.gateway = Gateway(seed, accounts, start, behaviour, tape)
        self._counts: Counter[int] = Counter()
        self._connections: set[_Connection] = set()
        self._wake = asyncio.Event()
        self._door: _Door | None = None

    def _clock(self) -> float:
        """The simulated time, in epoch seconds."""
        if self._speed == 1.0:
            return self._real_clock() + self._moved_s
        return self._begin + (self._real_clock() - self._begin) * self._speed + self._moved_s

    @asynccontextmanager
    async def listen(self, host: str = "127.0.0.1", port: int = 0) -> AsyncIterator[Address]:
        """Serve until the context ends. Raises OSError when the port is taken."""
        door = _Door(self, host, port)
        address = await door.open()
        self._door = door
        ticking = asyncio.create_task(self._tick())
        # Clients must not wait for a gateway whose time has stopped; the failure itself is raised at the end.
        ticking.add_done_callback(lambda _: self.drop_connections())
        try:
            yield address
        finally:
            ticking.cancel()
            door.close()
            with suppress(asyncio.CancelledError):
                await ticking
            self.drop_connections()
            await door.wait_closed()

    @property
    def faults(self) -> Faults:
        """What shall go wrong."""
        return self.gateway.faults

    def set_quote(
        self,
        symbol: str,
        bid: float | None = None,
        ask: float | None = None,
        last: float | None = None,
        *,
        sec_type: str = "",
    ) -> None:
        """Move an instrument's prices to these; they go on from there. Raises LookupError, ValueError."""
        matches = self.gateway.catalogue.match(ContractQuery(symbol=symbol, sec_type=sec_type or "STK"))
        if not matches:
            raise LookupError(f"{symbol} is not listed")
        self.gateway.market.set_quote(matches[0], self._clock(), bid=bid, ask=ask, last=last)
        self.gateway.look_again()
        self._wake.set()

    def inject(self, rule: Rule) -> None:
        """Let this go wrong: at once, or when what it is about comes."""
        self.gateway.advance(self._clock())
        if rule.fault is Fault.DISCONNECT:
            self.drop_connections()
        else:
            inject(self.gateway, rule)
        self.flush()

    def inject_by_name(self, fault: str, *, times: int | None = None, **details: Any) -> tuple[str, str] | None:
        """A fault as it comes from outside: `times` 0 means whenever it can. Returns what is wrong with it, and why;
        None when it is injected."""
        try:
            kind = Fault[fault]
        except KeyError:
            return "fault", f"{fault} is no fault of the simulator"
        try:
            rule = Rule(kind, times=1 if times is None else times or None, **details)
        except WrongRule as wrong:
            return wrong.key, wrong.why
        self.inject(rule)
        return None

    def play_text(self, text: str) -> str:
        """Play a scenario's text. Returns what is wrong with it; "" when it has begun."""
        try:
            self.play(parse(text))
        except WrongScenario as wrong:
            return str(wrong)
        return ""

    def play(self, scenario: Scenario) -> None:
        """Let a scenario's events happen from now on; one that describes a gateway begins with a fresh one, and every
        connection is dropped. Raises WrongScenario, and changes nothing then."""
        given = scenario.gateway
        fresh = None
        if given is not None:
            behaviour = given.applied_to(self.gateway.behaviour)
            now = self._clock() if given.start is None else given.start
            seed = self.gateway.seed if given.seed is None else given.seed
            fresh = Gateway(seed, given.accounts or self._accounts, now, behaviour, self._tape)
        scenario.check(fresh or self.gateway)
        if given is not None and fresh is not None:
            self._moved_s += fresh.now - self._clock()
            self._accounts = given.accounts or self._accounts
            self._begin_anew(fresh)
        self.gateway.advance(self._clock())
        scenario.begin(self.gateway, self._jump)
        self._wake.set()

    def reset(self, seed: int | None = None) -> None:
        """A fresh gateway: no orders, no positions but the opening ones, nothing that goes wrong; every connection is
        dropped. The time goes on."""
        seed = self.gateway.seed if seed is None else seed
        self._begin_anew(Gateway(seed, self._accounts, self._clock(), self.gateway.behaviour, self._tape))

    def advance_clock(self, seconds: float) -> float:
        """Let so many seconds pass at once. Returns the simulated time. Raises ValueError for less than none."""
        if not 0 <= seconds <= MAX_JUMP_S:
            raise ValueError(f"{seconds:g} is not from 0 to {MAX_JUMP_S:g} seconds")
        self._jump(seconds)
        self.gateway.advance(self._clock())
        for connection in self._connections:
            connection.session.advance()
        self.flush()
        return self._clock()

    def _jump(self, seconds: float) -> None:
        self._moved_s += seconds
        self._wake.set()

    def _begin_anew(self, gateway: Gateway) -> None:
        self.drop_connections()
        self._counts.clear()
        self.gateway = gateway
        self._wake.set()

    def notify(self, code: int, text: str) -> None:
        """Send every client a notice that belongs to no request, as 1100 for a lost link to IBKR."""
        for connection in self._connections:
            connection.session.notify(code, text)
        self.flush()

    def drop_connections(self) -> None:
        """Abort every connection, as a crash does."""
        for connection in list(self._connections):
            connection.abort()

    def frames_received(self, message_id: int) -> int:
        """Frames of this kind from all clients since the start; 3 is placeOrder."""
        return self._counts[message_id]

    def state(self) -> State:
        """What the simulator has seen and holds."""
        faults = self.gateway.faults
        counted = (len(self._connections), self._counts[PLACE_ORDER], faults.waiting_count)
        return State(self.gateway.seed, self._clock(), *counted, faults.outage.link_is_lost)

    def flush(self) -> None:
        """Write what every session has to say, one piece per write."""
        for connection in list(self._connections):
            connection.write_out()
        self._wake.set()

    async def _tick(self) -> None:
        """Let time pass at every interval, and in between when something is due."""
        loop = asyncio.get_running_loop()
        look_at = loop.time() + self._tick_interval_s
        while True:
            due = self.gateway.next_event_time
            wait_s = look_at - loop.time()
            if due is not None:
                wait_s = min(wait_s, (due - self._clock()) / self._speed)
            with suppress(TimeoutError):
                async with asyncio.timeout(max(wait_s, 0.0)):
                    await self._wake.wait()
            self._wake.clear()
            if self._door is not None:
                await self._door.follow(
                    self.gateway.faults.lasting(Fault.REFUSE_CONNECTIONS, self._clock()) is not None
                )
            self.gateway.advance(self._clock())
            if loop.time() >= look_at:
                look_at = loop.time() + self._tick_interval_s
                for connection in self._connections:
                    connection.session.advance()
            for connection in list(self._connections):
                connection.write_out()


class _Door:
    """Where connections come in: open, unless a fault keeps it shut."""

    def __init__(self, simulator: Simulator, host: str, port: int) -> None:
        self._simulator = simulator
        self._address = Address(host, port)
        self._server: asyncio.Server | None = None

    async def open(self) -> Address:
        """Listen; a free port is kept. Raises OSError when the port is taken."""
        loop = asyncio.get_running_loop()
        address = self._address
        self._server = await loop.create_server(lambda: _Connection(self._simulator), address.host, address.port)
        self._address = Address(*self._server.sockets[0].getsockname()[:2])
        return self._address

    async def follow(self, is_shut: bool) -> None:
        """Be shut or open. A port that somebody else has taken meanwhile is tried again at the next look."""
        if is_shut:
            self.close()
        elif self._server is None:
            with suppress(OSError):
                await self.open()

    def close(self) -> None:
        """Listen no more; connections go on."""
        if self._server is not None:
            self._server.close()
            self._server = None

    async def wait_closed(self) -> None:
        """Closed is closed: connections are dropped before."""


class _Connection(asyncio.Protocol):
    """One TCP connection."""

    def __init__(self, simulator: Simulator) -> None:
        self._simulator = simulator
        self._transport: asyncio.Transport | None = None
        self.session = Session(simulator.gateway, simulator._counts)

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        # uvloop's transports are asyncio's in all but their base class.
        self._transport = cast("asyncio.Transport", transport)
        self._simulator._connections.add(self)
        transport.get_extra_info("socket").setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)

    def data_received(self, data: bytes) -> None:
        self.session.receive(data, self._simulator._clock())
        self._simulator.flush()

    def connection_lost(self, exc: Exception | None) -> None:
        self._simulator._connections.discard(self)
        self.session.close()

    def write_out(self) -> None:
        if self._transport is None or self._transport.is_closing():
            return
        if self.session.is_half_open and self._transport.is_reading():
            self._transport.pause_reading()
        for piece in self.session.take():
            self._transport.write(piece)
        if self.session.is_aborted or self._transport.get_write_buffer_size() > MAX_UNSENT_BYTES:
            self.abort()
        elif self.session.is_closed:
            self._transport.close()

    def abort(self) -> None:
        self.session.abort()
        if self._transport is not None:
            self._transport.abort()
