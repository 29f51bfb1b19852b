"""The client: its synchronous half on a testing channel, the rest against a real server."""

from __future__ import annotations

import threading
from typing import Any

import grpc
import grpc_testing
import pytest
from ibkr_gateway import InvalidRequest, NotFound, SyncGateway, Unavailable, connect, connect_sync, stock
from ibkr_gateway.v1 import account_service_pb2, gateway_service_pb2
from ibkr_gateway.v1 import market_data_service_pb2 as pb
from ibkr_gateway_server.domain.errors import ContractNotFound
from ibkr_gateway_server.rpc.status import rpc_error

from tests.conftest import Gateway

SERVICE = pb.DESCRIPTOR.services_by_name["MarketDataService"]


class Asked:
    """A call made on another thread, since the testing channel is answered from this one."""

    def __init__(self, gateway: SyncGateway, request: pb.GetQuoteRequest, **options: Any) -> None:
        self.answer: Any = None

        def ask() -> None:
            try:
                self.answer = gateway.market_data.GetQuote(request, **options)
            except Exception as error:
                self.answer = error

        self._thread = threading.Thread(target=ask)
        self._thread.start()

    def result(self) -> Any:
        self._thread.join(5)
        return self.answer


@pytest.fixture
def channel() -> Any:
    return grpc_testing.channel([SERVICE], grpc_testing.strict_real_time())


def test_a_call_carries_a_correlation_id_and_its_answer_comes_back(channel: Any) -> None:
    asked = Asked(SyncGateway(channel), pb.GetQuoteRequest(instrument=stock("AAPL")))
    metadata, request, rpc = channel.take_unary_unary(SERVICE.methods_by_name["GetQuote"])
    rpc.send_initial_metadata(())
    rpc.terminate(pb.GetQuoteResponse(quote=pb.Quote(bid_price=1.5)), (), grpc.StatusCode.OK, "")
    assert request.instrument.symbol == "AAPL"
    assert len(dict(metadata)["x-correlation-id"]) == 36
    assert asked.result().quote.bid_price == 1.5


def test_a_callers_own_correlation_id_and_token_are_sent(channel: Any) -> None:
    gateway = SyncGateway(channel, token="secret")
    asked = Asked(gateway, pb.GetQuoteRequest(), metadata=(("x-correlation-id", "mine"),))
    metadata, _, rpc = channel.take_unary_unary(SERVICE.methods_by_name["GetQuote"])
    rpc.send_initial_metadata(())
    rpc.terminate(pb.GetQuoteResponse(), (), grpc.StatusCode.OK, "")
    asked.result()
    assert dict(metadata).items() >= {"x-correlation-id": "mine", "authorization": "Bearer secret"}.items()


def test_the_gateways_error_is_raised_as_its_class(channel: Any) -> None:
    asked = Asked(SyncGateway(channel), pb.GetQuoteRequest())
    _, _, rpc = channel.take_unary_unary(SERVICE.methods_by_name["GetQuote"])
    status = rpc_error(ContractNotFound("AAPLL", "STK"), "call-1")
    rpc.send_initial_metadata(())
    rpc.terminate(None, status.trailing_metadata, status.code, status.details)
    error = asked.result()
    assert isinstance(error, NotFound)
    assert (error.reason, error.details["symbol"], error.correlation_id) == ("CONTRACT_NOT_FOUND", "AAPLL", "call-1")


def test_an_error_that_no_gateway_made_has_no_reason(channel: Any) -> None:
    asked = Asked(SyncGateway(channel), pb.GetQuoteRequest())
    _, _, rpc = channel.take_unary_unary(SERVICE.methods_by_name["GetQuote"])
    rpc.send_initial_metadata(())
    rpc.terminate(None, (), grpc.StatusCode.UNAVAILABLE, "connection refused")
    error = asked.result()
    assert isinstance(error, Unavailable)
    assert error.reason == ""


def test_the_synchronous_client_streams_from_a_real_server(server: str) -> None:
    with connect_sync(server) as gateway:
        quotes = 0
        for response in gateway.market_data.StreamQuotes(pb.StreamQuotesRequest(instruments=[stock("AAPL")])):
            quotes += sum(event.HasField("quote") for event in response.events)
            if quotes >= 3:
                break
        summary = gateway.account.GetAccountSummary(account_service_pb2.GetAccountSummaryRequest()).summary
        assert float(summary.net_liquidation) > 0
        with pytest.raises(InvalidRequest) as refused:
            next(gateway.market_data.StreamQuotes(pb.StreamQuotesRequest()))
        assert list(refused.value.fields) == ["instruments"]


def test_a_client_that_starts_together_with_the_server_gets_its_quotes(starting_server: str) -> None:
    with connect_sync(starting_server) as gateway:
        request = pb.StreamQuotesRequest(instruments=[stock("AAPL")])
        for response in gateway.market_data.StreamQuotes(request, timeout=60):
            kinds = [event.WhichOneof("event") for event in response.events]
            assert "error" not in kinds
            if "quote" in kinds:
                return
    raise AssertionError("the stream ended without a quote")


async def test_the_asynchronous_client_ends_a_stream_that_it_leaves(gateway: Gateway) -> None:
    stream = gateway.client.market_data.StreamQuotes(pb.StreamQuotesRequest(instruments=[stock("AAPL")]))
    async for _ in stream:
        break
    await stream.aclose()
    metrics = gateway.running.metrics
    assert metrics.open_streams is not None


async def test_without_a_server_a_call_is_unavailable(unused_tcp_port: int) -> None:
    async with connect(f"127.0.0.1:{unused_tcp_port}", timeout_s=2) as client:
        with pytest.raises(Unavailable):
            await client.gateway.GetHealth(gateway_service_pb2.GetHealthRequest())
