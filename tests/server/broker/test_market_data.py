"""Market data: one line a contract, whole quotes, absent where TWS says none."""

from __future__ import annotations

import asyncio
import math
from dataclasses import replace
from datetime import UTC, date, datetime, timedelta

import pytest
from ibkr_gateway import new_client_order_id, stock
from ibkr_gateway.v1 import common_pb2
from ibkr_gateway.v1 import orders_service_pb2 as orders_pb
from ibkr_gateway_server.broker.line import Line
from ibkr_gateway_server.broker.sinks import OptionComputation
from ibkr_gateway_server.domain.errors import (
    BrokerDisconnected,
    BrokerLinkDown,
    BrokerTimeout,
    CompetingSession,
    ContractNotFound,
    DomainError,
    MarketDataLines,
    MarketDataNotSubscribed,
)
from ibkr_gateway_server.domain.instruments import Instrument, SecurityType
from ibkr_gateway_server.domain.orders import BrokerNotice
from ibkr_gateway_server.domain.quotes import Greeks, MarketDataType, Quote
from ibkr_gateway_server.domain.sessions import SessionState
from ibkr_gateway_server.domain.tallies import RESUBSCRIBES
from ibkr_gateway_server.simulator import Fault, Rule
from ibkr_gateway_server.simulator.feeds.quotes import Quotes

from tests.conftest import Gateway, eventually
from tests.server.broker.conftest import Broker, MakeBroker, at_any_hour

AAPL = Instrument(symbol="AAPL", security_type=SecurityType.STK)
SUBSCRIBE, CANCEL = 1, 2


class Ear:
    """Keeps everything a line tells."""

    def __init__(self, line: Line) -> None:
        self.told: list[str] = []
        self.quotes: list[Quote] = []
        self._line = line
        line.listeners[self] = None

    def changed(self) -> None:
        self.told.append("quote")
        assert self._line.quote is not None
        self.quotes.append(self._line.quote)

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
    await eventually(lambda: broker.simulator.frames_received(SUBSCRIBE) == before + 1)
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
    line = await broker.market_data.acquire(AAPL)
    ear = Ear(line)
    await eventually(lambda: "quote" in ear.told)
    broker.simulator.drop_connections()
    await eventually(lambda: "resumed" in ear.told)
    gap, resumed = ear.told.index("gap BROKER_DISCONNECTED"), ear.told.index("resumed")
    assert "quote" not in ear.told[gap:resumed]
    await eventually(lambda: ear.told[-1] == "quote")
    broker.market_data.release(line)


async def test_after_1101_every_line_is_asked_for_again_and_after_1102_none(broker: Broker) -> None:
    line = await broker.market_data.acquire(AAPL)
    ear = Ear(line)
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


def quiet_line(broker: Broker, security_type: SecurityType = SecurityType.STK) -> Line:
    """A line that hears only what a test says."""
    line = Line(Instrument(265598, "AAPL", security_type), broker.market_data)
    line.attach(broker.session.connection(), datetime.now(UTC))
    return line


@pytest.mark.parametrize("price", [math.nan, 1.7976931348623157e308])
async def test_sentinel_prices_are_absent(broker: Broker, price: float) -> None:
    line = quiet_line(broker)
    line.tick_price(4, 99.5, 5.0)
    line.tick_price(1, 100.0, 5.0)
    line.tick_price(1, price, 0.0)
    line.tick_price(2, -1.0, 0.0)
    line.tick_size(3, 2147483647)
    line.tick_size(5, 9223372036854775807)
    line.batch_end()
    assert line.quote is not None
    assert line.quote.last_size is None
    assert line.quote is not None
    assert (line.quote.bid_price, line.quote.ask_price, line.quote.ask_size) == (None, None, None)


async def test_a_negative_price_with_a_size_is_a_price(broker: Broker) -> None:
    line = quiet_line(broker)
    line.tick_price(1, -37.63, 12.0)
    line.batch_end()
    assert line.quote is not None
    assert line.quote.bid_price == -37.63


async def test_delayed_ticks_fill_the_same_fields_and_say_so(broker: Broker) -> None:
    line = quiet_line(broker)
    ear = Ear(line)
    line.data_type(1)
    line.tick_price(2, 101.0, 3.0)
    line.batch_end()
    line.data_type(3)
    line.tick_price(66, 99.0, 3.0)
    line.batch_end()
    assert line.quote is not None
    assert (line.quote.bid_price, line.quote.ask_price) == (99.0, None)
    assert line.quote.market_data_type is MarketDataType.DELAYED
    assert ear.told == ["quote", "type DELAYED", "quote"]


async def test_one_read_publishes_one_quote(broker: Broker) -> None:
    line = quiet_line(broker)
    ear = Ear(line)
    for step in range(50):
        line.tick_price(1, 100.0 + step, 1.0)
    line.batch_end()
    line.batch_end()
    assert [quote.bid_price for quote in ear.quotes] == [149.0]


async def test_a_notice_goes_on_and_a_competing_session_makes_stale(broker: Broker) -> None:
    line = quiet_line(broker)
    ear = Ear(line)
    line.error(10167, "Displaying delayed market data.")
    line.error(10197, "No market data during competing live session")
    line.error(354, "Requested market data is not subscribed.")
    assert ear.told == ["notice 10167", "stale COMPETING_SESSION", "failed MARKET_DATA_NOT_SUBSCRIBED"]


async def test_silence_without_a_price_is_a_timeout(broker: Broker) -> None:
    broker.simulator.inject(Rule(Fault.LOSE, SUBSCRIBE))
    with pytest.raises(BrokerTimeout):
        await broker.market_data.snapshot(AAPL, 0.2)


async def test_a_quote_grows_stale_without_ticks(broker: Broker) -> None:
    line = quiet_line(broker)
    ear = Ear(line)
    line.tick_price(1, 100.0, 1.0)
    line.batch_end()
    assert line.quote is not None
    later = datetime.fromtimestamp(line.quote.receive_time.timestamp() + 16, line.quote.receive_time.tzinfo)
    line.age(later, 15.0)
    line.age(later, 15.0)
    assert ear.told == ["quote", "stale NO_TICKS"]
    assert line.quote.is_stale


@pytest.mark.parametrize(
    ("kind", "tick_type", "price", "size", "expected"),
    [
        (SecurityType.STK, 9, -3.0, 0.0, None),
        (SecurityType.FUT, 9, -37.63, 0.0, -37.63),
        (SecurityType.FUT, 1, -1.0, 0.0, None),
        (SecurityType.FUT, 1, -1.0, 4.0, -1.0),
        (SecurityType.OPT, 1, 0.0, 0.0, None),
        (SecurityType.OPT, 9, 0.0, 0.0, 0.0),
        (SecurityType.IND, 4, 6724.5, 0.0, 6724.5),
    ],
)
async def test_a_price_without_a_size_is_a_price_only_where_it_can_be(
    broker: Broker, kind: SecurityType, tick_type: int, price: float, size: float, expected: float | None
) -> None:
    line = quiet_line(broker, kind)
    line.tick_price(2, 50.0, 1.0)
    line.tick_price(tick_type, price, size)
    line.batch_end()
    assert line.quote is not None
    name = {1: "bid_price", 4: "last_price", 9: "close_price"}[tick_type]
    assert getattr(line.quote, name) == expected


@pytest.mark.parametrize("text", ["", "0", "-1", "9223372036854775807", "yesterday", "-"])
async def test_a_trade_time_that_is_none_leaves_the_quote_whole(broker: Broker, text: str) -> None:
    line = quiet_line(broker)
    line.tick_price(4, 50.0, 1.0)
    line.tick_string(45, text)
    line.batch_end()
    assert line.quote is not None
    assert line.quote.exchange_time is None


async def test_option_sentinels_are_absent_and_the_rest_of_the_model_is_there(broker: Broker) -> None:
    line = quiet_line(broker, SecurityType.OPT)
    line.tick_price(1, 2.5, 10.0)
    line.option_computation(13, OptionComputation(0.25, 0.55, -1.0, -1.0, -2.0, 0.12, -2.0, 257.9))
    line.batch_end()
    assert line.quote is not None
    assert line.quote.greeks == Greeks(implied_volatility=0.25, delta=0.55, vega=0.12, underlying_price=257.9)


async def test_parameters_alone_are_no_quote(broker: Broker) -> None:
    line = quiet_line(broker)
    ear = Ear(line)
    line.data_type(1)
    line.tick_size(8, 1000.0)
    line.batch_end()
    assert ear.told == []
    line.tick_price(4, 50.0, 1.0)
    line.batch_end()
    assert [quote.volume for quote in ear.quotes] == [1000.0]


async def test_delayed_ticks_say_so_even_unannounced(broker: Broker) -> None:
    line = quiet_line(broker)
    line.tick_price(68, 50.0, 1.0)
    line.batch_end()
    assert line.quote is not None
    assert line.quote.market_data_type is MarketDataType.DELAYED


async def test_a_competing_session_is_told_once_and_ends_with_the_next_price(broker: Broker) -> None:
    line = quiet_line(broker)
    ear = Ear(line)
    line.tick_price(4, 50.0, 1.0)
    line.batch_end()
    for _ in range(20):
        line.error(10197, "No market data during competing live session")
    assert line.quote is not None
    assert line.quote.is_stale
    line.tick_price(4, 51.0, 1.0)
    line.batch_end()
    assert not line.quote.is_stale
    assert ear.told == ["quote", "stale COMPETING_SESSION", "quote"]


async def test_a_snapshot_while_another_login_holds_the_data_says_so(make_broker: MakeBroker) -> None:
    broker = await make_broker(fall_back_to_delayed=False)
    asking = asyncio.ensure_future(silent_snapshot(broker))
    await eventually(lambda: broker.market_data.usage())
    line = next(iter(broker.market_data._kept.values()))
    await eventually(lambda: line.is_asked)
    line.error(10197, "No market data during competing live session")
    with pytest.raises(CompetingSession):
        await asking


async def silent_snapshot(broker: Broker) -> Quote:
    """A snapshot of what TWS never answers: its ticks are lost on the way."""
    connection = broker.session.connection()
    connection.client.reqMktData = lambda *_: None
    try:
        return await broker.market_data.snapshot(AAPL, 5.0)
    finally:
        del connection.client.reqMktData


async def test_a_connection_lost_while_a_snapshot_waits_is_said_at_once(broker: Broker) -> None:
    asking = asyncio.ensure_future(silent_snapshot(broker))
    await eventually(lambda: any(line.is_asked for line in broker.market_data._kept.values()))
    broker.simulator.drop_connections()
    with pytest.raises(BrokerDisconnected):
        await asking


async def test_a_line_that_only_lingered_through_a_loss_is_asked_for_anew(make_broker: MakeBroker) -> None:
    broker = await make_broker(linger_s=60.0)
    await broker.market_data.snapshot(AAPL, 5.0)
    broker.simulator.drop_connections()
    await eventually(lambda: broker.session.epoch == 2 and broker.session.status.state.is_linked)
    assert broker.market_data.usage() == ()
    assert (await broker.market_data.snapshot(AAPL, 5.0)).has_price


async def test_a_reader_that_gives_up_at_once_leaves_the_others_their_line(broker: Broker) -> None:
    await broker.contracts.resolve(AAPL)
    hasty = asyncio.ensure_future(broker.market_data.snapshot(AAPL, 5.0))
    patient = asyncio.ensure_future(broker.market_data.snapshot(AAPL, 5.0))
    await asyncio.sleep(0)
    hasty.cancel()
    assert (await patient).has_price
    assert hasty.cancelled()


async def test_the_linger_begins_anew_with_each_last_reader(make_broker: MakeBroker) -> None:
    broker = await make_broker(linger_s=60.0)
    first = await broker.market_data.acquire(AAPL)
    broker.market_data.release(first)
    earlier = first.linger
    assert earlier is not None
    again = await broker.market_data.acquire(AAPL)
    assert again is first
    assert earlier.cancelled()
    broker.market_data.release(again)
    assert first.linger is not None
    assert first.linger.when() > earlier.when()


async def test_a_full_house_takes_a_lingering_line_and_refuses_when_there_is_none(make_broker: MakeBroker) -> None:
    broker = await make_broker(line_limit=2, linger_s=60.0)
    names = [Instrument(symbol=symbol, security_type=SecurityType.STK) for symbol in ("AAPL", "MSFT", "SPY")]
    held = await broker.market_data.acquire(names[0])
    await broker.market_data.snapshot(names[1], 5.0)
    other = await broker.market_data.acquire(names[2])
    assert [line.instrument.symbol for line in broker.market_data.usage()] == ["AAPL", "SPY"]
    with pytest.raises(MarketDataLines) as refused:
        await broker.market_data.acquire(names[1])
    assert (refused.value.used, refused.value.limit) == (2, 2)
    await eventually(lambda: broker.simulator.frames_received(CANCEL) == 1)
    for line in (held, other):
        broker.market_data.release(line)


async def test_when_ibkr_has_no_line_left_the_answer_counts_those_it_granted(broker: Broker) -> None:
    held = await broker.market_data.acquire(AAPL)
    line = await broker.market_data.acquire(Instrument(symbol="MSFT", security_type=SecurityType.STK))
    line.error(101, "Max number of tickers has been reached")
    assert isinstance(line.failure, MarketDataLines)
    assert (line.failure.used, line.failure.limit) == (1, 1)
    assert [kept.instrument.symbol for kept in broker.market_data.usage()] == ["AAPL"]
    for each in (held, line):
        broker.market_data.release(each)


async def test_a_snapshot_of_a_quiet_line_asks_again_and_is_of_now(broker: Broker) -> None:
    line = await broker.market_data.acquire(AAPL)
    await eventually(lambda: line.is_fresh)
    broker.session.connection().unlisten(line.request_id)
    at_any_hour(line)
    line.age(datetime.now(UTC) + timedelta(minutes=1), 15.0)
    old = line.quote
    assert old is not None
    assert old.is_stale
    quote = await broker.market_data.snapshot(AAPL, 5.0)
    assert not quote.is_stale
    assert quote.receive_time > old.receive_time
    await eventually(lambda: broker.simulator.frames_received(CANCEL) == 1)
    assert broker.simulator.frames_received(SUBSCRIBE) == 2
    broker.market_data.release(line)


async def test_a_line_kept_by_1102_that_stays_silent_is_asked_for_again(make_broker: MakeBroker) -> None:
    broker = await make_broker(stale_after_s=0.05)
    line = await broker.market_data.acquire(AAPL)
    await eventually(lambda: line.is_fresh)
    at_any_hour(line)
    connection = broker.session.connection()
    connection.unlisten(line.request_id)
    connection.callbacks.error(-1, 1100, "lost")
    connection.callbacks.error(-1, 1102, "restored, data kept")
    await eventually(lambda: line.gap is None)
    assert broker.simulator.frames_received(SUBSCRIBE) == 2
    broker.market_data.release(line)


async def test_a_gap_ends_with_a_price_and_with_nothing_less(broker: Broker) -> None:
    line = quiet_line(broker)
    ear = Ear(line)
    line.tick_price(4, 50.0, 1.0)
    line.batch_end()
    line.lose("BROKER_LINK_DOWN", datetime.now(UTC))
    line.tick_generic(49, 0.0)
    line.batch_end()
    assert ear.told == ["quote", "gap BROKER_LINK_DOWN"]
    line.tick_price(4, 51.0, 1.0)
    line.batch_end()
    assert ear.told[2:] == ["resumed", "quote"]


async def test_after_a_loss_the_contract_with_most_readers_comes_first(broker: Broker) -> None:
    wanted = ["AAPL", "MSFT", "SPY", "SPY", "SPY", "MSFT"]
    names = [Instrument(symbol=symbol, security_type=SecurityType.STK) for symbol in wanted]
    lines = [await broker.market_data.acquire(name) for name in names]
    broker.simulator.drop_connections()
    await eventually(lambda: broker.session.epoch == 2 and all(line.is_fresh for line in lines))
    (client,) = broker.simulator.gateway.sessions
    assert [quotes.listing.symbol for quotes in client.feeds.of(Quotes)] == ["SPY", "MSFT", "AAPL"]
    for line in lines:
        broker.market_data.release(line)


async def test_after_a_loss_contracts_that_are_urgent_come_before_all_others(broker: Broker) -> None:
    wanted = ["MSFT", "SPY", "SPY", "AAPL"]
    names = [Instrument(symbol=symbol, security_type=SecurityType.STK) for symbol in wanted]
    lines = [await broker.market_data.acquire(name) for name in names]
    broker.market_data.urgent = lambda: {lines[-1].instrument.con_id}
    broker.simulator.drop_connections()
    await eventually(lambda: broker.session.epoch == 2 and all(line.is_fresh for line in lines))
    (client,) = broker.simulator.gateway.sessions
    assert [quotes.listing.symbol for quotes in client.feeds.of(Quotes)] == ["AAPL", "SPY", "MSFT"]
    assert broker.session.tallies.value(RESUBSCRIBES, "reconnect") == 3
    for line in lines:
        broker.market_data.release(line)


async def test_the_contracts_of_open_orders_are_urgent(gateway: Gateway) -> None:
    order = orders_pb.OrderSpec(
        account_id="DU1234567",
        instrument=stock("AAPL"),
        side=common_pb2.SIDE_BUY,
        quantity="1",
        order_type=orders_pb.ORDER_TYPE_LMT,
        limit_price="10",
    )
    assert set(gateway.running.market_data.urgent()) == set()
    await gateway.client.orders.PlaceOrder(
        orders_pb.PlaceOrderRequest(client_order_id=new_client_order_id(), order=order)
    )
    await eventually(lambda: set(gateway.running.market_data.urgent()) == {265598})


async def test_hours_that_have_run_out_are_asked_for_anew_with_the_line(broker: Broker) -> None:
    line = await broker.market_data.acquire(AAPL)
    await eventually(lambda: line.is_fresh)
    assert line.details is not None
    line.details = replace(line.details, hours_last_date=date(2026, 1, 1))
    broker.simulator.drop_connections()
    await eventually(lambda: broker.session.epoch == 2 and line.is_fresh)
    assert line.details.hours_last_date is not None
    assert line.details.hours_last_date > date(2026, 1, 1)
    broker.market_data.release(line)


async def test_data_that_is_lost_without_a_word_before_is_a_gap(broker: Broker) -> None:
    line = await broker.market_data.acquire(AAPL)
    ear = Ear(line)
    await eventually(lambda: "quote" in ear.told)
    broker.session.connection().callbacks.error(-1, 1101, "restored, data lost")
    await eventually(lambda: "resumed" in ear.told)
    assert [word for word in ear.told if word != "quote"] == ["gap BROKER_LINK_DOWN", "resumed"]
    assert broker.session.tallies.value(RESUBSCRIBES, "data_lost") == 1
    broker.market_data.release(line)


async def test_a_line_that_is_live_again_says_so_even_where_tws_does_not(broker: Broker) -> None:
    line = quiet_line(broker)
    ear = Ear(line)
    line.is_fallback = True
    line.data_type(3)
    line.tick_price(66, 90.0, 1.0)
    line.batch_end()
    line.is_fallback = False
    line.attach(broker.session.connection(), datetime.now(UTC))
    line.tick_price(1, 100.0, 1.0)
    line.batch_end()
    assert ear.told == ["quote", "type LIVE", "quote"]
    assert line.quote is not None
    assert line.quote.market_data_type is MarketDataType.LIVE


async def test_what_was_old_before_a_loss_is_said_to_be_old_again_after_it(broker: Broker) -> None:
    line = quiet_line(broker)
    ear = Ear(line)
    line.age(datetime.now(UTC) + timedelta(minutes=1), 15.0)
    line.lose("BROKER_LINK_DOWN", datetime.now(UTC))
    line.overdue()
    line.overdue()
    assert ear.told == ["stale NO_TICKS", "gap BROKER_LINK_DOWN", "stale NO_TICKS"]


async def test_a_type_that_is_told_again_is_no_news(broker: Broker) -> None:
    line = quiet_line(broker)
    ear = Ear(line)
    line.data_type(1)
    line.tick_price(1, 100.0, 1.0)
    line.batch_end()
    line.age(datetime.now(UTC) + timedelta(minutes=1), 15.0)
    line.data_type(1)
    line.batch_end()
    assert ear.told == ["quote", "stale NO_TICKS"]
    line.data_type(2)
    line.batch_end()
    assert ear.told[2:] == ["type FROZEN", "quote"]


async def test_live_and_delayed_values_never_stand_in_one_quote(broker: Broker) -> None:
    line = quiet_line(broker)
    ear = Ear(line)
    line.tick_price(1, 100.0, 1.0)
    line.tick_price(6, 105.0, 0.0)
    line.batch_end()
    line.tick_price(66, 90.0, 1.0)
    line.batch_end()
    assert [(quote.bid_price, quote.high_price) for quote in ear.quotes] == [(100.0, 105.0), (90.0, None)]
    assert ear.told == ["quote", "type DELAYED", "quote"]


async def test_delayed_data_is_asked_for_by_setting_and_says_what_it_is(make_broker: MakeBroker) -> None:
    broker = await make_broker(market_data_type=MarketDataType.DELAYED)
    ibm = Instrument(symbol="IBM", security_type=SecurityType.STK)
    line = await broker.market_data.acquire(ibm)
    ear = Ear(line)
    quote = await broker.market_data.snapshot(ibm, 5.0)
    assert quote.market_data_type is MarketDataType.DELAYED
    assert "notice 10167" in ear.told
    broker.simulator.drop_connections()
    await eventually(lambda: "resumed" in ear.told)
    assert line.quote is not None
    assert line.quote.market_data_type is MarketDataType.DELAYED
    broker.market_data.release(line)


async def test_the_session_is_ready_after_all_of_this(broker: Broker) -> None:
    await broker.market_data.snapshot(AAPL, 5.0)
    assert broker.session.status.state is SessionState.READY
