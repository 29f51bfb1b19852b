"""Faults of the gateway itself: a call that breaks, and a loop that stands."""

from __future__ import annotations

import asyncio
import logging
import threading
from collections.abc import AsyncIterator

import grpc
import pytest
from ibkr_gateway import GatewayError, new_client_order_id
from ibkr_gateway.v1 import gateway_service_pb2 as pb
from ibkr_gateway.v1 import orders_service_pb2 as orders_pb
from ibkr_gateway_server.domain.tallies import LOOP_LAG_SECONDS
from ibkr_gateway_server.loop_watch import STALL_S
from ibkr_gateway_server.rpc.calls import Call
from ibkr_gateway_server.rpc.gateway import GatewayServicer
from ibkr_gateway_server.rpc.orders import OrdersServicer

from tests.conftest import Gateway, MakeGateway, eventually
from tests.failures.conftest import tally
from tests.failures.test_audit_space import order

SECRET = "hunter2 in /home/me of DU1234567"


async def broken_call(_servicer: object, _request: object, _call: Call) -> pb.GetUsageResponse:
    raise RuntimeError(SECRET)


def broken_answer(_servicer: object, _client_order_id: str) -> orders_pb.OrderResult:
    raise RuntimeError(SECRET)


async def broken_stream(_servicer: object, _request: object, _call: Call) -> AsyncIterator[pb.WatchSessionResponse]:
    yield pb.WatchSessionResponse(sequence=1)
    raise RuntimeError(SECRET)


@pytest.mark.parametrize("rpc", ["GetUsage", "WatchSession"])
async def test_G19_a_call_breaks(
    make_gateway: MakeGateway, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture, rpc: str
) -> None:
    """Serving a call, and a stream after its first message, raises an error that nobody thought of.

    INTERNAL with BUG, a fixed text and the correlation id of the call: nothing of the error itself. The log has its
    kind and its place under that id, `api_requests_total` counts it, and the next call is served.
    """
    caplog.set_level(logging.INFO)
    monkeypatch.setattr(GatewayServicer, "GetUsage", broken_call)
    monkeypatch.setattr(GatewayServicer, "WatchSession", broken_stream)
    gateway = await make_gateway()
    mine = [("x-correlation-id", "call-3")]

    async def call() -> None:
        if rpc == "GetUsage":
            await gateway.client.gateway.GetUsage(pb.GetUsageRequest(), metadata=mine)
        async for _ in gateway.client.gateway.WatchSession(pb.WatchSessionRequest(), metadata=mine):
            pass

    with pytest.raises(GatewayError) as failed:
        await call()
    assert (failed.value.code, failed.value.reason) == (grpc.StatusCode.INTERNAL, "BUG")
    assert failed.value.correlation_id == "call-3"
    (told,) = [record for record in caplog.records if record.message == "a defect"]
    assert vars(told)["error"] == "RuntimeError"
    assert "test_defects.py" in vars(told)["trace"]
    said = failed.value.message + str(failed.value.details) + caplog.text + str([vars(told)])
    assert not [word for word in SECRET.split() if len(word) > 2 and word in said]

    def counted() -> list[float]:
        return [
            counter.value
            for counter in gateway.running.metrics.snapshot().counters
            if counter.name == "api_requests_total" and counter.labels["status"] == "INTERNAL"
        ]

    # A caller may have his answer before it is counted.
    await eventually(lambda: counted() == [1])
    assert (await gateway.client.gateway.GetHealth(pb.GetHealthRequest())).is_simulation


async def test_G19_a_defect_strikes_after_an_order_was_sent(gateway: Gateway, monkeypatch: pytest.MonkeyPatch) -> None:
    """PlaceOrder has sent its order, and telling the answer raises an error that nobody thought of.

    INTERNAL without a reason of the gateway's, which would say that nothing was sent; the call's correlation id is in
    the metadata. The same client_order_id answers with the order's state, and nothing is sent twice.
    """
    request = orders_pb.PlaceOrderRequest(client_order_id=new_client_order_id(), order=order())
    with monkeypatch.context() as broken:
        broken.setattr(OrdersServicer, "_result", broken_answer)
        with pytest.raises(GatewayError) as failed:
            await gateway.client.orders.PlaceOrder(request, metadata=[("x-correlation-id", "call-3")])
    assert (failed.value.code, failed.value.reason) == (grpc.StatusCode.INTERNAL, "")
    assert SECRET not in failed.value.message
    assert (await gateway.client.orders.PlaceOrder(request)).result.state == orders_pb.ORDER_STATE_WORKING
    assert gateway.simulator.frames_received(3) == 1


class Noticing(logging.Handler):
    """Sets an event once a line is logged; it keeps the line."""

    def __init__(self, message: str) -> None:
        super().__init__()
        self._message = message
        self.noticed = threading.Event()
        self.trace = ""

    def emit(self, record: logging.LogRecord) -> None:
        if record.getMessage() == self._message:
            self.trace = vars(record)["trace"]
            self.noticed.set()


async def test_G20_something_holds_up_the_event_loop(gateway: Gateway) -> None:
    """A callback holds up the event loop for more than a second.

    Nothing is answered meanwhile, neither calls nor health checks; a thread logs the place where the loop stands, and
    `loop_lag_seconds` tells how late it is. Then everything goes on, in the same session.
    """
    epoch, lags = gateway.running.session.epoch, []
    noticing = Noticing("the event loop stands")

    def hold_up() -> None:
        assert noticing.noticed.wait(20)
        lags.append(tally(gateway, LOOP_LAG_SECONDS))

    logging.getLogger().addHandler(noticing)
    try:
        asyncio.get_running_loop().call_soon(hold_up)
        assert (await gateway.client.gateway.GetHealth(pb.GetHealthRequest())).is_simulation
    finally:
        logging.getLogger().removeHandler(noticing)
    assert "test_defects.py" in noticing.trace
    assert lags[0] > STALL_S
    assert gateway.running.session.epoch == epoch
