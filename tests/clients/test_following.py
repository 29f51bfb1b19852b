"""What a stream that is kept for good remembers and says, without a connection."""

from __future__ import annotations

from typing import Any

import grpc
import pytest
from ibkr_gateway import Exhausted, GatewayError, InvalidRequest, MarketState, Unavailable, stock
from ibkr_gateway.following import BACKOFF_LIMIT_S, OrderFollowing, QuoteFollowing
from ibkr_gateway.v1 import common_pb2 as common
from ibkr_gateway.v1 import market_data_service_pb2 as market
from ibkr_gateway.v1 import orders_service_pb2 as orders
from ibkr_gateway.v1.error_reason_pb2 import GatewayError as ErrorMessage

LOST = Unavailable("gone", code=grpc.StatusCode.UNAVAILABLE)
SLOW = Exhausted("slow", code=grpc.StatusCode.RESOURCE_EXHAUSTED, reason="SLOW_CONSUMER")


def order_frame(*events: dict[str, Any]) -> orders.StreamOrderEventsResponse:
    return orders.StreamOrderEventsResponse(events=[orders.OrderEvent(**event) for event in events])


def quote_frame(*events: dict[str, Any]) -> market.StreamQuotesResponse:
    return market.StreamQuotesResponse(events=[market.QuoteEvent(**event) for event in events])


def quote(index: int = 0, bid: float = 1.0, **fields: Any) -> dict[str, Any]:
    return {"instrument_index": index, "quote": market.Quote(bid_price=bid, **fields)}


HEARTBEAT: dict[str, Any] = {"instrument_index": -1, "heartbeat": common.Heartbeat()}


@pytest.fixture
def quotes() -> QuoteFollowing:
    return QuoteFollowing([stock("AAPL"), stock("MSFT")], 0.0, 5.0)


def test_orders_are_asked_for_from_the_cursor_and_after_a_loss_from_the_last_one_seen() -> None:
    following = OrderFollowing(7, "", 15.0)
    assert following.request().resume_after_sequence == 7
    following.take(order_frame({"sequence": 9}, {"heartbeat": common.Heartbeat()}))
    following.lost(LOST)
    assert following.request().resume_after_sequence == 9


def test_a_snapshot_is_asked_for_again_until_one_was_whole() -> None:
    following = OrderFollowing(None, "", 15.0)
    following.cursor = 5
    following.take(order_frame({"snapshot_begin": common.SnapshotBegin()}, {"sequence": 3}))
    following.lost(LOST)
    assert not following.request().HasField("resume_after_sequence")
    following.take(order_frame({"snapshot_begin": common.SnapshotBegin()}, {"snapshot_end": common.SnapshotEnd()}))
    assert following.request().resume_after_sequence == 5


def test_a_lost_gateway_is_one_gap_however_often_it_is_tried_and_then_resumed() -> None:
    following = OrderFollowing(0, "", 15.0)
    (gap,) = following.lost(LOST)
    assert gap.gap.reason == "GATEWAY_DISCONNECTED"
    assert following.lost(LOST) == []
    resumed, event = following.take(order_frame({"sequence": 1}))
    assert resumed.resumed.recovered
    assert resumed.resumed.gap_start_time == gap.gap.start_time
    assert event.sequence == 1


def test_a_reader_that_was_too_slow_is_told_so() -> None:
    (gap,) = OrderFollowing(0, "", 15.0).lost(SLOW)
    assert gap.gap.reason == "SLOW_CONSUMER"


@pytest.mark.parametrize(
    "error",
    [
        InvalidRequest("old", code=grpc.StatusCode.OUT_OF_RANGE, reason="RESUME_TOO_OLD"),
        Exhausted("many", code=grpc.StatusCode.RESOURCE_EXHAUSTED, reason="TOO_MANY_STREAMS"),
        GatewayError("bug", code=grpc.StatusCode.INTERNAL, reason="BUG"),
    ],
    ids=lambda error: error.reason,
)
def test_an_error_that_trying_again_does_not_help_is_raised(error: GatewayError, quotes: QuoteFollowing) -> None:
    for following in (OrderFollowing(0, "", 15.0), quotes):
        with pytest.raises(type(error)):
            following.lost(error)


def test_waits_grow_to_a_limit_and_begin_again_once_something_came() -> None:
    following = OrderFollowing(0, "", 15.0)
    waits = [following.backoff_s() for _ in range(10)]
    assert waits == sorted(waits)
    assert (waits[0] < 1, waits[-1]) == (True, BACKOFF_LIMIT_S)
    following.take(order_frame({"sequence": 1}))
    assert following.backoff_s() == waits[0]


def test_a_quote_is_live_then_quiet_after_a_heartbeat_without_news(quotes: QuoteFollowing) -> None:
    (update,) = quotes.take(quote_frame(quote()))
    assert (update.instrument.symbol, update.state) == ("AAPL", MarketState.LIVE)
    assert quotes.take(quote_frame(HEARTBEAT)) == []
    (update,) = quotes.take(quote_frame(HEARTBEAT))
    assert update.state is MarketState.QUIET
    assert update.quote is not None
    assert quotes.take(quote_frame(HEARTBEAT)) == []


def test_a_gap_of_all_is_told_of_each_and_once(quotes: QuoteFollowing) -> None:
    quotes.take(quote_frame(quote(0), quote(1)))
    gap = {"instrument_index": -1, "gap": common.Gap(reason="BROKER_DISCONNECTED")}
    updates = quotes.take(quote_frame(gap))
    assert [(update.instrument.symbol, update.state, update.reason) for update in updates] == [
        ("AAPL", MarketState.GAP, "BROKER_DISCONNECTED"),
        ("MSFT", MarketState.GAP, "BROKER_DISCONNECTED"),
    ]
    assert quotes.take(quote_frame(gap)) == []


def test_a_heartbeat_does_not_make_a_gap_or_a_stale_quote_look_well(quotes: QuoteFollowing) -> None:
    quotes.take(quote_frame(quote(0), quote(1)))
    gap = {"instrument_index": 0, "gap": common.Gap(reason="FARM_DOWN")}
    quotes.take(quote_frame(gap, {"instrument_index": 1, "stale": common.Stale(reason="NO_TICKS")}))
    assert quotes.take(quote_frame(HEARTBEAT, HEARTBEAT)) == []


def test_a_quote_that_comes_stale_is_stale(quotes: QuoteFollowing) -> None:
    (update,) = quotes.take(quote_frame(quote(is_stale=True)))
    assert update.state is MarketState.STALE


def test_an_instrument_that_has_ended_stays_so_and_the_others_go_on(quotes: QuoteFollowing) -> None:
    error = {"instrument_index": 1, "error": ErrorMessage(error_code="CONTRACT_NOT_FOUND")}
    (ended,) = quotes.take(quote_frame(error))
    assert (ended.state, ended.reason, ended.quote) == (MarketState.ENDED, "CONTRACT_NOT_FOUND", None)
    (gap,) = quotes.lost(LOST)
    assert (gap.instrument.symbol, gap.reason) == ("AAPL", "GATEWAY_DISCONNECTED")
