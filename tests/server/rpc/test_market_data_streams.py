"""Live bars and order books through a real channel, on the simulator."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from contextlib import aclosing
from typing import Any

import pytest
from ibkr_gateway import InvalidRequest, NotFound, Refused, bar_size, duration, index, stock
from ibkr_gateway.v1 import gateway_service_pb2 as gateway_pb
from ibkr_gateway.v1 import market_data_service_pb2 as pb

from tests.conftest import Gateway, eventually


async def take(call: Any, enough: Callable[[Any], bool]) -> list[Any]:
    """Events of a stream until one satisfies `enough`; the call is ended then."""
    events: list[Any] = []
    async with asyncio.timeout(30), aclosing(call):
        async for response in call:
            assert response.events
            events += response.events
            if any(enough(event) for event in response.events):
                break
    return events


def is_a(kind: str) -> Callable[[Any], bool]:
    return lambda event: event.WhichOneof("event") == kind


def bars_request(**changed: Any) -> pb.StreamBarsRequest:
    return pb.StreamBarsRequest(**{"instrument": stock("AAPL"), "bar_size": bar_size("5 secs"), **changed})


async def limits(gateway: Gateway) -> dict[str, tuple[int, int]]:
    told = await gateway.client.gateway.GetUsage(gateway_pb.GetUsageRequest())
    return {limit.name: (limit.used_count, limit.limit_count) for limit in told.limits}


async def test_bars_begin_with_history_between_marks_and_go_on(gateway: Gateway) -> None:
    request = bars_request(duration=duration("1 D"))
    is_growing = [False]

    def enough(event: Any) -> bool:
        is_growing[0] = is_growing[0] or event.WhichOneof("event") == "snapshot_end"
        return is_growing[0] and event.WhichOneof("event") == "bar"

    events = await take(gateway.client.market_data.StreamBars(request), enough)
    kinds = [event.WhichOneof("event") for event in events]
    assert kinds[0] == "snapshot_begin"
    assert kinds.index("snapshot_end") > 500
    assert [event.sequence for event in events] == list(range(1, len(events) + 1))
    starts = [event.bar.start_time.ToSeconds() for event in events[1 : kinds.index("snapshot_end")]]
    assert starts == sorted(set(starts))
    assert events[-1].bar.start_time.ToSeconds() >= starts[-1]
    assert (await limits(gateway))["live_bars"] == (1, 40)


async def test_a_bar_stream_that_ends_gives_its_feed_back(gateway: Gateway) -> None:
    await take(gateway.client.market_data.StreamBars(bars_request(real_time=True)), is_a("bar"))
    assert (await limits(gateway))["real_time_bars"] == (1, 100)
    await eventually(lambda: gateway.simulator.frames_received(51) == 1)
    assert (await limits(gateway))["real_time_bars"] == (0, 100)


@pytest.mark.parametrize(
    ("changed", "field"),
    [
        ({"bar_size": pb.BAR_SIZE_UNSPECIFIED}, "bar_size"),
        ({"bar_size": pb.BAR_SIZE_1_SEC}, "bar_size"),
        ({"bar_size": pb.BAR_SIZE_1_MIN, "real_time": True}, "bar_size"),
        ({"what_to_show": pb.WHAT_TO_SHOW_BID_ASK}, "what_to_show"),
        ({"duration": pb.HistoryDuration(value=1, unit=pb.DURATION_UNIT_DAY), "real_time": True}, "duration"),
        ({"duration": pb.HistoryDuration()}, "duration.unit"),
        ({"duration": pb.HistoryDuration(value=86401, unit=pb.DURATION_UNIT_SECOND)}, "duration.value"),
    ],
)
async def test_bars_that_cannot_be_are_refused_by_field(gateway: Gateway, changed: dict[str, Any], field: str) -> None:
    with pytest.raises(InvalidRequest, match=field) as refused:
        await take(gateway.client.market_data.StreamBars(bars_request(**changed)), is_a("bar"))
    assert refused.value.reason == "FIELD_INVALID"


async def test_bars_that_the_login_may_not_see_end_with_the_reason(gateway: Gateway) -> None:
    forbidden = bars_request(instrument=stock("IBM"), real_time=True)
    (event,) = await take(gateway.client.market_data.StreamBars(forbidden), is_a("error"))
    assert event.error.error_code == "MARKET_DATA_NOT_SUBSCRIBED"
    with pytest.raises(Refused) as refused:
        await take(gateway.client.market_data.StreamBars(forbidden), is_a("bar"))
    assert refused.value.reason == "MARKET_DATA_NOT_SUBSCRIBED"
    with pytest.raises(NotFound):
        await take(gateway.client.market_data.StreamBars(bars_request(instrument=stock("AAPLL"))), is_a("bar"))


async def test_a_book_is_told_whole_with_its_venues(gateway: Gateway) -> None:
    request = pb.StreamMarketDepthRequest(instrument=stock("AAPL"), row_count=3)
    (event, *_) = await take(gateway.client.market_data.StreamMarketDepth(request), is_a("depth"))
    bids, asks = [row.price for row in event.depth.bids], [row.price for row in event.depth.asks]
    assert (len(bids), len(asks)) == (3, 3)
    assert max(bids) == bids[0] <= asks[0] == min(asks)
    assert all(row.venue and row.size > 0 for row in event.depth.bids)
    assert (await limits(gateway))["depth_requests"] == (1, 3)
    await eventually(lambda: gateway.simulator.frames_received(11) == 1)


async def test_books_that_cannot_be_are_refused(gateway: Gateway) -> None:
    stream = gateway.client.market_data.StreamMarketDepth
    for count in (0, 21):
        with pytest.raises(InvalidRequest, match="row_count"):
            await take(stream(pb.StreamMarketDepthRequest(instrument=stock("AAPL"), row_count=count)), is_a("depth"))
    with pytest.raises(NotFound) as no_book:
        await take(stream(pb.StreamMarketDepthRequest(instrument=index("SPX"))), is_a("depth"))
    assert no_book.value.reason == "NO_DATA"
