"""Connections in memory: asyncio transports between two protocols of one event loop."""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import Callable, MutableMapping
from typing import Any

# What is on its way when a connection breaks is lost, as on a real one.
_RESET = "Connection reset by peer"


class Pipe(asyncio.Transport):
    """One end of a connection: what is written here arrives at the other end, in order, after the latency."""

    def __init__(self, loop: asyncio.AbstractEventLoop, protocol: asyncio.BaseProtocol, latency_s: float) -> None:
        super().__init__()
        self._loop = loop
        self._protocol = protocol
        self._latency_s = latency_s
        self._peer: Pipe | None = None
        self._arriving: deque[bytes | None] = deque()
        self._is_paused = False
        self._is_ended = False
        self._is_closing = False
        self._is_lost = False

    def meet(self, peer: Pipe) -> None:
        """The other end."""
        self._peer = peer

    def get_extra_info(self, name: str, default: Any = None) -> Any:
        """A socket that takes every option; addresses of this machine."""
        known = {"socket": _Options(), "peername": ("127.0.0.1", 0), "sockname": ("127.0.0.1", 0)}
        return known.get(name, default)

    def get_protocol(self) -> asyncio.BaseProtocol:
        return self._protocol

    def set_protocol(self, protocol: asyncio.BaseProtocol) -> None:
        self._protocol = protocol

    def write(self, data: bytes | bytearray | memoryview) -> None:
        if not self._is_ended and not self._is_closing and self._peer is not None and data:
            self._peer._expect(bytes(data))

    def can_write_eof(self) -> bool:
        return True

    def write_eof(self) -> None:
        """Write no more; the other end hears so after what was written before."""
        if not self._is_ended and not self._is_closing and self._peer is not None:
            self._is_ended = True
            self._peer._expect(None)

    def get_write_buffer_size(self) -> int:
        """Bytes that the other end has not taken."""
        waiting = self._peer._arriving if self._peer is not None else ()
        return sum(len(piece) for piece in waiting if piece is not None)

    def set_write_buffer_limits(self, high: int | None = None, low: int | None = None) -> None:
        """Nothing is ever held back."""

    def pause_reading(self) -> None:
        self._is_paused = True

    def resume_reading(self) -> None:
        self._is_paused = False
        self._deliver()

    def is_reading(self) -> bool:
        return not self._is_paused and not self._is_closing

    def is_closing(self) -> bool:
        return self._is_closing

    def close(self) -> None:
        """End the connection; what was written before still arrives."""
        if not self._is_closing:
            self.write_eof()
            self._is_closing = True
            self._loop.call_soon(self._lose, None)

    def abort(self) -> None:
        """Break the connection: what is on its way is lost."""
        if not self._is_lost:
            self._is_closing = True
            self._loop.call_soon(self._lose, None)
            if self._peer is not None:
                self._peer._arriving.clear()
                self._loop.call_later(self._latency_s, self._peer._lose, ConnectionResetError(104, _RESET))

    def _expect(self, data: bytes | None) -> None:
        """Something is on its way here; None is the end."""
        self._arriving.append(data)
        if self._latency_s:
            self._loop.call_later(self._latency_s, self._deliver_next)
        else:
            self._loop.call_soon(self._deliver_next)

    def _deliver_next(self) -> None:
        # Who has closed reads no more, as with asyncio's own transports.
        if self._arriving and self.is_reading():
            self._hand_over(self._arriving.popleft())

    def _deliver(self) -> None:
        while self._arriving and self.is_reading():
            self._hand_over(self._arriving.popleft())

    def _hand_over(self, data: bytes | None) -> None:
        if data is None:
            stays_open = isinstance(self._protocol, asyncio.Protocol) and self._protocol.eof_received()
            if not stays_open:
                self.close()
        elif isinstance(self._protocol, asyncio.Protocol):
            self._protocol.data_received(data)

    def _lose(self, error: Exception | None) -> None:
        if not self._is_lost:
            self._is_lost = self._is_closing = True
            self._protocol.connection_lost(error)


class Listening:
    """A server in memory; it has what programs ask of asyncio's."""

    def __init__(
        self,
        protocol_factory: Callable[[], asyncio.BaseProtocol],
        host: str,
        port: int,
        ports: MutableMapping[int, Listening],
    ) -> None:
        self.accept = protocol_factory
        self.sockets = (_Options((host, port)),)
        self._port = port
        self._ports = ports

    def close(self) -> None:
        """Take no more connections."""
        self._ports.pop(self._port, None)

    def is_serving(self) -> bool:
        """Whether it takes connections."""
        return self._ports.get(self._port) is self

    async def wait_closed(self) -> None:
        """Closed is closed."""


class _Options:
    """A socket's options, all of them taken, and its address."""

    def __init__(self, address: tuple[str, int] = ("127.0.0.1", 0)) -> None:
        self._address = address

    def setsockopt(self, *_option: object) -> None:
        """Of no consequence in memory."""

    def getsockname(self) -> tuple[str, int]:
        """Host and port."""
        return self._address


def connect(
    loop: asyncio.AbstractEventLoop, protocol: asyncio.BaseProtocol, listening: Listening, latency_s: float
) -> tuple[Pipe, asyncio.BaseProtocol]:
    """A new connection between a client's protocol and a server's; returns the client's end."""
    accepted = listening.accept()
    near, far = Pipe(loop, protocol, latency_s), Pipe(loop, accepted, latency_s)
    near.meet(far)
    far.meet(near)
    accepted.connection_made(far)
    protocol.connection_made(near)
    return near, protocol
