"""From bytes to callbacks: frames are cut by offset, ticks decoded at once, the rest handed to the library's decoder.

The library's own reader slices its whole buffer anew for every message, which makes a burst cost the square of its size
(a megabyte that arrives in one piece stops the event loop for seconds), waits for ever behind a length that cannot be
true, and tells nobody of what it could not read. This one stands in its place:

- A long read is worked off in slices, between which the loop serves everybody else; reading pauses meanwhile.
- A length that no message has ends the connection at once.
- What cannot be decoded is counted by kind, fails the request that it answers, and is told; a kind that nobody knows is
  counted and left out.
- The four messages that ticks come in are decoded here, on bytes; they are nearly all that ever arrives.
"""

from __future__ import annotations

import asyncio
import hashlib
import logging
import math
import sys
from collections.abc import Callable
from struct import Struct
from typing import Any

from ibkr_gateway_server.broker import ib
from ibkr_gateway_server.broker.callbacks import FIRST_REQUEST_ID, Callbacks
from ibkr_gateway_server.domain.tallies import DECODE_ERRORS, FRAMES_AFTER_END, UNKNOWN_MESSAGES, Tallies

log = logging.getLogger(__name__)

# The longest message there is, the list of scanner parameters, has two megabytes; IBKR's own client stops at 16.
MAX_FRAME = 16 * 1024 * 1024
# Bytes that are worked off before the loop has its turn again: about two thousand ticks, five milliseconds. Counted in
# bytes and not in time, so that the same bytes do the same things in the same order in every run.
SLICE = 64 * 1024

# position, updatePortfolio: one of them that is not read is a holding that is not known.
ABOUT_POSITIONS = frozenset({7, 61})

_LENGTH = Struct(">I")
_Fast = Callable[[list[bytes]], None]


class FrameReader:
    """Reads one connection's socket in the library's place. Made once for each client, before it connects."""

    def __init__(self, client: ib.Client, callbacks: Callbacks, tallies: Tallies) -> None:
        self.protocol_error = ""
        """Why the bytes made no sense and the connection was ended; empty: they did."""
        self._client = client
        self._conn = client.conn
        self._callbacks = callbacks
        self._tallies = tallies
        self._pieces: list[bytes] = []
        self._waiting = 0
        self._needed = 4
        self._continuing: asyncio.Handle | None = None
        self._current = b""
        self._fast: dict[bytes, _Fast] = {
            b"1": self._tick_price,
            b"2": self._tick_size,
            b"45": self._tick_generic,
            b"46": self._tick_string,
        }
        client.decoder.logger = DecoderFaults(self._undecodable)  # type: ignore[assignment]  # a logger's stand-in
        # asyncio calls these two on the connection; the library's own end follows ours.
        self._library_lost: Callable[[Exception | None], None] = client.conn.connection_lost
        client.conn.data_received = self.data_received  # type: ignore[method-assign]
        client.conn.connection_lost = self.connection_lost  # type: ignore[method-assign]

    # --- what asyncio calls --------------------------------------------------------------------------------------

    def data_received(self, data: bytes) -> None:
        """Take what one read has brought."""
        self._callbacks.tcpDataArrived()
        self._pieces.append(data)
        self._waiting += len(data)
        if self._continuing is None and self._waiting >= self._needed:
            self._work(SLICE)

    def connection_lost(self, error: Exception | None) -> None:
        """The socket is gone: whole messages that came before its end still count."""
        if self._continuing is not None:
            self._continuing.cancel()
            self._continuing = None
            self._tallies.add(FRAMES_AFTER_END, by=self._work(sys.maxsize))
        self.stop()
        self._library_lost(error)

    @property
    def is_idle(self) -> bool:
        """True when all that has come is worked off, but for a message that is not whole."""
        return self._continuing is None

    def stop(self) -> None:
        """Read no more."""
        self._pieces, self._waiting, self._needed = [], 0, sys.maxsize
        if self._continuing is not None:
            self._continuing.cancel()
            self._continuing = None

    # --- cutting -------------------------------------------------------------------------------------------------

    def _work(self, limit: int) -> int:
        """Work off what waits, up to `limit` bytes and the message that they end in. Returns how many there were."""
        data = self._pieces[0] if len(self._pieces) == 1 else b"".join(self._pieces)
        begin, end, count = 0, len(data), 0
        fast, unpack = self._fast, _LENGTH.unpack_from
        self._needed = 4
        while end - begin >= 4 and begin < limit:
            (length,) = unpack(data, begin)
            if not 0 < length <= MAX_FRAME:
                self._end(f"a message of {length} bytes")
                return count
            after = begin + 4 + length
            if after > end:
                self._needed = 4 + length
                break
            payload = data[begin + 4 : after]
            begin, count = after, count + 1
            fields = payload.split(b"\0")
            decode = fast.get(fields[0])
            if decode is not None and len(fields) > 5:
                try:
                    decode(fields)
                    continue
                except ValueError:
                    # The library's decoder says what is wrong with it.
                    pass
            self._decode(payload)
            if self._needed == sys.maxsize:
                # Stopped by what it said.
                return count
        rest = data[begin:] if begin else data
        self._pieces, self._waiting = ([rest], len(rest)) if rest else ([], 0)
        self._callbacks.tcpDataProcessed()
        if begin >= limit and self._needed != sys.maxsize:
            self._pause_reading()
            self._continuing = asyncio.get_running_loop().call_soon(self._continue)
        return count

    def _continue(self) -> None:
        self._continuing = None
        self._work(SLICE)
        transport = self._conn.transport
        if self._continuing is None and transport is not None and not transport.is_closing():
            transport.resume_reading()

    def _pause_reading(self) -> None:
        transport = self._conn.transport
        if transport is not None and not transport.is_closing():
            transport.pause_reading()

    def _end(self, why: str) -> None:
        """These bytes are not TWS's: nothing after them can be trusted."""
        log.error("TWS's bytes make no sense; the connection is ended", extra={"found": why})
        self.stop()
        self.protocol_error = why
        if self._conn.transport is not None:
            self._conn.transport.abort()

    # --- decoding ------------------------------------------------------------------------------------------------

    def _decode(self, payload: bytes) -> None:
        """One message by the library's decoder."""
        self._current = payload
        if not self._client.isReady():
            # The greeting, whose rules the library knows: its own reader gets it, a whole frame at a time.
            self._client._onSocketHasData(_LENGTH.pack(len(payload)) + payload)
            return
        fields = payload.decode(errors="backslashreplace").split("\0")
        fields.pop()
        if (
            fields
            and fields[0].isascii()
            and fields[0].isdigit()
            and int(fields[0]) not in self._client.decoder.handlers
        ):
            self._tallies.add(UNKNOWN_MESSAGES, fields[0][:10])
            return
        self._client.decoder.interpret(fields)

    def _undecodable(self, fault: BaseException | None) -> None:
        """The decoder could not read the current message, or what it called failed."""
        payload = self._current
        fields = payload.split(b"\0", 5)
        message_id = _int_or(fields[0], 0)
        self._tallies.add(DECODE_ERRORS, str(message_id))
        # The message's content is somebody's account; its hash tells two of them apart.
        digest = hashlib.sha256(payload).hexdigest()[:16]
        extra = {"message_id": message_id, "digest": digest, "error": type(fault).__name__}
        log.error("a message from TWS could not be read", extra=extra)
        for field in fields[1:5]:
            # Ids of requests are told from every other number by their size.
            if _int_or(field, 0) >= FIRST_REQUEST_ID:
                self._callbacks.unreadable(_int_or(field, 0))
        if message_id in ABOUT_POSITIONS and self._callbacks.account_listener is not None:
            self._callbacks.account_listener.position_unreadable()
        self._callbacks.on_undecodable(message_id, digest)

    # Source: TWS API, tickPrice (1: version, id, type, price, size, mask), tickSize (2), tickGeneric (45), tickString
    # (46: version, id, type, value). A price or size that is no number is one that TWS does not know.

    def _tick_price(self, fields: list[bytes]) -> None:
        sink = self._callbacks.sink(int(fields[2]))
        if sink is not None:
            sink.tick_price(int(fields[3]), _number(fields[4]), _number(fields[5]) if fields[5] else 0.0)

    def _tick_size(self, fields: list[bytes]) -> None:
        sink = self._callbacks.sink(int(fields[2]))
        if sink is not None:
            sink.tick_size(int(fields[3]), _number(fields[4]))

    def _tick_generic(self, fields: list[bytes]) -> None:
        sink = self._callbacks.sink(int(fields[2]))
        if sink is not None:
            sink.tick_generic(int(fields[3]), _number(fields[4]))

    def _tick_string(self, fields: list[bytes]) -> None:
        sink = self._callbacks.sink(int(fields[2]))
        if sink is not None:
            sink.tick_string(int(fields[3]), fields[4].decode(errors="backslashreplace"))


class DecoderFaults:
    """Stands in for the decoder's logger: what it could not read is reported, not only printed.

    The library catches every error of decoding and of our callbacks, logs it with the message's fields (account numbers
    among them) and goes on as if nothing had happened; a lost execution would pass unnoticed.
    """

    def __init__(self, report: Callable[[BaseException | None], None]) -> None:
        self._report = report

    def exception(self, _text: str, *_args: object) -> None:
        """Called by the decoder from its except clauses."""
        self._report(sys.exc_info()[1])

    def __getattr__(self, _name: str) -> Callable[..., None]:
        return _ignore_anything


def _number(text: bytes) -> float:
    try:
        return float(text)
    except ValueError:
        return math.nan


def _int_or(text: bytes, otherwise: int) -> int:
    try:
        return int(text)
    except ValueError:
        return otherwise


def _ignore_anything(*_args: Any, **_kwargs: Any) -> None: ...
