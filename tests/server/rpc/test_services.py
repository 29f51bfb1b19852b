"""Every service through a real channel, on the simulator."""

from __future__ import annotations

import asyncio
import re
from pathlib import Path
from typing import Any

import grpc
import pytest
from google.protobuf.duration_pb2 import Duration
from grpc_health.v1 import health_pb2, health_pb2_grpc
from ibkr_gateway import (
    InvalidRequest,
    NotFound,
    Refused,
    Unavailable,
    bar_size,
    connect,
    duration,
    forex,
    future,
    index,
    new_client_order_id,
    stock,
)
from ibkr_gateway.v1 import account_service_pb2 as account_pb
from ibkr_gateway.v1 import audit_service_pb2 as audit_pb
from ibkr_gateway.v1 import common_pb2
from ibkr_gateway.v1 import gateway_service_pb2 as gateway_pb
from ibkr_gateway.v1 import market_data_service_pb2 as market_pb
from ibkr_gateway.v1 import orders_service_pb2 as orders_pb
from ibkr_gateway.v1 import reference_data_service_pb2 as reference_pb
from ibkr_gateway.v1 import simulation_service_pb2 as simulation_pb
from ibkr_gateway_server.domain.bars import BarSize, DurationUnit
from ibkr_gateway_server.simulator import Fault as SimulatedFault

from tests.conftest import Gateway, MakeGateway, eventually

PROTO = Path(__file__).parents[3] / "proto" / "ibkr_gateway" / "v1"


def order(**changed: Any) -> orders_pb.OrderSpec:
    fields = {"instrument": stock("AAPL"), "side": common_pb2.SIDE_BUY, "quantity": "10"}
    return orders_pb.OrderSpec(**{**fields, "order_type": orders_pb.ORDER_TYPE_MKT, **changed})


def limit(price: str = "10.00", **changed: Any) -> orders_pb.OrderSpec:
    return order(order_type=orders_pb.ORDER_TYPE_LMT, limit_price=price, **changed)


async def place(gateway: Gateway, spec: orders_pb.OrderSpec, key: str = "") -> orders_pb.OrderResult:
    request = orders_pb.PlaceOrderRequest(client_order_id=key or new_client_order_id(), order=spec)
    return (await gateway.client.orders.PlaceOrder(request)).result


# --- market data and contracts ---------------------------------------------------------------------------------------


@pytest.mark.parametrize("instrument", [stock("AAPL"), future("MES"), forex("EUR.USD"), index("SPX")], ids=str)
async def test_get_quote_answers_with_prices_source_and_time(
    gateway: Gateway, instrument: common_pb2.Instrument
) -> None:
    quote = (await gateway.client.market_data.GetQuote(market_pb.GetQuoteRequest(instrument=instrument))).quote
    assert quote.instrument.con_id > 0
    assert quote.last_price > 0 or quote.bid_price > 0
    assert quote.source == "SIMULATOR"
    assert quote.is_snapshot
    assert quote.market_data_type == common_pb2.MARKET_DATA_TYPE_LIVE
    assert quote.HasField("receive_time")
    assert quote.HasField("bid_price") is (instrument.security_type != common_pb2.SECURITY_TYPE_IND)


async def test_get_quotes_has_a_result_for_each_in_order(gateway: Gateway) -> None:
    request = market_pb.GetQuotesRequest(instruments=[stock("AAPL"), stock("AAPLL"), stock("IBM")])
    one, two, three = (await gateway.client.market_data.GetQuotes(request)).results
    assert one.quote.instrument.symbol == "AAPL"
    assert two.error.error_code == "CONTRACT_NOT_FOUND"
    assert three.error.error_code == "MARKET_DATA_NOT_SUBSCRIBED"
    assert three.error.details["ibkr_code"] == "354"


async def test_delayed_data_is_marked_where_it_is_asked_for(make_gateway: MakeGateway) -> None:
    gateway = await make_gateway(market_data_type="delayed")
    quote = (await gateway.client.market_data.GetQuote(market_pb.GetQuoteRequest(instrument=stock("IBM")))).quote
    assert quote.market_data_type == common_pb2.MARKET_DATA_TYPE_DELAYED
    assert quote.bid_price > 0


async def test_bars_of_a_month_and_of_an_hour(gateway: Gateway) -> None:
    request = market_pb.GetHistoricalBarsRequest(
        instrument=stock("AAPL"), bar_size=bar_size("1 day"), duration=duration("1 M"), regular_hours_only=True
    )
    daily = await gateway.client.market_data.GetHistoricalBars(request)
    assert len(daily.bars) >= 19
    assert all(re.fullmatch(r"\d{4}-\d{2}-\d{2}", bar.date) for bar in daily.bars)
    request = market_pb.GetHistoricalBarsRequest(
        instrument=stock("AAPL"), bar_size=bar_size("5 mins"), duration=duration("1 D")
    )
    minutes = await gateway.client.market_data.GetHistoricalBars(request)
    times = [bar.start_time.ToSeconds() for bar in minutes.bars]
    assert times == sorted(set(times))
    assert minutes.time_zone == "US/Eastern"


async def test_the_stream_has_a_snapshot_quotes_and_heartbeats(gateway: Gateway) -> None:
    request = market_pb.StreamQuotesRequest(
        instruments=[stock("AAPL"), future("MES")], heartbeat_interval=Duration(seconds=1)
    )
    seen: set[str] = set()
    sequence = 0
    async with asyncio.timeout(30):
        async for response in gateway.client.market_data.StreamQuotes(request):
            for event in response.events:
                assert event.sequence > sequence
                sequence = event.sequence
                seen.add(event.WhichOneof("event") or "")
            if {"snapshot_begin", "snapshot_end", "quote", "heartbeat"} <= seen:
                break


async def test_single_ticks_stream_and_what_the_login_may_not_see_ends_with_its_reason(gateway: Gateway) -> None:
    def wanted(symbol: str, tick_type: market_pb.TickType.ValueType) -> market_pb.StreamTicksRequest:
        return market_pb.StreamTicksRequest(instrument=stock(symbol), tick_type=tick_type)

    async def until(request: market_pb.StreamTicksRequest, kind: str) -> market_pb.TickEvent:
        async with asyncio.timeout(20):
            async for response in gateway.client.market_data.StreamTicks(request):
                for event in response.events:
                    if event.WhichOneof("event") == kind:
                        return event
        raise AssertionError(f"the stream ended without {kind}")

    tick = (await until(wanted("AAPL", market_pb.TICK_TYPE_BID_ASK), "tick")).tick
    assert 0 < tick.bid_price <= tick.ask_price
    assert not tick.HasField("price")
    refused = await until(wanted("IBM", market_pb.TICK_TYPE_LAST), "error")
    assert refused.error.error_code == "MARKET_DATA_NOT_SUBSCRIBED"
    with pytest.raises(Refused) as ended:
        await until(wanted("IBM", market_pb.TICK_TYPE_LAST), "tick")
    assert ended.value.reason == "MARKET_DATA_NOT_SUBSCRIBED"
    with pytest.raises(InvalidRequest, match="tick_type"):
        await until(wanted("AAPL", market_pb.TICK_TYPE_UNSPECIFIED), "tick")


async def test_usage_names_the_lines_and_their_readers(gateway: Gateway) -> None:
    stream = gateway.client.market_data.StreamQuotes(market_pb.StreamQuotesRequest(instruments=[stock("AAPL")]))
    await anext(aiter(stream))
    usage = await gateway.client.market_data.GetMarketDataUsage(market_pb.GetMarketDataUsageRequest())
    assert [(line.instrument.symbol, line.subscriber_count) for line in usage.lines] == [("AAPL", 1)]
    assert usage.limit_count == 100


async def test_a_search_finds_symbols_with_their_names_and_kinds_of_derivatives(gateway: Gateway) -> None:
    reference = gateway.client.reference_data
    (apple,) = (await reference.SearchSymbols(reference_pb.SearchSymbolsRequest(pattern=" apple "))).matches
    assert (apple.instrument.con_id, apple.instrument.symbol, apple.description) == (265598, "AAPL", "APPLE INC")
    assert list(apple.derivative_types) == [common_pb2.SECURITY_TYPE_OPT]
    for wrong in ("", "   ", "A" * 101, "A\0B"):
        with pytest.raises(InvalidRequest, match="pattern") as refused:
            await reference.SearchSymbols(reference_pb.SearchSymbolsRequest(pattern=wrong))
        assert refused.value.reason == "FIELD_INVALID"


async def test_an_option_chain_has_expiries_and_strikes_that_can_be_resolved(gateway: Gateway) -> None:
    reference = gateway.client.reference_data
    request = reference_pb.GetOptionChainRequest(underlying=stock("AAPL"), exchange="SMART")
    (chain,) = (await reference.GetOptionChain(request)).chains
    assert (chain.exchange, chain.trading_class, chain.multiplier) == ("SMART", "AAPL", "100")
    option = common_pb2.Instrument(
        symbol="AAPL",
        security_type=common_pb2.SECURITY_TYPE_OPT,
        expiry=chain.expiries[0],
        strike=chain.strikes[len(chain.strikes) // 2],
        right=common_pb2.OPTION_RIGHT_CALL,
    )
    found = (await reference.ResolveContract(reference_pb.ResolveContractRequest(instrument=option))).instrument
    assert found.con_id > 0
    assert found.expiry == chain.expiries[0]
    with pytest.raises(NotFound) as refused:
        await reference.GetOptionChain(reference_pb.GetOptionChainRequest(underlying=stock("AAPLL")))
    assert refused.value.reason == "CONTRACT_NOT_FOUND"
    with pytest.raises(InvalidRequest, match="underlying"):
        await reference.GetOptionChain(reference_pb.GetOptionChainRequest())
    with pytest.raises(InvalidRequest, match="exchange"):
        await reference.GetOptionChain(reference_pb.GetOptionChainRequest(underlying=future("MES"), exchange="C\0ME"))


async def test_a_trading_schedule_tells_the_coming_days_and_how_far_they_are_known(gateway: Gateway) -> None:
    reference = gateway.client.reference_data
    schedule = await reference.GetTradingSchedule(
        reference_pb.GetTradingScheduleRequest(instrument=stock("AAPL"), day_count=30)
    )
    assert schedule.time_zone == "US/Eastern"
    assert re.fullmatch(r"\d{4}-\d{2}-\d{2}", schedule.last_date)
    assert len(schedule.regular_sessions) == len(schedule.trading_sessions) > 0
    for regular, whole in zip(schedule.regular_sessions, schedule.trading_sessions, strict=True):
        assert whole.open_time.ToSeconds() < regular.open_time.ToSeconds() < regular.close_time.ToSeconds()
    for wrong in (-1, 31):
        with pytest.raises(InvalidRequest, match="day_count"):
            await reference.GetTradingSchedule(
                reference_pb.GetTradingScheduleRequest(instrument=stock("AAPL"), day_count=wrong)
            )


async def test_a_market_rule_is_found_by_the_number_in_the_details(gateway: Gateway) -> None:
    reference = gateway.client.reference_data
    details = await reference.GetContractDetails(reference_pb.GetContractDetailsRequest(instrument=future("ES")))
    rule = details.details[0].market_rule_ids[0]
    answer = await reference.GetMarketRule(reference_pb.GetMarketRuleRequest(market_rule_id=rule))
    assert [(step.low_edge, step.increment) for step in answer.increments] == [("0", "0.25")]
    for wrong in (0, -1, 99_999):
        with pytest.raises(InvalidRequest, match="market_rule_id") as refused:
            await reference.GetMarketRule(reference_pb.GetMarketRuleRequest(market_rule_id=wrong))
        assert refused.value.reason == "FIELD_INVALID"


async def test_contracts_resolve_alone_and_together_with_all_candidates_when_ambiguous(gateway: Gateway) -> None:
    reference = gateway.client.reference_data
    request = reference_pb.ResolveContractRequest(instrument=future("MES"))
    assert (await reference.ResolveContract(request)).instrument.local_symbol.startswith("MES")
    request = reference_pb.ResolveContractsRequest(instruments=[stock("AAPL"), stock("AAPLL")])
    one, two = (await reference.ResolveContracts(request)).results
    assert one.instrument.con_id == 265598
    assert two.error.error_code == "CONTRACT_NOT_FOUND"
    ambiguous = common_pb2.Instrument(symbol="AAPL", security_type=common_pb2.SECURITY_TYPE_OPT)
    with pytest.raises(InvalidRequest) as refused:
        await reference.ResolveContract(reference_pb.ResolveContractRequest(instrument=ambiguous))
    assert refused.value.reason == "CONTRACT_AMBIGUOUS"
    details = await reference.GetContractDetails(reference_pb.GetContractDetailsRequest(instrument=stock("AAPL")))
    assert details.details[0].long_name == "APPLE INC"
    assert details.details[0].regular_sessions
    futures = await reference.ListFutures(reference_pb.ListFuturesRequest(symbol="ES"))
    assert len(futures.contracts) == 4
    assert futures.front_month.expiry < futures.next_month.expiry


# --- account ---------------------------------------------------------------------------------------------------------


async def test_the_account_answers_consistently(gateway: Gateway) -> None:
    client = gateway.client.account
    (account,) = (await client.ListAccounts(account_pb.ListAccountsRequest())).accounts
    assert account.is_paper
    summary = (await client.GetAccountSummary(account_pb.GetAccountSummaryRequest())).summary
    assert float(summary.net_liquidation) > 900_000
    status = await client.GetAccountStatus(account_pb.GetAccountStatusRequest(account_id=account.account_id))
    positions = (await client.GetPositions(account_pb.GetPositionsRequest())).positions
    assert [position.instrument.con_id for position in status.positions] == [
        position.instrument.con_id for position in positions
    ]
    pnl = (await client.GetPnl(account_pb.GetPnlRequest(timeframe="1W"))).pnl
    assert {detail.instrument.con_id for detail in pnl.details} == {
        position.instrument.con_id for position in positions
    }
    values = (await client.GetAccountValues(account_pb.GetAccountValuesRequest())).values
    assert "NetLiquidation" in {value.tag for value in values}
    with pytest.raises(NotFound) as refused:
        await client.GetPositions(account_pb.GetPositionsRequest(account_id="U7654321"))
    assert refused.value.reason == "ACCOUNT_NOT_FOUND"


# --- orders ----------------------------------------------------------------------------------------------------------


async def test_an_orders_whole_way_through_the_contract(gateway: Gateway) -> None:
    orders, key = gateway.client.orders, new_client_order_id()
    named = orders_pb.OrderKey(client_order_id=key)
    preview = (await orders.PreviewOrder(orders_pb.PreviewOrderRequest(order=order()))).preview
    assert preview.margin_source == orders_pb.MARGIN_SOURCE_BROKER_WHATIF
    assert preview.commission.amount == "1"
    result = await place(gateway, order(), key)
    assert not result.is_simulated

    async def status() -> orders_pb.OrderStatus:
        return (await orders.GetOrderStatus(orders_pb.GetOrderStatusRequest(order=named))).status

    async with asyncio.timeout(30):
        while (await status()).state != orders_pb.ORDER_STATE_FILLED or not (await status()).HasField("commission"):
            await asyncio.sleep(0.01)
    whole = (await orders.GetOrder(orders_pb.GetOrderRequest(order=orders_pb.OrderKey(order_id=result.order_id)))).order
    assert whole.spec.quantity == whole.status.filled_quantity == whole.executions[0].quantity == "10"
    listed = (await orders.ListOrders(orders_pb.ListOrdersRequest(symbol="AAPL"))).orders
    assert [found.client_order_id for found in listed] == [key]
    executions = (await gateway.client.account.ListExecutions(account_pb.ListExecutionsRequest())).executions
    assert [found.client_order_id for found in executions] == [key]
    assert (await orders.ListOpenOrders(orders_pb.ListOpenOrdersRequest())).orders == []


async def test_a_resting_order_is_listed_open_and_cancelled(gateway: Gateway) -> None:
    result = await place(gateway, limit())
    orders = gateway.client.orders
    (open_order,) = (await orders.ListOpenOrders(orders_pb.ListOpenOrdersRequest(include_external=True))).orders
    assert open_order.client_order_id == result.client_order_id
    request = orders_pb.CancelOrderRequest(order=orders_pb.OrderKey(perm_id=open_order.perm_id))
    assert (await orders.CancelOrder(request)).status.state == orders_pb.ORDER_STATE_CANCELLED


async def test_with_orders_disabled_an_order_is_simulated_or_refused_on_request(make_gateway: MakeGateway) -> None:
    gateway = await make_gateway(orders_enabled=False)
    result = await place(gateway, order())
    assert result.is_simulated
    assert result.state == orders_pb.ORDER_STATE_SIMULATED
    request = orders_pb.PlaceOrderRequest(client_order_id="a" * 16, order=order(), require_transmit=True)
    with pytest.raises(Refused) as refused:
        await gateway.client.orders.PlaceOrder(request)
    assert refused.value.reason == "TRADING_DISABLED"
    assert gateway.simulator.frames_received(3) == 0


@pytest.mark.parametrize(
    ("request_", "reason", "fields"),
    [
        (
            orders_pb.PlaceOrderRequest(order=order(quantity="-1", limit_price="5")),
            "FIELD_INVALID",
            ["client_order_id", "order.quantity", "order.limit_price"],
        ),
        (orders_pb.PlaceOrderRequest(order=order()), "CLIENT_ORDER_ID_MISSING", ["client_order_id"]),
        (
            orders_pb.PlaceOrderRequest(client_order_id="short", order=orders_pb.OrderSpec()),
            "FIELD_INVALID",
            ["client_order_id", "order.instrument.symbol", "order.side", "order.order_type", "order.quantity"],
        ),
        (
            orders_pb.PlaceOrderRequest(client_order_id="a" * 16, order=limit("187.305")),
            "TICK_SIZE",
            ["order.limit_price"],
        ),
        (
            orders_pb.PlaceOrderRequest(client_order_id="a" * 16, order=order(quantity="1.5")),
            "QUANTITY_FRACTIONAL",
            ["order.quantity"],
        ),
        (
            orders_pb.PlaceOrderRequest(
                client_order_id="a" * 16,
                order=order(order_type=orders_pb.ORDER_TYPE_BRACKET, oca_group="x", trailing_amount="1"),
            ),
            "FIELD_INVALID",
            ["order.trailing_amount", "order.take_profit_price", "order.stop_loss_price", "order.oca_group"],
        ),
        (
            orders_pb.PlaceOrderRequest(client_order_id="a" * 16, order=order(side=9, quantity="١٠")),
            "FIELD_INVALID",
            ["order.side", "order.quantity"],
        ),
        (
            orders_pb.PlaceOrderRequest(client_order_id="a" * 16, order=order(quantity="1e3")),
            "FIELD_INVALID",
            ["order.quantity"],
        ),
        (
            orders_pb.PlaceOrderRequest(client_order_id="a" * 16, order=order(instrument=index("SPX"))),
            "FIELD_INVALID",
            ["order.instrument.security_type"],
        ),
    ],
)
async def test_a_bad_order_has_every_wrong_field_named_and_nothing_sent(
    gateway: Gateway, request_: orders_pb.PlaceOrderRequest, reason: str, fields: list[str]
) -> None:
    with pytest.raises(InvalidRequest) as refused:
        await gateway.client.orders.PlaceOrder(request_)
    assert refused.value.reason == reason
    assert sorted(refused.value.fields) == sorted(fields)
    assert gateway.simulator.frames_received(3) == 0


async def test_an_unknown_order_is_not_found_and_a_nameless_one_is_refused(gateway: Gateway) -> None:
    with pytest.raises(NotFound) as missing:
        await gateway.client.orders.GetOrder(
            orders_pb.GetOrderRequest(order=orders_pb.OrderKey(client_order_id="x" * 16))
        )
    assert missing.value.reason == "ORDER_NOT_FOUND"
    with pytest.raises(InvalidRequest):
        await gateway.client.orders.CancelOrder(orders_pb.CancelOrderRequest())


async def test_order_events_resume_through_the_contract(gateway: Gateway) -> None:
    await place(gateway, order())

    async def events(after: int) -> list[int]:
        request = orders_pb.StreamOrderEventsRequest(
            resume_after_sequence=after, heartbeat_interval=Duration(seconds=1)
        )
        found: list[int] = []
        async for response in gateway.client.orders.StreamOrderEvents(request):
            found += [event.sequence for event in response.events if event.sequence]
            if any(event.HasField("heartbeat") for event in response.events):
                break
        return found

    whole = await events(0)
    assert len(whole) >= 6
    assert await events(whole[3]) == whole[4:]


# --- the gateway itself ----------------------------------------------------------------------------------------------


async def test_health_info_time_status_and_reasons(gateway: Gateway) -> None:
    client = gateway.client.gateway
    health = await client.GetHealth(gateway_pb.GetHealthRequest())
    assert health.status == gateway_pb.HEALTH_STATUS_OK
    assert health.is_simulation
    info = await client.GetServerInfo(gateway_pb.GetServerInfoRequest())
    assert info.tws_server_version == 178
    assert info.broker_library.startswith("ib_async ")
    time = await client.GetServerTime(gateway_pb.GetServerTimeRequest())
    assert abs(time.broker_time.ToSeconds() - time.gateway_time.ToSeconds()) <= 1
    status = (await client.GetTradingStatus(gateway_pb.GetTradingStatusRequest())).status
    assert status.can_send_orders
    reasons = (await client.ListErrorReasons(gateway_pb.ListErrorReasonsRequest())).reasons
    assert len(reasons) == 51


async def test_metrics_count_what_was_asked(gateway: Gateway) -> None:
    await gateway.client.gateway.GetHealth(gateway_pb.GetHealthRequest())
    await place(gateway, order())
    metrics = await gateway.client.gateway.GetMetrics(gateway_pb.GetMetricsRequest())
    counted = {(counter.name, *sorted(counter.labels.values())): counter.value for counter in metrics.counters}
    assert counted["api_requests_total", "/ibkr_gateway.v1.GatewayService/GetHealth", "OK"] == 1
    assert any(name == "orders_total" for name, *_ in counted)
    assert any(name == "ibkr_operations_total" for name, *_ in counted)
    assert {"api_request_duration_seconds", "ibkr_operation_duration_seconds"} <= {h.name for h in metrics.histograms}
    assert ("ibkr_connection_status", 1.0) in {(gauge.name, gauge.value) for gauge in metrics.gauges}


async def test_every_rpc_is_served_unless_its_comment_says_otherwise(gateway: Gateway) -> None:
    info = await gateway.client.gateway.GetServerInfo(gateway_pb.GetServerInfoRequest())
    promised = set()
    for path in PROTO.glob("*_service.proto"):
        text = path.read_text()
        (service,) = re.findall(r"^service (\w+)", text, re.MULTILINE)
        for comment, name in re.findall(r"((?:^  //.*\n)+)  rpc (\w+)\(", text, re.MULTILINE):
            if "Not served yet:" in comment:
                promised.add(f"/ibkr_gateway.v1.{service}/{name}")
    assert set(info.unimplemented_rpcs) == promised


async def test_usage_names_each_limit_and_what_is_used_of_it(gateway: Gateway) -> None:
    async def used() -> dict[str, tuple[int, int, int]]:
        told = await gateway.client.gateway.GetUsage(gateway_pb.GetUsageRequest())
        return {limit.name: (limit.used_count, limit.limit_count, limit.window.seconds) for limit in told.limits}

    before = await used()
    assert before["messages"][1:] == (45, 1)
    assert before["history"] == (0, 58, 600)
    assert before["market_data_lines"] == (0, 100, 0)
    await gateway.client.market_data.GetQuote(market_pb.GetQuoteRequest(instrument=stock("AAPL")))
    request = market_pb.GetHistoricalBarsRequest(
        instrument=stock("AAPL"), bar_size=bar_size("30 secs"), duration=duration("1800 S")
    )
    await gateway.client.market_data.GetHistoricalBars(request)
    after = await used()
    assert (after["history"][0], after["market_data_lines"][0]) == (1, 1)
    assert after["messages"][0] > 0


async def test_the_session_is_watched_through_a_loss(gateway: Gateway) -> None:
    states: list[int] = []
    async with asyncio.timeout(30):
        async for response in gateway.client.gateway.WatchSession(gateway_pb.WatchSessionRequest()):
            states.append(response.status.state)
            if len(states) == 1:
                gateway.simulator.drop_connections()
            if response.status.epoch == 2 and response.status.state == common_pb2.SESSION_STATE_READY:
                break
    assert states[0] == common_pb2.SESSION_STATE_READY
    assert common_pb2.SESSION_STATE_RECONNECTING in states


async def test_audit_events_are_found_by_correlation_id_and_the_chain_holds(gateway: Gateway) -> None:
    request = orders_pb.PlaceOrderRequest(client_order_id=new_client_order_id(), order=order())
    await gateway.client.orders.PlaceOrder(request, metadata=(("x-correlation-id", "my-call-1"),))
    audit = gateway.client.audit
    found = (await audit.QueryAuditEvents(audit_pb.QueryAuditEventsRequest(correlation_id="my-call-1"))).events
    assert [event.kind for event in found] == ["order.send", "order.intent"]
    assert (await audit.VerifyAuditChain(audit_pb.VerifyAuditChainRequest())).is_valid
    pages = await audit.QueryAuditEvents(audit_pb.QueryAuditEventsRequest(page_size=2))
    assert pages.next_page_token
    with pytest.raises(InvalidRequest) as refused:
        await audit.QueryAuditEvents(audit_pb.QueryAuditEventsRequest(page_token="../etc"))
    assert refused.value.reason == "REQUEST_MALFORMED"


async def test_the_simulator_is_moved_through_the_contract(gateway: Gateway) -> None:
    simulation = gateway.client.simulation
    await simulation.SetQuote(simulation_pb.SetQuoteRequest(instrument=stock("MSFT"), last_price=400.0))
    quote = (await gateway.client.market_data.GetQuote(market_pb.GetQuoteRequest(instrument=stock("MSFT")))).quote
    assert quote.last_price == pytest.approx(400.0, rel=0.01)
    state = await simulation.GetState(simulation_pb.GetStateRequest())
    assert (state.seed, state.connection_count, state.order_frame_count) == (7, 1, 0)
    await simulation.InjectFault(simulation_pb.InjectFaultRequest(fault=simulation_pb.FAULT_DISCONNECT))
    await eventually(lambda: gateway.running.session.epoch == 2)
    with pytest.raises(InvalidRequest):
        await simulation.SetQuote(simulation_pb.SetQuoteRequest(instrument=stock("MSFT"), last_price=-1.0))
    with pytest.raises(NotFound):
        await simulation.SetQuote(simulation_pb.SetQuoteRequest(instrument=stock("NOSUCH"), last_price=1.0))


async def test_the_contract_has_every_fault_of_the_simulator() -> None:
    named = {name.removeprefix("FAULT_") for name in simulation_pb.Fault.keys()}  # noqa: SIM118 - not a dict
    assert named - {"UNSPECIFIED"} == {fault.name for fault in SimulatedFault}


async def test_faults_are_injected_through_the_contract_and_wrong_ones_named(gateway: Gateway) -> None:
    simulation = gateway.client.simulation
    request = simulation_pb.InjectFaultRequest(fault=simulation_pb.FAULT_LOSE, message_id=3, times=0, probability=0.5)
    request.duration.FromSeconds(3600)
    await simulation.InjectFault(request)
    await simulation.InjectFault(simulation_pb.InjectFaultRequest(fault=simulation_pb.FAULT_LINK_LOST))
    state = await simulation.GetState(simulation_pb.GetStateRequest())
    assert (state.waiting_fault_count, state.is_link_lost) == (1, True)
    for wrong, field in (
        (simulation_pb.InjectFaultRequest(), "fault"),
        (simulation_pb.InjectFaultRequest(fault=999), "fault"),  # type: ignore[arg-type]  # a newer client's
        (simulation_pb.InjectFaultRequest(fault=simulation_pb.FAULT_LOSE, times=-1), "times"),
        (simulation_pb.InjectFaultRequest(fault=simulation_pb.FAULT_LOSE, message_id=0), "message_id"),
        (simulation_pb.InjectFaultRequest(fault=simulation_pb.FAULT_CORRUPT_FIELD), "field_number"),
        (simulation_pb.InjectFaultRequest(fault=simulation_pb.FAULT_LATE), "delay"),
    ):
        with pytest.raises(InvalidRequest) as refused:
            await simulation.InjectFault(wrong)
        assert field in str(refused.value)


async def test_a_scenario_a_moved_clock_and_a_reset_come_through_the_contract(gateway: Gateway) -> None:
    simulation = gateway.client.simulation
    text = "[[event]]\nat = 600\nfault = 'link_lost'\n"
    await simulation.SetScenario(simulation_pb.SetScenarioRequest(scenario=text))
    before = await simulation.GetState(simulation_pb.GetStateRequest())
    request = simulation_pb.AdvanceClockRequest()
    request.duration.FromSeconds(601)
    moved = await simulation.AdvanceClock(request)
    assert moved.simulated_time.ToSeconds() >= before.simulated_time.ToSeconds() + 601
    assert (await simulation.GetState(simulation_pb.GetStateRequest())).is_link_lost
    await simulation.Reset(simulation_pb.ResetRequest(seed=12))
    state = await simulation.GetState(simulation_pb.GetStateRequest())
    assert (state.seed, state.is_link_lost) == (12, False)
    await eventually(lambda: gateway.running.session.epoch == 2)
    with pytest.raises(InvalidRequest, match="line 1"):
        await simulation.SetScenario(simulation_pb.SetScenarioRequest(scenario="[[event]]\nat = -1\n"))
    with pytest.raises(InvalidRequest):
        await simulation.SetScenario(simulation_pb.SetScenarioRequest())
    request.duration.FromSeconds(-1)
    with pytest.raises(InvalidRequest):
        await simulation.AdvanceClock(request)
    with pytest.raises(InvalidRequest):
        await simulation.AdvanceClock(simulation_pb.AdvanceClockRequest())


async def test_every_answer_names_its_call_and_the_simulation(gateway: Gateway) -> None:
    async with grpc.aio.insecure_channel(gateway.running.target) as channel:
        call = channel.unary_unary(
            "/ibkr_gateway.v1.GatewayService/GetHealth",
            request_serializer=gateway_pb.GetHealthRequest.SerializeToString,
            response_deserializer=gateway_pb.GetHealthResponse.FromString,
        )
        for given, expected in (("mine-1", "mine-1"), ("not\tone" + "x" * 80, None)):
            running = call(gateway_pb.GetHealthRequest(), metadata=(("x-correlation-id", given.replace("\t", " ")),))
            assert dict(await running.initial_metadata() or ())["x-simulation"] == "true"
            answered = dict(await running.trailing_metadata() or ())
            assert answered["x-correlation-id"] == expected or (
                expected is None and len(answered["x-correlation-id"]) == 36
            )
            await running


async def test_while_the_broker_is_away_reads_say_so_and_health_follows(gateway: Gateway) -> None:
    async with grpc.aio.insecure_channel(gateway.running.target) as channel:
        health = health_pb2_grpc.HealthStub(channel)

        async def served(name: str) -> bool:
            answer = await health.Check(health_pb2.HealthCheckRequest(service=name))
            return answer.status == health_pb2.HealthCheckResponse.SERVING

        assert await served("ibkr_gateway.v1.OrdersService")
        gateway.running.session.connection().callbacks.error(-1, 1100, "lost")
        async with asyncio.timeout(30):
            while await served("ibkr_gateway.v1.OrdersService"):
                await asyncio.sleep(0.01)
        assert await served("")
        assert await served("liveness")
        assert await served("ibkr_gateway.v1.GatewayService")
        with pytest.raises(Unavailable) as refused:
            await gateway.client.market_data.GetQuote(market_pb.GetQuoteRequest(instrument=stock("MSFT")))
        assert refused.value.reason == "BROKER_LINK_DOWN"


@pytest.mark.parametrize(
    "request_",
    [
        market_pb.StreamQuotesRequest(),
        market_pb.StreamQuotesRequest(instruments=[stock("AAPL")] * 101),
        market_pb.StreamQuotesRequest(instruments=[stock("AAPL")], heartbeat_interval=Duration(seconds=61)),
        market_pb.StreamQuotesRequest(instruments=[common_pb2.Instrument(symbol="AAPL")]),
        market_pb.StreamQuotesRequest(instruments=[stock("A" * 50)]),
    ],
)
async def test_a_bad_stream_request_is_refused(gateway: Gateway, request_: market_pb.StreamQuotesRequest) -> None:
    with pytest.raises(InvalidRequest):
        async for _ in gateway.client.market_data.StreamQuotes(request_):
            pass


def test_bar_sizes_and_units_are_in_the_contracts_order() -> None:
    assert len(BarSize) == len(market_pb.BarSize.keys()) - 1
    for number, size in enumerate(BarSize, start=1):
        name = market_pb.BarSize.Name(number).removeprefix("BAR_SIZE_").lower().rstrip("s")
        assert size.value.replace(" ", "_").rstrip("s").replace("1_sec", "1_sec") == name
    for number, unit in enumerate(DurationUnit, start=1):
        assert market_pb.DurationUnit.Name(number).removeprefix("DURATION_UNIT_")[0] == unit.value


async def test_a_client_that_pings_often_is_not_sent_away(gateway: Gateway) -> None:
    options = [("grpc.keepalive_time_ms", 10_000), ("grpc.http2.max_pings_without_data", 0)]
    async with grpc.aio.insecure_channel(gateway.running.target, options=options) as channel:
        call = channel.unary_unary(
            "/ibkr_gateway.v1.GatewayService/GetHealth",
            request_serializer=gateway_pb.GetHealthRequest.SerializeToString,
            response_deserializer=gateway_pb.GetHealthResponse.FromString,
        )
        for _ in range(5):
            await call(gateway_pb.GetHealthRequest())


async def test_one_client_works_beside_another(gateway: Gateway) -> None:
    async with connect(gateway.running.target) as other:
        answers = await asyncio.gather(
            *(
                client.market_data.GetQuote(market_pb.GetQuoteRequest(instrument=stock("AAPL")))
                for client in (gateway.client, other) * 10
            )
        )
    assert len(answers) == 20
    assert gateway.simulator.frames_received(1) == 1
