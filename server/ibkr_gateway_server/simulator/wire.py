"""Frames and fields: the outermost layer of the TWS socket protocol.

A frame is a 4-byte big-endian length and a payload; a payload is fields, each ended by NUL, the first one the message
id.
"""

from __future__ import annotations

import struct
from collections.abc import Iterable, Iterator

# No client sends more; a longer length is garbage, and waiting for it would be waiting for ever.
MAX_FRAME_BYTES = 16 * 1024 * 1024

UNSET_DOUBLE = "1.7976931348623157E308"
UNSET_INTEGER = "2147483647"
UNSET_LONG = "9223372036854775807"


class ProtocolError(ValueError):
    """The bytes are not the TWS protocol; a gateway closes the connection."""


class FrameReader:
    """Cuts a byte stream into payloads, however the bytes are split."""

    def __init__(self) -> None:
        self._buffer = bytearray()

    def feed(self, data: bytes) -> None:
        """Take what has arrived."""
        self._buffer += data

    def take(self, count: int) -> bytes | None:
        """The next `count` bytes outside any frame, or None until they have arrived."""
        if len(self._buffer) < count:
            return None
        taken = bytes(self._buffer[:count])
        del self._buffer[:count]
        return taken

    def payloads(self) -> Iterator[bytes]:
        """Every complete payload. Raises ProtocolError for an impossible length."""
        while len(self._buffer) >= 4:
            (length,) = struct.unpack_from(">I", self._buffer)
            if not 0 < length <= MAX_FRAME_BYTES:
                raise ProtocolError(f"frame of {length} bytes")
            if len(self._buffer) < 4 + length:
                return
            payload = bytes(self._buffer[4 : 4 + length])
            del self._buffer[: 4 + length]
            yield payload


def frame(fields: Iterable[str]) -> bytes:
    """One frame of these fields."""
    payload = "".join(f"{field}\0" for field in fields).encode()
    return struct.pack(">I", len(payload)) + payload


def split(payload: bytes) -> list[str]:
    """The fields of a payload. Raises ProtocolError when it does not end with NUL."""
    if not payload.endswith(b"\0"):
        raise ProtocolError("payload does not end with NUL")
    return payload.decode(errors="backslashreplace").split("\0")[:-1]


class Fields:
    """Reads a request's fields one by one, as leniently as a gateway does.

    Clients spell "none" as nothing, as the largest double in either case of its E, or as the largest int; numbers
    with or without a decimal point; infinity as Infinite or Infinity.
    """

    def __init__(self, fields: list[str]) -> None:
        self._fields = fields
        self._next = 0

    @property
    def left(self) -> int:
        """Fields not read yet."""
        return len(self._fields) - self._next

    def text(self) -> str:
        """The next field as it is. Raises ProtocolError past the end."""
        if self._next >= len(self._fields):
            raise ProtocolError("a request ends too early")
        self._next += 1
        return self._fields[self._next - 1]

    def skip(self, count: int = 1) -> None:
        """Leave out fields that are of no consequence here."""
        for _ in range(count):
            self.text()

    def number(self, default: float = 0.0) -> float:
        """The next field as a float; `default` where it means none. Raises ProtocolError."""
        text = self.text()
        if text in ("", UNSET_INTEGER):
            return default
        if text in ("Infinite", "Infinity"):
            return float("inf")
        try:
            found = float(text)
        except ValueError:
            raise ProtocolError(f"not a number: {text[:20]!r}") from None
        return default if found != found or abs(found) > 1e300 else found

    def integer(self, default: int = 0) -> int:
        """The next field as an int; `default` where it means none. Raises ProtocolError."""
        found = self.number(float(default))
        if found in (float("inf"), float("-inf")):
            raise ProtocolError("not an integer")
        return int(found)

    def flag(self) -> bool:
        """The next field as a bool."""
        return self.text() in ("1", "true", "True")

    def pairs(self) -> list[tuple[str, str]]:
        """A count and as many pairs of tag and value."""
        return [(self.text(), self.text()) for _ in range(self.count())]

    def count(self) -> int:
        """A count of things that follow. Raises ProtocolError when there cannot be so many."""
        found = self.integer()
        if not 0 <= found <= self.left:
            raise ProtocolError(f"{found} things announced, {self.left} fields left")
        return found


def plain(value: float) -> str:
    """A number as TWS writes sizes and most prices: "100", "201.94"."""
    return str(int(value)) if value == int(value) else repr(value)


def price(value: float | None) -> str:
    """A number as TWS writes an order's prices: "5800.0"; none as the largest double."""
    return UNSET_DOUBLE if value is None else repr(float(value))


def optional(value: float | None) -> str:
    """A number, or nothing."""
    return "" if value is None else plain(value)


def flag(value: bool) -> str:
    """A bool as TWS writes it."""
    return "1" if value else "0"
