"""Frames made of shared bytes are the messages that the stubs would have made."""

from __future__ import annotations

from dataclasses import replace
from datetime import UTC, datetime

from hypothesis import given
from hypothesis import strategies as st
from ibkr_gateway.v1 import market_data_service_pb2 as pb
from ibkr_gateway_server.domain.errors import MarketDataLines
from ibkr_gateway_server.domain.instruments import Instrument, SecurityType
from ibkr_gateway_server.domain.quotes import Greeks, MarketDataType, Quote
from ibkr_gateway_server.domain.streams import Gap, QuoteEvent, QuoteHappening, SnapshotBegin, SnapshotEnd
from ibkr_gateway_server.rpc import present
from ibkr_gateway_server.rpc.quote_frames import QuoteFrames, varint
from ibkr_gateway_server.rpc.words import quote_event

NOW = datetime(2026, 11, 23, 15, tzinfo=UTC)
PRICES = st.none() | st.floats(-1e6, 1e6)

quotes = st.builds(
    Quote,
    instrument=st.builds(
        Instrument,
        con_id=st.integers(1, 2**31),
        symbol=st.text(max_size=8),
        security_type=st.sampled_from(SecurityType),
    ),
    receive_time=st.datetimes(datetime(2020, 1, 1), datetime(2030, 1, 1), timezones=st.just(UTC)),
    market_data_type=st.none() | st.sampled_from(MarketDataType),
    bid_price=PRICES,
    ask_price=PRICES,
    last_price=PRICES,
    bid_size=PRICES,
    volume=PRICES,
    is_stale=st.booleans(),
    halted=st.none() | st.booleans(),
    greeks=st.none() | st.builds(Greeks, delta=PRICES),
)
happenings: st.SearchStrategy[QuoteHappening] = quotes | st.sampled_from(
    [SnapshotBegin(), SnapshotEnd(), Gap("BROKER_DISCONNECTED", NOW), MarketDataLines(1, 1)]
)
events = st.lists(
    st.builds(
        QuoteEvent,
        sequence=st.integers(1, 2**62),
        happening=happenings,
        instrument_index=st.integers(-1, 200),
        conflated_count=st.integers(0, 2**40),
    ),
    max_size=8,
)


@given(batches=st.lists(events, max_size=4))
def test_a_frame_is_the_message_of_its_events(batches: list[list[QuoteEvent]]) -> None:
    frames = QuoteFrames("IBKR")
    for batch in batches:
        made = pb.StreamQuotesResponse.FromString(frames.frame(batch, "id"))
        assert made == pb.StreamQuotesResponse(events=[quote_event(event, "IBKR", "id") for event in batch])


@given(st.integers(-(2**63), 2**63 - 1))
def test_a_number_is_encoded_as_protobuf_does(value: int) -> None:
    whole = pb.QuoteEvent(sequence=value).SerializeToString()
    assert varint(value) == whole[1:] or value == 0


def test_two_quotes_of_one_contract_are_told_apart() -> None:
    first = Quote(Instrument(con_id=1, symbol="AAPL"), NOW, bid_price=1.0)
    second = replace(first, bid_price=2.0)
    frames = QuoteFrames("IBKR")
    told = [
        pb.StreamQuotesResponse.FromString(frames.frame([QuoteEvent(1, quote, 0)], "id")).events[0].quote.bid_price
        for quote in (first, second, first)
    ]
    assert told == [1.0, 2.0, 1.0]


@given(quotes)
def test_a_snapshot_is_an_answer_that_says_so(quote: Quote) -> None:
    frames = QuoteFrames("IBKR")
    for _ in range(2):
        answer = pb.GetQuoteResponse.FromString(frames.snapshot(quote))
        assert answer == pb.GetQuoteResponse(quote=present.quote(quote, "IBKR", is_snapshot=True))
    (event,) = pb.StreamQuotesResponse.FromString(frames.frame([QuoteEvent(1, quote, 0)], "id")).events
    assert not event.quote.is_snapshot
