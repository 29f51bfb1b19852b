"""SimulationService, served only when the simulator stands in for IBKR."""

from __future__ import annotations

from collections.abc import Callable
from datetime import UTC, datetime
from typing import Protocol

from ibkr_gateway.v1 import simulation_service_pb2 as pb

from ibkr_gateway_server.domain.errors import ContractNotFound, NotImplementedYet, Violations
from ibkr_gateway_server.rpc import parse, present
from ibkr_gateway_server.rpc.calls import Call


class SimulatorState(Protocol):
    """What the simulator says of itself."""

    @property
    def seed(self) -> int: ...
    @property
    def simulated_time(self) -> float: ...
    @property
    def connection_count(self) -> int: ...
    @property
    def order_frame_count(self) -> int: ...


class SimulatorControl(Protocol):
    """What may be done to the simulator from outside."""

    def set_quote(
        self,
        symbol: str,
        *,
        bid: float | None = None,
        ask: float | None = None,
        last: float | None = None,
        sec_type: str = "",
    ) -> None: ...
    def drop_connections(self) -> None: ...


class SimulationServicer:
    """Moves the simulator."""

    def __init__(self, simulator: SimulatorControl, state: Callable[[], SimulatorState]) -> None:
        self._simulator = simulator
        self._state = state

    async def SetQuote(self, request: pb.SetQuoteRequest, _call: Call) -> pb.SetQuoteResponse:
        named = parse.one_instrument(request)
        given = {
            "bid": request.bid_price if request.HasField("bid_price") else None,
            "ask": request.ask_price if request.HasField("ask_price") else None,
            "last": request.last_price if request.HasField("last_price") else None,
        }
        found = Violations()
        if all(price is None for price in given.values()):
            found.add("bid_price", "give a bid, an ask or a last price")
        for name, price in given.items():
            if price is not None and not 0 < price < 1e9:
                found.add(f"{name}_price", f"{price:g} is not a price")
        found.raise_if_any()
        try:
            self._simulator.set_quote(named.symbol, sec_type=named.security_type or "", **given)
        except (LookupError, ValueError):
            raise ContractNotFound(named.symbol, str(named.security_type or "")) from None
        return pb.SetQuoteResponse()

    async def InjectFault(self, request: pb.InjectFaultRequest, _call: Call) -> pb.InjectFaultResponse:
        if request.fault != pb.FAULT_DISCONNECT:
            raise NotImplementedYet("a fault other than FAULT_DISCONNECT")
        self._simulator.drop_connections()
        return pb.InjectFaultResponse()

    async def GetState(self, _request: pb.GetStateRequest, _call: Call) -> pb.GetStateResponse:
        state = self._state()
        return pb.GetStateResponse(
            seed=state.seed,
            simulated_time=present.time(datetime.fromtimestamp(state.simulated_time, UTC)),
            connection_count=state.connection_count,
            order_frame_count=state.order_frame_count,
        )
