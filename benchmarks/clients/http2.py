"""As much of HTTP/2 as it takes to read gRPC streams and call gRPC methods, at a fraction of a client library's cost.

A load generator must not be what is measured: Python's gRPC client takes 40 µs a message, this a tenth. It is on a
trusted connection: it gives the server all the window there is, decodes no headers, and believes every length.
"""

from __future__ import annotations

import asyncio
import struct
from collections.abc import Callable
from typing import cast

DATA, HEADERS, RESET, SETTINGS, PING, GOAWAY, WINDOW_UPDATE = 0, 1, 3, 4, 6, 7, 8
END_STREAM, END_HEADERS, ACK = 1, 4, 1
CANCEL = 8
PREFACE = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n"
WHOLE_WINDOW = 2**31 - 1
DEFAULT_WINDOW = 65_535


def frame(kind: int, flags: int, stream: int, payload: bytes) -> bytes:
    """One HTTP/2 frame."""
    return struct.pack(">I", len(payload))[1:] + struct.pack(">BBI", kind, flags, stream) + payload


def _field(index: int, value: str, name: str = "") -> bytes:
    """A header, literal and without indexing: under a name of the static table, or a name of its own."""
    key = bytes([index]) if index else b"\0" + bytes([len(name)]) + name.encode()
    return key + bytes([len(value)]) + value.encode()


def _headers(path: str) -> bytes:
    """Method POST, scheme http, and the path (the static table's 3, 6 and 4)."""
    return b"".join(
        (
            b"\x83\x86",
            _field(4, path),
            _field(1, "localhost"),
            _field(0, "application/grpc", "content-type"),
            _field(0, "trailers", "te"),
        )
    )


class Grpc(asyncio.Protocol):
    """One connection. `heard` gets every message with its stream's number, `ended` every stream that ends.

    With `gives_window` false it grants what HTTP/2 begins with and never more: a reader that has stopped.
    """

    def __init__(
        self,
        heard: Callable[[int, bytes], None],
        ended: Callable[[int], None] | None = None,
        *,
        gives_window: bool = True,
    ) -> None:
        self._heard = heard
        self._ended = ended
        self._gives_window = gives_window
        self._next_stream = 1
        self._rest = b""
        self._messages: dict[int, bytes] = {}
        self._transport: asyncio.Transport | None = None

    def call(self, path: str, request: bytes) -> int:
        """Begin a call whose whole request is this message. Returns its stream."""
        assert self._transport is not None
        stream, self._next_stream = self._next_stream, self._next_stream + 2
        body = struct.pack(">BI", 0, len(request)) + request
        self._transport.write(
            frame(HEADERS, END_HEADERS, stream, _headers(path)) + frame(DATA, END_STREAM, stream, body)
        )
        return stream

    def reset(self, stream: int) -> None:
        """Take a call back."""
        assert self._transport is not None
        self._transport.write(frame(RESET, 0, stream, struct.pack(">I", CANCEL)))

    def stall(self) -> None:
        """Read nothing and answer nothing from now on, not even a ping: a program that has been stopped."""
        assert self._transport is not None
        self._transport.pause_reading()

    def close(self) -> None:
        """End the connection."""
        if self._transport is not None:
            self._transport.abort()

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self._transport = cast("asyncio.Transport", transport)
        window = WHOLE_WINDOW if self._gives_window else DEFAULT_WINDOW
        hello = PREFACE + frame(SETTINGS, 0, 0, struct.pack(">HI", 4, window))
        if self._gives_window:
            hello += frame(WINDOW_UPDATE, 0, 0, struct.pack(">I", WHOLE_WINDOW - DEFAULT_WINDOW))
        self._transport.write(hello)

    def data_received(self, data: bytes) -> None:
        data, begin = self._rest + data, 0
        while len(data) - begin >= 9:
            length = int.from_bytes(data[begin : begin + 3])
            end = begin + 9 + length
            if end > len(data):
                break
            kind, flags, stream = struct.unpack_from(">BBI", data, begin + 3)
            if kind == DATA:
                self._data(stream, data[begin + 9 : end])
            elif kind in (SETTINGS, PING):
                if not flags & ACK and self._transport is not None:
                    self._transport.write(frame(kind, ACK, 0, data[begin + 9 : end] if kind == PING else b""))
            elif kind == GOAWAY:
                raise ConnectionError(f"the server ended the connection: {data[begin + 9 : end]!r}")
            if self._ended is not None and ((kind in (DATA, HEADERS) and flags & END_STREAM) or kind == RESET):
                self._messages.pop(stream, None)
                self._ended(stream)
            begin = end
        self._rest = data[begin:]

    def _data(self, stream: int, data: bytes) -> None:
        data, begin = self._messages.get(stream, b"") + data, 0
        while len(data) - begin >= 5:
            end = begin + 5 + int.from_bytes(data[begin + 1 : begin + 5])
            if end > len(data):
                break
            self._heard(stream, data[begin + 5 : end])
            begin = end
        self._messages[stream] = data[begin:]


async def connect(port: int, connection: Grpc) -> Grpc:
    """Open a connection to this machine."""
    await asyncio.get_running_loop().create_connection(lambda: connection, "127.0.0.1", port)
    return connection
