"""Frames and fields: the outermost layer of the TWS socket protocol.

A frame is a 4-byte big-endian length and a payload; a payload is fields, each ended by NUL, the first one the message
id.
"""

from __future__ import annotations

import struct
from collections.abc import Iterable, Iterator
from decimal import Decimal

# No client sends more; a longer length is garbage, and waiting for it would be waiting for ever.
MAX_FRAME_BYTES = 16 * 1024 * 1024

MAX_INTEGER = 2**63 - 1

UNSET_DOUBLE = "1.7976931348623157E308"
UNSET_INTEGER = "2147483647"
UNSET_LONG = "9223372036854775807"


class ProtocolError(ValueError):
    """The bytes are not the TWS protocol; a gateway closes the connection."""


class UnreadableRequest(ProtocolError):
    """A whole frame whose fields are not those of its message; a gateway says so and goes on."""


class FrameReader:
    """Cuts a byte stream into payloads, however the bytes are split."""

    def __init__(self) -> None:
        self._buffer = bytearray()
        # Where the next frame begins: cutting off each frame of a large burst would copy the rest of it each time.
        self._start = 0

    def feed(self, data: bytes) -> None:
        """Take what has arrived."""
        del self._buffer[: self._start]
        self._start = 0
        self._buffer += data

    def take(self, count: int) -> bytes | None:
        """The next `count` bytes outside any frame, or None until they have arrived."""
        if len(self._buffer) - self._start < count:
            return None
        self._start += count
        return bytes(self._buffer[self._start - count : self._start])

    def payloads(self) -> Iterator[bytes]:
        """Every complete payload. Raises ProtocolError for an impossible length."""
        while len(self._buffer) - self._start >= 4:
            (length,) = struct.unpack_from(">I", self._buffer, self._start)
            if not 0 < length <= MAX_FRAME_BYTES:
                raise ProtocolError(f"frame of {length} bytes")
            begin, end = self._start + 4, self._start + 4 + length
            if len(self._buffer) < end:
                return
            self._start = end
            yield bytes(self._buffer[begin:end])


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
        """The next field as it is. Raises UnreadableRequest past the end."""
        if self._next >= len(self._fields):
            raise UnreadableRequest("Socket I/O error - ")
        self._next += 1
        return self._fields[self._next - 1]

    def skip(self, count: int = 1) -> None:
        """Leave out fields that are of no consequence here."""
        for _ in range(count):
            self.text()

    def number(self, default: float = 0.0) -> float:
        """The next field as a float; `default` where it means none. Raises UnreadableRequest."""
        text = self.text()
        if text in ("", UNSET_INTEGER):
            return default
        if text in ("Infinite", "Infinity"):
            return float("inf")
        try:
            found = float(text)
        except ValueError:
            cause = f'Unable to parse data. java.lang.NumberFormatException: For input string: "{text[:40]}"'
            raise UnreadableRequest(cause) from None
        return default if found != found or abs(found) > 1e300 else found

    def integer(self, default: int = 0) -> int:
        """The next field as an int; `default` where it means none. Raises UnreadableRequest."""
        found = self.number(float(default))
        if abs(found) > MAX_INTEGER:
            raise UnreadableRequest("Unable to parse data. java.lang.NumberFormatException: Value out of range.")
        return int(found)

    def number_or_none(self) -> float | None:
        """The next field as a float; None where it means none. Raises UnreadableRequest."""
        found = self.number(float("nan"))
        return None if found != found else found

    def flag(self) -> bool:
        """The next field as a bool."""
        return self.text() in ("1", "true", "True")

    def pairs(self) -> list[tuple[str, str]]:
        """A count and as many pairs of tag and value."""
        return [(self.text(), self.text()) for _ in range(self.count())]

    def count(self) -> int:
        """A count of things that follow. Raises UnreadableRequest when there cannot be so many."""
        found = self.integer()
        if not 0 <= found <= self.left:
            raise UnreadableRequest(f"{found} things announced, {self.left} fields left")
        return found


def plain(value: float) -> str:
    """A number as TWS writes sizes and most prices: "100", "201.94", "0.00005"; never with an exponent."""
    if value == int(value):
        return str(int(value))
    text = repr(value)
    return text if "e" not in text else format(Decimal(text), "f")


def flag(value: bool) -> str:
    """A bool as TWS writes it."""
    return "1" if value else "0"
