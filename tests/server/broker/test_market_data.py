"""Market data: one line a contract, whole quotes, absent where TWS says none."""

from __future__ import annotations

import asyncio
import math
from datetime import datetime

import pytest
from ibkr_gateway_server.broker.line import Line
from ibkr_gateway_server.domain.errors import (
    BrokerLinkDown,
    BrokerTimeout,
    ContractNotFound,
    DomainError,
    MarketDataNotSubscribed,
)
from ibkr_gateway_server.domain.instruments import Instrument, SecurityType
from ibkr_gateway_server.domain.orders import BrokerNotice
from ibkr_gateway_server.domain.quotes import MarketDataType, Quote
from ibkr_gateway_server.domain.sessions import SessionState

from tests.conftest import eventually
from tests.server.broker.conftest import Broker

AAPL = Instrument(symbol="AAPL", security_type=SecurityType.STK)
SUBSCRIBE, CANCEL = 1, 2


class Ear:
    """Keeps everything a line tells."""

    def __init__(self) -> None:
        self.told: list[str] = []
        self.quotes: list[Quote] = []

    def quote(self, quote: Quote) -> None:
        self.told.append("quote")
        self.quotes.append(quote)

    def gap(self, reason: str, start_time: datetime) -> None:
        self.told.append(f"gap {reason}")

    def resumed(self, gap_start_time: datetime) -> None:
        self.told.append("resumed")

    def stale(self, since_time: datetime, reason: str) -> None:
        self.told.append(f"stale {reason}")

    def data_type(self, market_data_type: MarketDataType) -> None:
        self.told.append(f"type {market_data_type.name}")

    def notice(self, notice: BrokerNotice) -> None:
        self.told.append(f"notice {notice.code}")

    def failed(self, error: DomainError) -> None:
        self.told.append(f"failed {error.reason}")


@pytest.mark.parametrize("symbol", ["AAPL:STK", "MES:FUT", "EUR:CASH", "SPX:IND"])
async def test_a_snapshot_has_the_prices_of_its_kind(broker: Broker, symbol: str) -> None:
    name, _, kind = symbol.partition(":")
    quote = await broker.market_data.snapshot(Instrument(symbol=name, security_type=SecurityType[kind]), 5.0)
    assert quote.is_snapshot
    assert quote.market_data_type is MarketDataType.LIVE
    if kind == "IND":
        assert quote.last_price is not None
        assert quote.bid_price is None
    else:
        assert quote.bid_price is not None
        assert quote.ask_price is not None
        assert quote.bid_price < quote.ask_price


async def test_two_hundred_readers_of_one_contract_use_one_line_and_the_last_frees_it(broker: Broker) -> None:
    before = broker.simulator.frames_received(SUBSCRIBE)
    lines = await asyncio.gather(*(broker.market_data.acquire(AAPL) for _ in range(200)))
    assert len({id(line) for line in lines}) == 1
    assert broker.simulator.frames_received(SUBSCRIBE) == before + 1
    for line in lines:
        broker.market_data.release(line)
    await eventually(lambda: broker.simulator.frames_received(CANCEL) == 1)
    assert broker.market_data.usage() == ()


async def test_a_reader_that_returns_within_the_linger_costs_nothing(broker: Broker) -> None:
    for _ in range(3):
        await broker.market_data.snapshot(AAPL, 5.0)
    assert broker.simulator.frames_received(SUBSCRIBE) == 1


async def test_a_missing_subscription_is_said_with_its_code_and_frees_the_line(broker: Broker) -> None:
    with pytest.raises(MarketDataNotSubscribed) as refused:
        await broker.market_data.snapshot(Instrument(symbol="IBM", security_type=SecurityType.STK), 5.0)
    assert refused.value.metadata == {"symbol": "IBM STK", "ibkr_code": "354"}
    await eventually(lambda: broker.market_data.usage() == ())


async def test_an_unknown_symbol_takes_no_line(broker: Broker) -> None:
    with pytest.raises(ContractNotFound):
        await broker.market_data.snapshot(Instrument(symbol="AAPLL", security_type=SecurityType.STK), 5.0)
    assert broker.market_data.usage() == ()


async def test_a_lost_connection_is_a_gap_and_the_first_tick_after_it_resumes(broker: Broker) -> None:
    line, ear = await broker.market_data.acquire(AAPL), Ear()
    line.listeners[ear] = None
    await eventually(lambda: "quote" in ear.told)
    broker.simulator.drop_connections()
    await eventually(lambda: "resumed" in ear.told)
    gap, resumed = ear.told.index("gap BROKER_DISCONNECTED"), ear.told.index("resumed")
    assert "quote" not in ear.told[gap:resumed]
    await eventually(lambda: ear.told[-1] == "quote")
    broker.market_data.release(line)


async def test_after_1101_every_line_is_asked_for_again_and_after_1102_none(broker: Broker) -> None:
    line, ear = await broker.market_data.acquire(AAPL), Ear()
    line.listeners[ear] = None
    await eventually(lambda: line.is_fresh)
    connection = broker.session.connection()
    for code, asked in ((1102, 1), (1101, 2)):
        connection.callbacks.error(-1, 1100, "lost")
        assert not line.is_fresh
        connection.callbacks.error(-1, code, "restored")
        await eventually(lambda: line.is_fresh)
        await eventually(lambda count=asked: broker.simulator.frames_received(SUBSCRIBE) == count)
    assert ear.told.count("gap BROKER_LINK_DOWN") == 2
    broker.market_data.release(line)


async def test_a_quote_before_a_loss_is_never_a_snapshot_after_it(broker: Broker) -> None:
    line = await broker.market_data.acquire(AAPL)
    await eventually(lambda: line.is_fresh)
    broker.session.connection().callbacks.error(-1, 1100, "lost")
    with pytest.raises(BrokerLinkDown):
        await broker.market_data.snapshot(AAPL, 5.0)
    broker.market_data.release(line)


def quiet_line(broker: Broker) -> Line:
    """A line that hears only what a test says."""
    line = Line(Instrument(265598, "AAPL", SecurityType.STK))
    line.connection = broker.session.connection()
    return line


@pytest.mark.parametrize("price", [math.nan, 1.7976931348623157e308])
async def test_sentinel_prices_are_absent(broker: Broker, price: float) -> None:
    line = quiet_line(broker)
    line.tick_price(1, 100.0, 5.0)
    line.tick_price(1, price, 0.0)
    line.tick_price(2, -1.0, 0.0)
    line.tick_size(3, 2147483647)
    line.batch_end()
    assert line.quote is not None
    assert (line.quote.bid_price, line.quote.ask_price, line.quote.ask_size) == (None, None, None)


async def test_a_negative_price_with_a_size_is_a_price(broker: Broker) -> None:
    line = quiet_line(broker)
    line.tick_price(1, -37.63, 12.0)
    line.batch_end()
    assert line.quote is not None
    assert line.quote.bid_price == -37.63


async def test_delayed_ticks_fill_the_same_fields_and_say_so(broker: Broker) -> None:
    line, ear = quiet_line(broker), Ear()
    line.listeners[ear] = None
    line.data_type(1)
    line.data_type(3)
    line.tick_price(66, 99.0, 3.0)
    line.batch_end()
    assert line.quote is not None
    assert line.quote.bid_price == 99.0
    assert line.quote.market_data_type is MarketDataType.DELAYED
    assert ear.told == ["type DELAYED", "quote"]


async def test_one_read_publishes_one_quote(broker: Broker) -> None:
    line, ear = quiet_line(broker), Ear()
    line.listeners[ear] = None
    for step in range(50):
        line.tick_price(1, 100.0 + step, 1.0)
    line.batch_end()
    line.batch_end()
    assert [quote.bid_price for quote in ear.quotes] == [149.0]


async def test_a_notice_goes_on_and_a_competing_session_makes_stale(broker: Broker) -> None:
    line, ear = quiet_line(broker), Ear()
    line.listeners[ear] = None
    line.error(10167, "Displaying delayed market data.")
    line.error(10197, "No market data during competing live session")
    line.error(354, "Requested market data is not subscribed.")
    assert ear.told == ["notice 10167", "stale COMPETING_SESSION", "failed MARKET_DATA_NOT_SUBSCRIBED"]


async def test_silence_without_a_price_is_a_timeout(broker: Broker) -> None:
    line = await broker.market_data.acquire(AAPL)
    line.connection.unlisten(line.request_id)
    line.quote = None
    with pytest.raises(BrokerTimeout):
        await broker.market_data.snapshot(AAPL, 0.05)
    broker.market_data.release(line)


async def test_a_quote_grows_stale_without_ticks(broker: Broker) -> None:
    line, ear = quiet_line(broker), Ear()
    line.listeners[ear] = None
    line.tick_price(1, 100.0, 1.0)
    line.batch_end()
    assert line.quote is not None
    later = datetime.fromtimestamp(line.quote.receive_time.timestamp() + 16, line.quote.receive_time.tzinfo)
    line.age(later, 15.0)
    line.age(later, 15.0)
    assert ear.told == ["quote", "stale NO_TICKS"]
    assert line.quote.is_stale


async def test_the_session_is_ready_after_all_of_this(broker: Broker) -> None:
    await broker.market_data.snapshot(AAPL, 5.0)
    assert broker.session.status.state is SessionState.READY
