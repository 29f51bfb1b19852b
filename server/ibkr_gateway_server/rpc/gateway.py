"""GatewayService."""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncIterator, Callable, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from importlib.resources import files
from typing import Any

from google.protobuf.duration_pb2 import Duration
from ibkr_gateway.v1 import gateway_service_pb2 as pb

from ibkr_gateway_server.broker.ib import LIBRARY
from ibkr_gateway_server.broker.session import Session
from ibkr_gateway_server.domain.errors import Violations
from ibkr_gateway_server.domain.halts import Halt, HaltLevel
from ibkr_gateway_server.domain.orders import TradingStatus
from ibkr_gateway_server.domain.scopes import Scope
from ibkr_gateway_server.domain.sessions import SessionState
from ibkr_gateway_server.domain.streams import Draining, Heartbeat
from ibkr_gateway_server.domain.usage import Usage
from ibkr_gateway_server.metrics import Metrics, Value
from ibkr_gateway_server.rpc import parse, present
from ibkr_gateway_server.rpc.calls import Call
from ibkr_gateway_server.rpc.words import heartbeat, word
from ibkr_gateway_server.settings import Settings
from ibkr_gateway_server.trading.halt import HaltSwitch
from ibkr_gateway_server.trading.watch import TradingWatch


@dataclass(frozen=True, slots=True)
class About:
    """What the server knows of itself from the start."""

    settings: Settings
    version: str
    start_time: datetime
    unimplemented: Callable[[], list[str]]

    @property
    def trading_mode(self) -> pb.TradingMode.ValueType:
        """Paper, live or simulation."""
        return pb.TradingMode.Value(f"TRADING_MODE_{self.settings.mode.upper()}")


class GatewayServicer:
    """How the gateway is."""

    def __init__(
        self,
        about: About,
        session: Session,
        trading: TradingWatch,
        halt: HaltSwitch,
        metrics: Metrics,
        usage: Callable[[], Sequence[Usage]],
    ) -> None:
        self._about = about
        self._session = session
        self._trading = trading
        self._halt = halt
        self._metrics = metrics
        self._usage = usage
        self._draining: Draining | None = None
        self._drain = asyncio.Event()

    def drain(self, deadline: datetime) -> None:
        """End every stream of this service."""
        self._draining = Draining(deadline)
        self._drain.set()

    async def GetHealth(self, _request: pb.GetHealthRequest, _call: Call) -> pb.GetHealthResponse:
        state = self._session.status.state
        healthy = state is SessionState.READY
        return pb.GetHealthResponse(
            status=pb.HEALTH_STATUS_OK if healthy else pb.HEALTH_STATUS_DEGRADED,
            is_broker_connected=state.is_connected,
            session_state=present.session_status(self._session.status).state,
            server_time=present.time(datetime.now(UTC)),
            trading_mode=self._about.trading_mode,
            orders_enabled=self._about.settings.sends_orders,
            version=self._about.version,
            is_simulation=self._about.settings.is_simulation,
        )

    async def GetServerInfo(self, _request: pb.GetServerInfoRequest, _call: Call) -> pb.GetServerInfoResponse:
        connected = self._session.status.state.is_connected
        return pb.GetServerInfoResponse(
            version=self._about.version,
            tws_server_version=self._session.connection().server_version if connected else 0,
            broker_library=LIBRARY,
            trading_mode=self._about.trading_mode,
            broker_address=str(self._session.address),
            client_id=self._session.client_id,
            start_time=present.time(self._about.start_time),
            unimplemented_rpcs=self._about.unimplemented(),
        )

    async def GetServerTime(self, _request: pb.GetServerTimeRequest, _call: Call) -> pb.GetServerTimeResponse:
        broker_time, gateway_time = await self._session.server_time()
        return pb.GetServerTimeResponse(broker_time=present.time(broker_time), gateway_time=present.time(gateway_time))

    async def GetTradingStatus(self, _request: pb.GetTradingStatusRequest, _call: Call) -> pb.GetTradingStatusResponse:
        return pb.GetTradingStatusResponse(status=self._trading_status(self._trading.now()))

    async def WatchTradingStatus(
        self, request: pb.WatchTradingStatusRequest, _call: Call
    ) -> AsyncIterator[pb.WatchTradingStatusResponse]:
        interval_s, sequence, loop = parse.heartbeat_s(request), 0, asyncio.get_running_loop()
        changes = aiter(self._trading.changes())
        change = asyncio.ensure_future(anext(changes))
        draining = asyncio.ensure_future(self._drain.wait())
        waits: tuple[asyncio.Future[Any], ...] = (change, draining)
        heartbeat_at = loop.time() + interval_s
        try:
            while not draining.done():
                sequence += 1
                left_s = heartbeat_at - loop.time()
                if left_s <= 0:
                    heartbeat_at = loop.time() + interval_s
                    status = self._session.status
                    beat = heartbeat(Heartbeat(datetime.now(UTC), status.state, status.epoch))
                    yield pb.WatchTradingStatusResponse(sequence=sequence, heartbeat=beat)
                elif change.done():
                    told, change = change.result(), asyncio.ensure_future(anext(changes))
                    waits = (change, draining)
                    yield pb.WatchTradingStatusResponse(sequence=sequence, status=self._trading_status(told))
                else:
                    await asyncio.wait(waits, timeout=left_s, return_when=asyncio.FIRST_COMPLETED)
        finally:
            for wait in waits:
                wait.cancel()
        yield pb.WatchTradingStatusResponse(sequence=sequence + 1, **word(self._draining))

    async def HaltTrading(self, request: pb.HaltTradingRequest, call: Call) -> pb.HaltTradingResponse:
        level, comment = _level(request), parse.comment(request.comment)
        if level is HaltLevel.GLOBAL_CANCEL:
            call.require(Scope.ADMIN)
        count = await self._halt.engage(level, comment, call.cause, wait_s=max(call.remaining_s, 0.0))
        status = self._trading_status(self._trading.now())
        return pb.HaltTradingResponse(cancel_requested_count=count, status=status)

    async def ResumeTrading(self, request: pb.ResumeTradingRequest, call: Call) -> pb.ResumeTradingResponse:
        await self._halt.release(parse.comment(request.comment), call.cause)
        return pb.ResumeTradingResponse(status=self._trading_status(self._trading.now()))

    def _trading_status(self, status: TradingStatus) -> pb.TradingStatus:
        return pb.TradingStatus(
            trading_mode=self._about.trading_mode,
            orders_enabled=status.orders_enabled,
            has_live_override=status.has_live_override,
            can_send_orders=status.can_send_orders,
            blockers=[
                pb.TradingBlocker(
                    reason=blocker.reason,
                    message=blocker.message,
                    remedy=blocker.remedy,
                    since_time=present.time(blocker.since_time),
                )
                for blocker in status.blockers
            ],
            max_notional=present.decimal(status.max_notional),
            max_size_per_symbol=present.decimal(status.max_size_per_symbol),
            **_halt(status.halt),
        )

    async def WatchSession(
        self, request: pb.WatchSessionRequest, _call: Call
    ) -> AsyncIterator[pb.WatchSessionResponse]:
        interval_s = parse.heartbeat_s(request)
        sequence, told = 0, None
        loop = asyncio.get_running_loop()
        heartbeat_at = loop.time() + interval_s
        while self._draining is None:
            status = self._session.status
            if status is not told:
                sequence, told = sequence + 1, status
                yield pb.WatchSessionResponse(sequence=sequence, status=present.session_status(status))
            if loop.time() >= heartbeat_at:
                sequence, heartbeat_at = sequence + 1, loop.time() + interval_s
                beat = heartbeat(Heartbeat(datetime.now(UTC), status.state, status.epoch))
                yield pb.WatchSessionResponse(sequence=sequence, heartbeat=beat)
            await self._session.changed(status, heartbeat_at - loop.time(), self._drain)
        yield pb.WatchSessionResponse(sequence=sequence + 1, **word(self._draining))

    async def GetUsage(self, _request: pb.GetUsageRequest, _call: Call) -> pb.GetUsageResponse:
        return pb.GetUsageResponse(limits=[_limit(usage) for usage in self._usage()])

    async def GetMetrics(self, _request: pb.GetMetricsRequest, _call: Call) -> pb.GetMetricsResponse:
        snapshot = self._metrics.snapshot()
        return pb.GetMetricsResponse(
            counters=[pb.CounterMetric(**_value(counter)) for counter in snapshot.counters],
            gauges=[pb.GaugeMetric(**_value(gauge)) for gauge in snapshot.gauges],
            histograms=[
                pb.HistogramMetric(
                    name=histogram.name,
                    labels=histogram.labels,
                    value_count=histogram.count,
                    sum=histogram.sum,
                    **dict(zip(("p50", "p90", "p95", "p99"), histogram.percentiles, strict=True)),
                )
                for histogram in snapshot.histograms
            ],
        )

    async def ListErrorReasons(self, _request: pb.ListErrorReasonsRequest, _call: Call) -> pb.ListErrorReasonsResponse:
        reasons = json.loads(files("ibkr_gateway").joinpath("errors.json").read_text())
        return pb.ListErrorReasonsResponse(
            reasons=[
                pb.ErrorReasonInfo(reason=reason["reason"], status=reason["status"], description=reason["description"])
                for reason in reasons
            ]
        )


def _level(request: pb.HaltTradingRequest) -> HaltLevel:
    name = parse.enum_name(request, "level")
    if name not in HaltLevel.__members__:
        found = Violations()
        found.add("level", f"must be one of {', '.join(HaltLevel)}")
        found.raise_if_any()
    return HaltLevel[name]


def _halt(halt: Halt | None) -> dict[str, Any]:
    """The fields of a trading status that tell of a halt; none without one."""
    if halt is None:
        return {}
    level = pb.HaltLevel.Value(f"HALT_LEVEL_{halt.level}")
    return {"halt_level": level, "halt_comment": halt.comment, "halt_time": present.time(halt.since_time)}


def _value(value: Value) -> dict[str, Any]:
    return {"name": value.name, "labels": value.labels, "value": value.value}


def _limit(usage: Usage) -> pb.UsageLimit:
    window = Duration(seconds=round(usage.window_s)) if usage.window_s is not None else None
    return pb.UsageLimit(name=usage.name, used_count=usage.used_count, limit_count=usage.limit_count, window=window)
