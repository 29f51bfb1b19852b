"""SimulationService, served only when the simulator stands in for IBKR."""

from __future__ import annotations

from collections.abc import Callable
from datetime import UTC, datetime
from typing import Any, Protocol

from google.protobuf.duration_pb2 import Duration
from ibkr_gateway.v1 import simulation_service_pb2 as pb

from ibkr_gateway_server.domain.errors import ContractNotFound, Violations
from ibkr_gateway_server.rpc import parse, present
from ibkr_gateway_server.rpc.calls import Call

# The contract's optional fields by what the simulator calls them, and back from what it finds wrong.
_OPTIONAL = {"message_id": "message_id", "times": "times", "probability": "probability", "field_number": "field"}
_FIELDS = {"message": "message_id", "field": "field_number"}


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
    @property
    def waiting_fault_count(self) -> int: ...
    @property
    def link_is_lost(self) -> bool: ...


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
    def inject_by_name(self, fault: str, *, times: int | None = None, **details: Any) -> tuple[str, str] | None: ...
    def play_text(self, text: str) -> str: ...
    def advance_clock(self, seconds: float) -> float: ...
    def reset(self, seed: int | None = None) -> None: ...


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

    async def SetScenario(self, request: pb.SetScenarioRequest, _call: Call) -> pb.SetScenarioResponse:
        wrong = "give a scenario's text" if not request.scenario else self._simulator.play_text(request.scenario)
        _refuse("scenario", wrong)
        return pb.SetScenarioResponse()

    async def InjectFault(self, request: pb.InjectFaultRequest, _call: Call) -> pb.InjectFaultResponse:
        if request.fault not in pb.Fault.values() or request.fault == pb.FAULT_UNSPECIFIED:
            _refuse("fault", "say what shall go wrong")
        details: dict[str, Any] = {"code": request.code, "text": request.text, "value": request.value}
        for field, detail in _OPTIONAL.items():
            if request.HasField(field):  # type: ignore[arg-type]  # the names are in the table
                details[detail] = getattr(request, field)
        if request.HasField("duration"):
            details["duration_s"] = _seconds(request.duration)
        if request.HasField("delay"):
            details["delay_s"] = _seconds(request.delay)
        wrong = self._simulator.inject_by_name(pb.Fault.Name(request.fault).removeprefix("FAULT_"), **details)
        if wrong is not None:
            key, why = wrong
            _refuse(_FIELDS.get(key, key), why)
        return pb.InjectFaultResponse()

    async def AdvanceClock(self, request: pb.AdvanceClockRequest, _call: Call) -> pb.AdvanceClockResponse:
        if not request.HasField("duration"):
            _refuse("duration", "say how far")
        try:
            now = self._simulator.advance_clock(_seconds(request.duration))
        except ValueError as wrong:
            _refuse("duration", str(wrong))
            raise
        return pb.AdvanceClockResponse(simulated_time=present.time(datetime.fromtimestamp(now, UTC)))

    async def Reset(self, request: pb.ResetRequest, _call: Call) -> pb.ResetResponse:
        self._simulator.reset(request.seed if request.HasField("seed") else None)
        return pb.ResetResponse()

    async def GetState(self, _request: pb.GetStateRequest, _call: Call) -> pb.GetStateResponse:
        state = self._state()
        return pb.GetStateResponse(
            seed=state.seed,
            simulated_time=present.time(datetime.fromtimestamp(state.simulated_time, UTC)),
            connection_count=state.connection_count,
            order_frame_count=state.order_frame_count,
            waiting_fault_count=state.waiting_fault_count,
            is_link_lost=state.link_is_lost,
        )


def _refuse(field: str, why: str) -> None:
    """Raises FieldsInvalid when there is a reason to."""
    found = Violations()
    if why:
        found.add(field, why)
    found.raise_if_any()


def _seconds(duration: Duration) -> float:
    return duration.seconds + duration.nanos / 1e9
