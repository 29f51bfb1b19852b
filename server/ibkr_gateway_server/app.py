"""The composition root: builds every room, starts what runs, and takes it down again in reverse order."""

from __future__ import annotations

import asyncio
import logging
import signal
from collections.abc import AsyncIterator, Callable, Coroutine
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any

from ibkr_gateway.v1 import (
    account_service_pb2,
    audit_service_pb2,
    gateway_service_pb2,
    market_data_service_pb2,
    orders_service_pb2,
    reference_data_service_pb2,
    simulation_service_pb2,
)
from prometheus_client import start_http_server

from ibkr_gateway_server import __version__
from ibkr_gateway_server.audit.denials import Denials
from ibkr_gateway_server.audit.store import AuditStore
from ibkr_gateway_server.broker.accounts import Accounts
from ibkr_gateway_server.broker.connection import BrokerAddress
from ibkr_gateway_server.broker.contracts import Contracts
from ibkr_gateway_server.broker.depth import Depth
from ibkr_gateway_server.broker.feeds import TickFeeds
from ibkr_gateway_server.broker.history import History
from ibkr_gateway_server.broker.keeping import MarketDataSettings
from ibkr_gateway_server.broker.kept_details import KeptDetails
from ibkr_gateway_server.broker.listings import Listings
from ibkr_gateway_server.broker.live_bars import LiveBars
from ibkr_gateway_server.broker.long_history import LongHistory
from ibkr_gateway_server.broker.market_data import MarketData
from ibkr_gateway_server.broker.pacing import Pacer
from ibkr_gateway_server.broker.session import Session, SessionTimings
from ibkr_gateway_server.domain.halts import HaltLevel
from ibkr_gateway_server.domain.tallies import AUDIT_BACKLOG, LOOP_LAG_SECONDS, Tallies
from ibkr_gateway_server.loop_watch import LoopWatch
from ibkr_gateway_server.metrics import Metrics
from ibkr_gateway_server.rpc.account import AccountServicer
from ibkr_gateway_server.rpc.audit import AuditServicer
from ibkr_gateway_server.rpc.calls import CallWrapper
from ibkr_gateway_server.rpc.gate import Gate
from ibkr_gateway_server.rpc.gateway import About, GatewayServicer
from ibkr_gateway_server.rpc.market_data import MarketDataServicer
from ibkr_gateway_server.rpc.orders import OrdersServicer
from ibkr_gateway_server.rpc.reference_data import ReferenceDataServicer
from ibkr_gateway_server.rpc.server import GatewayServer
from ibkr_gateway_server.rpc.simulation import SimulationServicer
from ibkr_gateway_server.settings import Settings
from ibkr_gateway_server.settings_watch import SettingsWatch
from ibkr_gateway_server.simulator import Simulator
from ibkr_gateway_server.streams.accounts import AccountHub
from ibkr_gateway_server.streams.bars import BarHub
from ibkr_gateway_server.streams.depth import DepthHub
from ibkr_gateway_server.streams.market_data import Hubs, MarketDataHub
from ibkr_gateway_server.streams.orders import OrderEvents
from ibkr_gateway_server.streams.quotes import QuoteHub
from ibkr_gateway_server.streams.ticks import TickHub
from ibkr_gateway_server.trading.desk import Desk, DeskTimings
from ibkr_gateway_server.trading.guard import Mode, TradingRules
from ibkr_gateway_server.trading.halt import HaltSwitch
from ibkr_gateway_server.trading.order_metrics import OrdersObserver
from ibkr_gateway_server.trading.session_record import SessionRecord
from ibkr_gateway_server.trading.watch import TradingWatch

log = logging.getLogger(__name__)

# From the signal to stop until what is left is cut off.
DRAIN_S = 10.0


class PortTaken(OSError):
    """A port this server needs is in use; `setting` names it."""

    def __init__(self, setting: str, address: str) -> None:
        super().__init__(f"{setting}: cannot listen on {address}; is another server running there?")


@dataclass(frozen=True, slots=True)
class Running:
    """A running gateway."""

    host: str
    port: int
    session: Session
    desk: Desk
    halt: HaltSwitch
    market_data: MarketData
    history: History
    metrics: Metrics
    simulator: Simulator | None

    @property
    def target(self) -> str:
        """What a client connects to."""
        return f"{self.host}:{self.port}"


@asynccontextmanager
async def running(
    settings: Settings,
    *,
    session_timings: SessionTimings | None = None,
    desk_timings: DeskTimings | None = None,
    drain_s: float = DRAIN_S,
) -> AsyncIterator[Running]:
    """A gateway that serves until the context ends; then calls end, the record is closed and TWS left, in that order.

    Raises PortTaken; RecordUnusable and OSError when the record cannot be opened.
    """
    async with AsyncExitStack() as stack:
        tallies = Tallies()
        metrics = Metrics(tallies)
        if settings.metrics_port:
            _serve_metrics(settings, metrics, stack)
        store = await stack.enter_async_context(
            AuditStore(settings.record_path, tallies=tallies, observe_commit=metrics.audit_commit.observe)
        )
        address, simulator = await _broker(settings, stack)
        loop = asyncio.get_running_loop()
        pacer = Pacer(loop.time, observe_order_wait=metrics.order_queue_wait.observe)
        session = Session(
            address,
            settings.ibkr_client_id,
            pacer,
            session_timings,
            observe=_observer_of_requests(metrics),
            tallies=tallies,
            account=settings.ibkr_account,
            restarts=settings.restarts,
        )
        accounts = Accounts(session, pacer)
        # Simulated contracts must never be mistaken for real ones, and cost nothing to ask for.
        kept = None if settings.is_simulation else KeptDetails(settings.contracts_path)
        contracts = Contracts(session, pacer, kept=kept)
        wanted = MarketDataSettings(settings.data_type, fall_back_to_delayed=settings.competing_session == "delayed")
        market_data = MarketData(session, contracts, pacer, wanted)
        history = History(session, contracts, pacer, loop.time)
        long_history = LongHistory(session, contracts, history, loop.time)
        desk = Desk(_rules(settings), session, pacer, contracts, market_data, accounts, store, desk_timings)
        halt = HaltSwitch(store, desk, session.now)
        await halt.load()
        desk.guard.obey(halt.look)
        record = SessionRecord(store, lambda: session.pin.mismatch or desk.guard.mismatch(session.pin.accounts))
        session.on_event(record.put)
        desk.on_reconciled(record.reconciled)
        account_hub = AccountHub(accounts, session)
        hub = QuoteHub(market_data, lambda: session.status)
        feeds = TickFeeds(session, contracts, pacer, wanted)
        live_bars = LiveBars(session, contracts, pacer, history, wanted)
        depth = Depth(session, contracts, pacer, wanted)
        keepers = (market_data, feeds, live_bars, depth)
        for keeper in keepers:
            keeper.urgent = lambda: {order.instrument.con_id for order in desk.own_open_orders()}
        ticks = TickHub(feeds, lambda: session.status)
        bars = BarHub(live_bars, lambda: session.status)
        books = DepthHub(depth, lambda: session.status)
        all_data = MarketDataHub(Hubs(hub, ticks, bars, books), contracts, lambda: session.status)
        events = OrderEvents(store, desk.own_open_orders, lambda: session.status, desk.recorder.pending)
        desk.recorder.listen(events.put)
        desk.recorder.listen_pending(events.put)
        tallies.watch(AUDIT_BACKLOG, lambda: desk.recorder.backlog)
        orders_observer = OrdersObserver(metrics)
        desk.recorder.listen(orders_observer.observe)
        # What happened at IBKR before the first reconciliation is not in the record yet either.
        events.lost(session.status.reason)
        session.on_lost(events.lost)
        desk.on_reconciled(events.recovered)

        source = "SIMULATOR" if settings.is_simulation else "IBKR"
        denials = Denials(store)
        gate = Gate(settings.tokens, denials.put)
        wrapper = CallWrapper(metrics, settings.request_timeout, is_simulation=settings.is_simulation, gate=gate)
        server = GatewayServer(wrapper)
        about = About(settings, __version__, datetime.now(UTC), lambda: wrapper.unimplemented)
        trading = TradingWatch(desk.trading_status, session)
        gateway = GatewayServicer(
            about,
            session,
            trading,
            halt,
            metrics,
            lambda: (
                pacer.usage(),
                history.usage(),
                market_data.line_usage(),
                feeds.usage(),
                *live_bars.usage(),
                depth.usage(),
            ),
        )
        servicers = {
            market_data_service_pb2: MarketDataServicer(market_data, history, long_history, all_data, source),
            reference_data_service_pb2: ReferenceDataServicer(
                contracts, Listings(session, contracts, pacer, loop.time)
            ),
            account_service_pb2: AccountServicer(session, accounts, store, account_hub),
            orders_service_pb2: OrdersServicer(desk, events, store, source),
            gateway_service_pb2: gateway,
            audit_service_pb2: AuditServicer(store),
        }
        if simulator is not None:
            servicers[simulation_service_pb2] = SimulationServicer(simulator, simulator.state)
        for module, servicer in servicers.items():
            (service,) = module.DESCRIPTOR.services_by_name.values()
            server.add(service, servicer)

        def drain(deadline: datetime) -> None:
            desk.guard.drain()
            for part in (all_data, hub, ticks, bars, books, long_history, account_hub, events, gateway):
                part.drain(deadline)

        try:
            port = server.bind(settings.grpc_host, settings.grpc_port, settings.tls)
        except OSError:
            raise PortTaken("GRPC_PORT", f"{settings.grpc_host}:{settings.grpc_port}") from None
        await stack.enter_async_context(desk.running())
        orders_observer.begin(desk.own_open_orders())
        watch = SettingsWatch(settings.files, metrics.settings_changed.set)
        loop_watch = LoopWatch()
        tallies.watch(LOOP_LAG_SECONDS, lambda: loop_watch.lag_s)
        await stack.enter_async_context(_background(record.run(), denials.run(), watch.run(), loop_watch.run()))
        await stack.enter_async_context(
            _background(session.run(), market_data.run(), feeds.run(), live_bars.run(), depth.run())
        )
        await stack.enter_async_context(
            _background(_follow(session, server, metrics), trading.run(), _follow_trading(trading, server), halt.run())
        )
        await server.start()
        try:
            yield Running(settings.grpc_host, port, session, desk, halt, market_data, history, metrics, simulator)
        finally:
            await server.stop(drain, drain_s)


async def serve(settings: Settings) -> None:
    """Serve until SIGTERM or SIGINT; a second signal does not wait for calls to end. SIGUSR1 halts trading."""
    stop = asyncio.Event()
    loop = asyncio.get_running_loop()
    this = asyncio.current_task()
    assert this is not None

    def stop_now_or_at_once() -> None:
        if stop.is_set():
            this.cancel()
        stop.set()

    for number in (signal.SIGTERM, signal.SIGINT):
        loop.add_signal_handler(number, stop_now_or_at_once)
    async with running(settings) as gateway:
        loop.add_signal_handler(signal.SIGUSR1, gateway.halt.engage_at_once, HaltLevel.BLOCK_NEW, "SIGUSR1")
        log.info("serving", extra={"target": gateway.target, "mode": settings.mode, "version": __version__})
        # The one line for programs that start this one and wait for it.
        print(f"listening on {gateway.target}", flush=True)
        await stop.wait()
        log.info("stopping", extra={"open_orders": len(gateway.desk.own_open_orders())})


async def _broker(settings: Settings, stack: AsyncExitStack) -> tuple[BrokerAddress, Simulator | None]:
    """Where TWS is: as set, or a simulator of our own on this machine, spoken to over the very same wire."""
    if not settings.is_simulation:
        return BrokerAddress(settings.ibkr_gateway_host, settings.broker_port), None
    simulator = Simulator(seed=settings.simulation_seed)
    try:
        address = await stack.enter_async_context(simulator.listen("127.0.0.1", settings.broker_port))
    except OSError:
        raise PortTaken("IBKR_GATEWAY_PORT", f"127.0.0.1:{settings.broker_port}") from None
    return BrokerAddress(address.host, address.port), simulator


def _rules(settings: Settings) -> TradingRules:
    return TradingRules(
        mode=Mode(settings.mode),
        orders_enabled=settings.sends_orders,
        override_file=settings.live_trading_override_file,
        override_max_age_h=settings.live_override_max_age,
        max_notional=settings.max_notional,
        max_size_per_symbol=settings.max_size_per_symbol,
        max_open_orders=settings.max_open_orders or None,
        duplicate_window_s=settings.duplicate_window,
    )


@asynccontextmanager
async def _background(*work: Coroutine[Any, Any, None]) -> AsyncIterator[None]:
    """Run coroutines until the context ends; the failure of one ends the gateway."""
    async with asyncio.TaskGroup() as group:
        tasks = [group.create_task(each) for each in work]
        try:
            yield
        finally:
            for task in tasks:
                task.cancel()


async def _follow(session: Session, server: GatewayServer, metrics: Metrics) -> None:
    """Whatever depends on the session's state follows it."""
    async for status in session.changes():
        metrics.connection_status.set(float(status.state.is_linked))
        await server.show_health(status)


async def _follow_trading(trading: TradingWatch, server: GatewayServer) -> None:
    """The orders' service answers as it should while nothing but a switch is in the way."""
    async for status in trading.changes():
        await server.show_orders_health(status)


def _serve_metrics(settings: Settings, metrics: Metrics, stack: AsyncExitStack) -> None:
    try:
        httpd, thread = start_http_server(settings.metrics_port, addr="127.0.0.1", registry=metrics.registry)
    except OSError:
        raise PortTaken("METRICS_PORT", f"127.0.0.1:{settings.metrics_port}") from None
    stack.callback(thread.join)
    stack.callback(httpd.server_close)
    stack.callback(httpd.shutdown)


def _observer_of_requests(metrics: Metrics) -> Callable[[str, str, float], None]:
    def observe(operation: str, status: str, duration_s: float) -> None:
        metrics.ibkr_operations.labels(operation, status).inc()
        metrics.ibkr_operation_duration.labels(operation).observe(duration_s)

    return observe
