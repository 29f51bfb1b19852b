"""Many subscriptions on one connection, through a real channel, on the simulator."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from typing import Any

from google.protobuf.duration_pb2 import Duration
from ibkr_gateway import stock
from ibkr_gateway.v1 import market_data_service_pb2 as pb
from ibkr_gateway_server.simulator import Fault

from tests.conftest import Gateway, eventually
from tests.failures.conftest import inject

QUOTES, DEPTH = pb.MARKET_DATA_CHANNEL_QUOTES, pb.MARKET_DATA_CHANNEL_DEPTH
TICKS, BARS = pb.MARKET_DATA_CHANNEL_TICKS, pb.MARKET_DATA_CHANNEL_REAL_TIME_BARS
# Requests: reqMktData and its end; the ends of books, ticks and bars of five seconds.
LINE, END_LINE, END_DEPTH, END_BARS, END_TICKS = 1, 2, 11, 51, 98


class Connection:
    """A client's side of the call: commands out, events in."""

    def __init__(self, gateway: Gateway) -> None:
        self.events: list[pb.MarketDataEvent] = []
        self.is_ended = False
        self._commands: asyncio.Queue[pb.SubscribeMarketDataRequest | None] = asyncio.Queue()
        self._call = gateway.client.market_data.SubscribeMarketData(self._given())
        self.reading = asyncio.ensure_future(self._read())

    def say(self, request_id: str, **command: Any) -> None:
        self._commands.put_nowait(pb.SubscribeMarketDataRequest(request_id=request_id, **command))

    def want(self, request_id: str, symbol: str, channel: int, **more: Any) -> None:
        wanted = pb.MarketDataSubscription(instrument=stock(symbol), channel=channel, **more)  # type: ignore[arg-type]
        self.say(request_id, subscribe=wanted)

    def close_side(self) -> None:
        self._commands.put_nowait(None)

    def of(self, request_id: str, kind: str = "") -> list[pb.MarketDataEvent]:
        return [e for e in self.events if e.request_id == request_id and kind in ("", e.WhichOneof("event"))]

    async def heard(self, request_id: str, kind: str) -> pb.MarketDataEvent:
        """The first event of a kind under an id."""
        await self.until(lambda: self.of(request_id, kind))
        return self.of(request_id, kind)[0]

    async def until(self, condition: Callable[[], Any]) -> None:
        await eventually(lambda: condition() or self.reading.done(), 20)
        assert condition(), [(e.request_id, e.WhichOneof("event")) for e in self.events]

    async def _given(self) -> AsyncIterator[pb.SubscribeMarketDataRequest]:
        while (command := await self._commands.get()) is not None:
            yield command

    async def _read(self) -> None:
        async for response in self._call:
            assert response.events
            self.events += response.events
        self.is_ended = True


@asynccontextmanager
async def connected(gateway: Gateway) -> AsyncIterator[Connection]:
    connection = Connection(gateway)
    try:
        yield connection
    finally:
        connection.reading.cancel()
        await asyncio.gather(connection.reading, return_exceptions=True)


async def test_every_channel_is_accepted_with_its_contract_and_its_values_come_under_its_id(gateway: Gateway) -> None:
    async with connected(gateway) as connection:
        connection.want("q", "AAPL", QUOTES)
        connection.want("d", "AAPL", DEPTH, depth_row_count=3)
        connection.want("t", "AAPL", TICKS, tick_type=pb.TICK_TYPE_BID_ASK)
        connection.want("b", "MSFT", BARS)
        assert (await connection.heard("q", "quote")).quote.instrument.symbol == "AAPL"
        assert len((await connection.heard("d", "depth")).depth.bids) == 3
        assert (await connection.heard("t", "tick")).tick.HasField("bid_price")
        assert (await connection.heard("b", "bar")).bar.is_complete
        accepted = {e.request_id: e.accepted.instrument.con_id for e in connection.events if e.HasField("accepted")}
        assert accepted == {"q": 265598, "d": 265598, "t": 265598, "b": 272093}
        for request_id in "qdtb":
            assert connection.of(request_id)[0].WhichOneof("event") == "accepted"
        connection.say("l", list=pb.ListSubscriptions())
        assert list((await connection.heard("l", "subscriptions")).subscriptions.request_ids) == ["q", "d", "t", "b"]
        sequences = [event.sequence for event in connection.events]
        assert sequences == list(range(1, len(sequences) + 1))


async def test_unsubscribing_ends_that_subscription_and_gives_its_line_back(gateway: Gateway) -> None:
    async with connected(gateway) as connection:
        connection.want("one", "AAPL", QUOTES)
        connection.want("two", "MSFT", QUOTES)
        await connection.heard("one", "quote")
        await connection.heard("two", "quote")
        connection.say("x", unsubscribe_request_id="one")
        await connection.heard("x", "accepted")
        told, others = len(connection.of("one")), len(connection.of("two"))
        await eventually(lambda: gateway.simulator.frames_received(END_LINE) == 1)
        await connection.until(lambda: len(connection.of("two")) > others)
        assert len(connection.of("one")) == told
        # Its id may be used again.
        connection.want("one", "SPY", QUOTES)
        await connection.until(lambda: connection.of("one")[-1].quote.instrument.symbol == "SPY")
        assert gateway.simulator.frames_received(END_LINE) == 1


async def test_what_is_wrong_with_one_command_is_its_answer_and_nobody_elses_end(gateway: Gateway) -> None:
    async with connected(gateway) as connection:
        connection.want("good", "AAPL", QUOTES)
        await connection.heard("good", "accepted")
        connection.want("good", "MSFT", QUOTES)
        connection.want("rows", "AAPL", DEPTH, depth_row_count=21)
        connection.want("kind", "AAPL", TICKS)
        connection.want("channel", "AAPL", pb.MARKET_DATA_CHANNEL_UNSPECIFIED)
        connection.want("name", "", QUOTES)
        connection.say("nothing")
        connection.say("", list=pb.ListSubscriptions())
        connection.say("i" * 65, list=pb.ListSubscriptions())
        connection.say("nobody", unsubscribe_request_id="who")
        connection.say("fast", heartbeat_interval=Duration(nanos=1))
        connection.want("unknown", "AAPLL", QUOTES)
        connection.want("forbidden", "IBM", QUOTES)
        connection.want("forbidden book", "IBM", DEPTH)
        connection.want("forbidden ticks", "IBM", TICKS, tick_type=pb.TICK_TYPE_LAST)
        found = {}
        for request_id in (
            *("good", "rows", "kind", "channel", "name", "nothing", "", "i" * 64, "nobody", "fast", "unknown"),
            *("forbidden", "forbidden book", "forbidden ticks"),
        ):
            error = (await connection.heard(request_id, "error")).error
            found[request_id] = error.error_code
        assert found == {
            **dict.fromkeys(("good", "rows", "kind", "channel", "name", "", "i" * 64), "FIELD_INVALID"),
            **dict.fromkeys(("nobody", "fast"), "FIELD_INVALID"),
            "nothing": "REQUEST_MALFORMED",
            "unknown": "CONTRACT_NOT_FOUND",
            **dict.fromkeys(("forbidden", "forbidden book", "forbidden ticks"), "MARKET_DATA_NOT_SUBSCRIBED"),
        }
        before = len(connection.of("good", "quote"))
        await connection.until(lambda: len(connection.of("good", "quote")) > before)
        connection.say("l", list=pb.ListSubscriptions())
        assert list((await connection.heard("l", "subscriptions")).subscriptions.request_ids) == ["good"]


async def test_flapping_costs_no_more_than_the_linger_allows(gateway: Gateway) -> None:
    async with connected(gateway) as connection:
        for number in range(50):
            connection.want(str(number), "AAPL", QUOTES)
            await connection.heard(str(number), "accepted")
            connection.say(f"x{number}", unsubscribe_request_id=str(number))
            await connection.heard(f"x{number}", "accepted")
        assert not [event for event in connection.events if event.HasField("error")]
        assert gateway.simulator.frames_received(LINE) == 1
        await eventually(lambda: gateway.simulator.frames_received(END_LINE) == 1)


async def test_a_client_that_vanishes_leaves_nothing_behind(gateway: Gateway) -> None:
    async with connected(gateway) as connection:
        connection.want("q", "AAPL", QUOTES)
        connection.want("d", "AAPL", DEPTH)
        connection.want("t", "AAPL", TICKS, tick_type=pb.TICK_TYPE_LAST)
        connection.want("b", "AAPL", BARS)
        await connection.heard("q", "quote")
        await connection.heard("d", "depth")
        await connection.heard("b", "bar")
    ends = (END_LINE, END_DEPTH, END_TICKS, END_BARS)
    await eventually(lambda: [gateway.simulator.frames_received(end) for end in ends] == [1, 1, 1, 1], 20)


async def test_a_client_that_closes_its_side_keeps_what_it_has_until_the_last_of_it_ends(gateway: Gateway) -> None:
    async with connected(gateway) as connection:
        connection.want("q", "AAPL", QUOTES)
        connection.close_side()
        await connection.until(lambda: len(connection.of("q", "quote")) > 3)
        assert not connection.is_ended
        # Another code would be a notice: this one ends every line.
        inject(gateway.simulator, Fault.LINE_ERROR, code=354)
        await connection.heard("q", "error")
        await eventually(lambda: connection.is_ended)


async def test_a_connection_that_says_nothing_ends_with_its_side(gateway: Gateway) -> None:
    async with connected(gateway) as connection:
        connection.close_side()
        await eventually(lambda: connection.is_ended)
        assert connection.events == []


async def test_heartbeats_are_of_the_connection_and_come_as_often_as_it_says(gateway: Gateway) -> None:
    async with connected(gateway) as connection:
        connection.say("h", heartbeat_interval=Duration(seconds=1))
        connection.want("q", "AAPL", QUOTES)
        connection.want("d", "AAPL", DEPTH)
        await connection.heard("h", "accepted")
        await connection.until(lambda: len(connection.of("", "heartbeat")) >= 2)
        assert not [event for event in connection.events if event.request_id and event.HasField("heartbeat")]


async def test_a_gap_is_told_to_each_subscription(gateway: Gateway) -> None:
    async with connected(gateway) as connection:
        connection.want("q", "AAPL", QUOTES)
        connection.want("d", "AAPL", DEPTH)
        await connection.heard("q", "quote")
        await connection.heard("d", "depth")
        inject(gateway.simulator, Fault.DISCONNECT)
        for request_id, kind in (("q", "quote"), ("d", "depth")):
            assert (await connection.heard(request_id, "gap")).gap.reason == "BROKER_DISCONNECTED"
            await connection.heard(request_id, "resumed")
            after = [event.WhichOneof("event") for event in connection.of(request_id)]
            await connection.until(lambda i=request_id, k=kind: connection.of(i)[-1].WhichOneof("event") == k)
            assert after.index("gap") < after.index("resumed")


async def test_a_hundred_subscriptions_are_all(gateway: Gateway) -> None:
    async with connected(gateway) as connection:
        for number in range(101):
            connection.want(str(number), "AAPL", QUOTES)
        error = (await connection.heard("100", "error")).error
        assert error.error_code == "TOO_MANY_STREAMS"
        connection.say("l", list=pb.ListSubscriptions())
        assert len((await connection.heard("l", "subscriptions")).subscriptions.request_ids) == 100
        assert gateway.simulator.frames_received(LINE) == 1
