"""The TCP shell: the only part that reads a clock or touches a socket."""

from __future__ import annotations

import asyncio
import socket
import time
from collections import Counter
from collections.abc import AsyncIterator, Callable, Sequence
from contextlib import asynccontextmanager, suppress
from dataclasses import dataclass
from typing import cast

from ibkr_gateway_server.simulator.gateway import Gateway
from ibkr_gateway_server.simulator.instruments import ContractQuery
from ibkr_gateway_server.simulator.session import MAX_SERVER_VERSION, Session

DEFAULT_SEED = 7
DEFAULT_ACCOUNT = "DU1234567"
# A live gateway sends a line's changes about four times a second.
TICK_INTERVAL_S = 0.25
PLACE_ORDER = 3


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


class Simulator:
    """A simulated IB Gateway that can listen on TCP. `clock` gives epoch seconds."""

    def __init__(
        self,
        seed: int = DEFAULT_SEED,
        accounts: Sequence[str] = (DEFAULT_ACCOUNT,),
        clock: Callable[[], float] = time.time,
        server_version: int = MAX_SERVER_VERSION,
        tick_interval_s: float = TICK_INTERVAL_S,
    ) -> None:
        self.gateway = Gateway(seed, accounts, clock())
        self._clock = clock
        self._server_version = server_version
        self._tick_interval_s = tick_interval_s
        self._counts: Counter[int] = Counter()
        self._connections: set[_Connection] = set()
        self._wake = asyncio.Event()

    @asynccontextmanager
    async def listen(self, host: str = "127.0.0.1", port: int = 0) -> AsyncIterator[Address]:
        """Serve until the context ends. Raises OSError when the port is taken."""
        loop = asyncio.get_running_loop()
        server = await loop.create_server(lambda: _Connection(self), host, port)
        address = Address(*server.sockets[0].getsockname()[:2])
        ticking = asyncio.create_task(self._tick())
        try:
            yield address
        finally:
            ticking.cancel()
            with suppress(asyncio.CancelledError):
                await ticking
            server.close()
            self.drop_connections()
            await server.wait_closed()

    # --- control -------------------------------------------------------------------------------------------------

    def set_quote(
        self,
        symbol: str,
        *,
        bid: float | None = None,
        ask: float | None = None,
        last: float | None = None,
        sec_type: str = "",
    ) -> None:
        """Move an instrument's prices to these; they go on from there. Raises LookupError, ValueError."""
        matches = self.gateway.catalogue.match(ContractQuery(symbol=symbol, sec_type=sec_type or "STK"))
        if not matches:
            raise LookupError(f"{symbol} is not listed")
        given = [price for price in (bid, ask, last) if price is not None]
        if not given:
            raise ValueError("give a bid, an ask or a last price")
        self.gateway.market.set_price(matches[0], sum(given) / len(given), self._clock())

    def drop_connections(self) -> None:
        """Abort every connection, as a crash does."""
        for connection in list(self._connections):
            connection.abort()

    def frames_received(self, message_id: int) -> int:
        """Frames of this kind from all clients since the start; 3 is placeOrder."""
        return self._counts[message_id]

    def state(self) -> State:
        """What the simulator has seen and holds."""
        return State(self.gateway.seed, self._clock(), len(self._connections), self._counts[PLACE_ORDER])

    # --- time ----------------------------------------------------------------------------------------------------

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
                wait_s = min(wait_s, due - self._clock())
            with suppress(TimeoutError):
                async with asyncio.timeout(max(wait_s, 0.0)):
                    await self._wake.wait()
            self._wake.clear()
            self.gateway.advance(self._clock())
            if loop.time() >= look_at:
                look_at = loop.time() + self._tick_interval_s
                for connection in self._connections:
                    connection.session.advance()
            for connection in list(self._connections):
                connection.write_out()


class _Connection(asyncio.Protocol):
    """One TCP connection."""

    def __init__(self, simulator: Simulator) -> None:
        self._simulator = simulator
        self._transport: asyncio.Transport | None = None
        self.session = Session(simulator.gateway, simulator._server_version, simulator._counts)

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
        for piece in self.session.take():
            if piece:
                self._transport.write(piece)
        if self.session.is_closed:
            self._transport.close()

    def abort(self) -> None:
        if self._transport is not None:
            self._transport.abort()
