"""A client that subscribes to so many lines and only cuts frames: what is left when decoding costs nothing."""

from __future__ import annotations

import json
import socket
import struct
import sys
import time
from collections.abc import Iterator

WARM_UP_S = 1.0
TICKS = frozenset((b"1", b"2", b"21", b"45", b"46"))

# The same lines as ib_ticks.py has: symbol, kind, exchange, right.
_STOCKS = ("AAPL", "MSFT", "AMZN", "TSLA", "NVDA", "SPY", "QQQ")
_FUTURES = ("ES", "MES", "NQ")


class Wire:
    """The TWS protocol, as far as it is needed here."""

    def __init__(self, port: int) -> None:
        self._socket = socket.create_connection(("127.0.0.1", port))
        self._socket.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        self._buffer = b""
        self._socket.sendall(b"API\0" + struct.pack(">I", 9) + b"v157..178")
        next(self.frames())
        self.send("71", "2", "1", "")

    def send(self, *fields: object) -> None:
        payload = "".join(f"{field}\0" for field in fields).encode()
        self._socket.sendall(struct.pack(">I", len(payload)) + payload)

    def frames(self) -> Iterator[bytes]:
        """Payloads as they come."""
        while True:
            begin, size = 0, len(self._buffer)
            while size - begin >= 4:
                (length,) = struct.unpack_from(">I", self._buffer, begin)
                if size - begin - 4 < length:
                    break
                payload = self._buffer[begin + 4 : begin + 4 + length]
                begin += 4 + length
                if begin == size:
                    self._buffer = b""
                yield payload
            self._buffer = self._buffer[begin:] + self._socket.recv(1 << 18)


def contracts(wire: Wire, lines: int) -> list[list[object]]:
    found: list[list[object]] = [["0", name, "STK", "", "", "", "", "SMART", "", "USD", "", ""] for name in _STOCKS]
    for symbol in _FUTURES:
        found += details(wire, symbol, "FUT", "CME", "")[:1]
    if lines > len(found):
        found += details(wire, "SPY", "OPT", "SMART", "C") + details(wire, "AAPL", "OPT", "SMART", "C")
    return found[:lines]


def details(wire: Wire, symbol: str, kind: str, exchange: str, right: str) -> list[list[object]]:
    """Contracts by their ids."""
    wire.send("9", "8", "9", "0", symbol, kind, "", "", right, "", exchange, "", "", "", "", "0", "", "", "")
    found: list[list[object]] = []
    for payload in wire.frames():
        fields = payload.split(b"\0")
        if fields[0] == b"52":
            return found
        if fields[0] == b"10":
            found.append([fields[12].decode(), "", "", "", "", "", "", exchange, "", "", "", ""])
    return found


def main(port: int, lines: int, seconds: float) -> None:
    wire = Wire(port)
    for number, contract in enumerate(contracts(wire, lines), 1000):
        wire.send("1", "11", number, *contract, "0", "", "0", "0", "")
    counted = 0
    frames = wire.frames()
    begin_at = time.perf_counter() + WARM_UP_S
    while time.perf_counter() < begin_at:
        next(frames)
    began, began_cpu = time.perf_counter(), time.process_time()
    end_at = began + seconds
    for number, payload in enumerate(frames):
        counted += payload.partition(b"\0")[0] in TICKS
        if number % 64 == 0 and time.perf_counter() >= end_at:
            break
    found = {"ticks": counted, "wall_s": time.perf_counter() - began, "cpu_s": time.process_time() - began_cpu}
    print(json.dumps(found))


if __name__ == "__main__":
    main(int(sys.argv[1]), int(sys.argv[2]), float(sys.argv[3]))
