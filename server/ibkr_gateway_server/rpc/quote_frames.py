"""Quotes as bytes: a quote is encoded once, however many streams it goes to.

What differs between two subscribers of one quote is its place: sequence, index and the count of those it replaced.
These few bytes are written here; the quote's own are shared. A frame is its events one after the other, which is what
a repeated field's encoding is. Source: Protocol Buffers, Encoding.
"""

from __future__ import annotations

from collections.abc import Iterable

from ibkr_gateway.v1 import market_data_service_pb2

from ibkr_gateway_server.domain.quotes import Quote
from ibkr_gateway_server.domain.streams import QuoteEvent
from ibkr_gateway_server.rpc import present
from ibkr_gateway_server.rpc.words import quote_event

_Event = market_data_service_pb2.QuoteEvent
_LEN = 2
# More contracts than have lines at a time.
KEPT = 512


def _tag(descriptor: object, name: str, wire_type: int = 0) -> bytes:
    """A field's tag, by its name in the contract; numbers below 16 take one byte."""
    number: int = descriptor.fields_by_name[name].number  # type: ignore[attr-defined]  # protobuf's own
    assert number < 16
    return bytes((number << 3 | wire_type,))


_EVENTS = _tag(market_data_service_pb2.StreamQuotesResponse.DESCRIPTOR, "events", _LEN)
_SEQUENCE = _tag(_Event.DESCRIPTOR, "sequence")
_INDEX = _tag(_Event.DESCRIPTOR, "instrument_index")
_CONFLATED = _tag(_Event.DESCRIPTOR, "conflated_count")
_QUOTE = _tag(_Event.DESCRIPTOR, "quote", _LEN)
_ANSWER = _tag(market_data_service_pb2.GetQuoteResponse.DESCRIPTOR, "quote", _LEN)


class QuoteFrames:
    """Encodes batches of quote events; remembers the newest quote of each contract. `source` goes into each quote."""

    def __init__(self, source: str) -> None:
        self._source = source
        self._newest: dict[int, tuple[Quote, bytes]] = {}
        self._snapshots: dict[int, tuple[Quote, bytes]] = {}

    def frame(self, events: Iterable[QuoteEvent], correlation_id: str) -> bytes:
        """One StreamQuotesResponse."""
        parts: list[bytes] = []
        newest = self._newest
        for event in events:
            sequence, happening, index, conflated_count = event
            if not isinstance(happening, Quote):
                body = quote_event(event, self._source, correlation_id).SerializeToString()
                parts += (_EVENTS, varint(len(body)), body)
                continue
            known = newest.get(happening.instrument.con_id)
            if known is not None and known[0] is happening:
                quote = known[1]
            else:
                quote = self._kept(newest, _QUOTE, happening, is_snapshot=False)
            # A number that is 0 is left out.
            place = _SEQUENCE + varint(sequence)
            if index:
                place += _INDEXES[index] if 0 < index < 100 else _INDEX + varint(index)
            if conflated_count:
                place += _CONFLATED + varint(conflated_count)
            size = len(place) + len(quote)
            parts += (_EVENTS, _SHORT[size] if size < 0x4000 else varint(size), place, quote)
        return b"".join(parts)

    def snapshot(self, quote: Quote) -> bytes:
        """A GetQuoteResponse."""
        return self._kept(self._snapshots, _ANSWER, quote, is_snapshot=True)

    def _kept(self, newest: dict[int, tuple[Quote, bytes]], tag: bytes, quote: Quote, *, is_snapshot: bool) -> bytes:
        """The quote with its tag and length: made anew only when it is another than the last of its contract."""
        con_id = quote.instrument.con_id
        kept = newest.get(con_id)
        if kept is not None and kept[0] is quote:
            return kept[1]
        encoded = present.quote(quote, self._source, is_snapshot=is_snapshot).SerializeToString()
        encoded = b"".join((tag, varint(len(encoded)), encoded))
        if len(newest) >= KEPT:
            newest.clear()
        newest[con_id] = quote, encoded
        return encoded


# Numbers below 2^14 as they are written, and as the first two bytes of a longer one.
_SHORT = tuple(bytes((n,)) if n < 0x80 else bytes((n & 0x7F | 0x80, n >> 7)) for n in range(0x4000))
_BEGIN = tuple(bytes((n & 0x7F | 0x80, n >> 7 | 0x80)) for n in range(0x4000))


def varint(value: int) -> bytes:
    """A number in as few bytes as it needs; a negative one takes ten."""
    if 0 <= value < 0x4000:
        return _SHORT[value]
    value &= 0xFFFFFFFFFFFFFFFF
    return _BEGIN[value & 0x3FFF] + varint(value >> 14)


_INDEXES = tuple(_INDEX + varint(index) for index in range(100))
