"""From the domain to messages, whole objects at a time. What is None stays absent."""

from __future__ import annotations

from datetime import UTC, date, datetime
from decimal import Decimal
from enum import Enum
from itertools import chain
from typing import Any

from google.protobuf.duration_pb2 import Duration
from google.protobuf.timestamp_pb2 import Timestamp
from ibkr_gateway.v1 import (
    account_service_pb2,
    common_pb2,
    error_reason_pb2,
    gateway_service_pb2,
    market_data_service_pb2,
    orders_service_pb2,
)

from ibkr_gateway_server.domain.bars import Bar
from ibkr_gateway_server.domain.depth import MarketDepth
from ibkr_gateway_server.domain.instruments import Instrument
from ibkr_gateway_server.domain.orders import (
    Blocker,
    BrokerNotice,
    Execution,
    Leg,
    Order,
    OrderKey,
    OrderSpec,
    OrderState,
    OrderStatus,
    OrderType,
    Preview,
)
from ibkr_gateway_server.domain.quotes import Greeks, Quote
from ibkr_gateway_server.domain.sessions import SessionStatus
from ibkr_gateway_server.domain.ticks import Tick

_EPOCH = datetime(1970, 1, 1, tzinfo=UTC)


def time(moment: datetime | None) -> Timestamp | None:
    """A point in time; None stays absent."""
    if moment is None:
        return None
    # Timestamp.FromDatetime does the same in four times the time, and every quote has two of them.
    since = moment - _EPOCH
    return Timestamp(seconds=since.days * 86400 + since.seconds, nanos=since.microseconds * 1000)


def duration(seconds: float | None) -> Duration | None:
    """A length of time; None stays absent."""
    if seconds is None:
        return None
    whole = int(seconds)
    return Duration(seconds=whole, nanos=int((seconds - whole) * 1e9))


def decimal(value: Decimal | None) -> str | None:
    """A decimal without exponent and trailing zeros; None stays absent."""
    if value is None:
        return None
    text = f"{value:f}"
    return text.rstrip("0").rstrip(".") if "." in text else text


def enum(kind: Any, prefix: str, member: Enum | None) -> Any:
    """The contract's value of a domain enum's member; None is unspecified."""
    return kind.Value(f"{prefix}_{member.name if member is not None else 'UNSPECIFIED'}")


def money(amount: Decimal | None, currency: str) -> common_pb2.Money | None:
    """An amount of money; None stays absent."""
    return None if amount is None else common_pb2.Money(amount=decimal(amount) or "0", currency_code=currency)


def instrument(named: Instrument) -> common_pb2.Instrument:
    """An instrument with every field that applies."""
    return common_pb2.Instrument(
        con_id=named.con_id,
        symbol=named.symbol,
        security_type=enum(common_pb2.SecurityType, "SECURITY_TYPE", named.security_type),
        exchange=named.exchange,
        currency=named.currency,
        primary_exchange=named.primary_exchange,
        expiry=named.expiry,
        strike=decimal(named.strike) or "",
        right=enum(common_pb2.OptionRight, "OPTION_RIGHT", named.right),
        multiplier=decimal(named.multiplier) or "",
        local_symbol=named.local_symbol,
        trading_class=named.trading_class,
    )


def quote(quoted: Quote, source: str, *, is_snapshot: bool = False) -> market_data_service_pb2.Quote:
    """A quote. `source` says whether IBKR or the simulator gave it, `is_snapshot` whether one was asked for."""
    return market_data_service_pb2.Quote(
        instrument=instrument(quoted.instrument),
        bid_price=quoted.bid_price,
        ask_price=quoted.ask_price,
        last_price=quoted.last_price,
        bid_size=quoted.bid_size,
        ask_size=quoted.ask_size,
        last_size=quoted.last_size,
        open_price=quoted.open_price,
        high_price=quoted.high_price,
        low_price=quoted.low_price,
        close_price=quoted.close_price,
        volume=quoted.volume,
        market_data_type=enum(common_pb2.MarketDataType, "MARKET_DATA_TYPE", quoted.market_data_type),
        exchange_time=time(quoted.exchange_time),
        receive_time=time(quoted.receive_time),
        source=source,
        is_snapshot=is_snapshot,
        is_stale=quoted.is_stale,
        halted=quoted.halted,
        greeks=_greeks(quoted.greeks),
    )


def bar(shown: Bar) -> market_data_service_pb2.Bar:
    """A bar: by time, or by date when it is daily or wider."""
    by_time = isinstance(shown.start, datetime)
    return market_data_service_pb2.Bar(
        start_time=time(shown.start) if isinstance(shown.start, datetime) else None,
        date="" if by_time else _date(shown.start),
        open=shown.open,
        high=shown.high,
        low=shown.low,
        close=shown.close,
        volume=shown.volume,
        wap=shown.wap,
        trade_count=shown.trade_count,
        is_complete=shown.is_complete,
    )


def depth(shown: MarketDepth) -> market_data_service_pb2.MarketDepth:
    """A whole book."""
    bids, asks = (
        [market_data_service_pb2.DepthRow(price=row.price, size=row.size, venue=row.venue) for row in rows]
        for rows in (shown.bids, shown.asks)
    )
    return market_data_service_pb2.MarketDepth(bids=bids, asks=asks)


def tick(shown: Tick) -> market_data_service_pb2.Tick:
    """A tick; what it does not say stays absent."""
    return market_data_service_pb2.Tick(
        exchange_time=time(shown.exchange_time),
        price=shown.price,
        size=shown.size,
        bid_price=shown.bid_price,
        ask_price=shown.ask_price,
        bid_size=shown.bid_size,
        ask_size=shown.ask_size,
        exchange=shown.exchange,
        special_conditions=shown.special_conditions,
    )


def execution(fill: Execution) -> account_service_pb2.Execution:
    """One fill."""
    return account_service_pb2.Execution(
        execution_id=fill.execution_id,
        client_order_id=fill.client_order_id,
        order_id=fill.order_id,
        perm_id=fill.perm_id,
        account_id=fill.account_id,
        instrument=instrument(fill.instrument),
        side=enum(common_pb2.Side, "SIDE", fill.side),
        quantity=decimal(fill.quantity) or "0",
        price=decimal(fill.price) or "0",
        execution_time=time(fill.execution_time),
        exchange=fill.exchange,
        commission=money(fill.commission, fill.commission_currency),
        realized_pnl=decimal(fill.realized_pnl),
        recovered=fill.recovered,
    )


def notice(said: BrokerNotice) -> common_pb2.Notice:
    """Something IBKR said."""
    return common_pb2.Notice(ibkr_code=said.code, text=said.text)


def order_status(status: OrderStatus) -> orders_service_pb2.OrderStatus:
    """Where an order stands."""
    return orders_service_pb2.OrderStatus(
        client_order_id=status.client_order_id,
        order_id=status.order_id,
        perm_id=status.perm_id,
        account_id=status.account_id,
        instrument=instrument(status.instrument),
        side=enum(common_pb2.Side, "SIDE", status.side),
        order_type=enum(orders_service_pb2.OrderType, "ORDER_TYPE", status.order_type),
        broker_order_type=status.broker_order_type,
        time_in_force=enum(orders_service_pb2.TimeInForce, "TIME_IN_FORCE", status.time_in_force),
        quantity=decimal(status.quantity) or "0",
        limit_price=decimal(status.limit_price),
        stop_price=decimal(status.stop_price),
        state=enum(orders_service_pb2.OrderState, "ORDER_STATE", status.state),
        broker_status=status.broker_status,
        filled_quantity=decimal(status.filled_quantity) or "0",
        remaining_quantity=decimal(status.remaining_quantity) or "0",
        average_fill_price=decimal(status.average_fill_price),
        commission=money(status.commission, status.commission_currency),
        origin=enum(orders_service_pb2.OrderOrigin, "ORDER_ORIGIN", status.origin),
        rejection=notice(status.rejection) if status.rejection else None,
        warnings=[notice(warning) for warning in status.warnings],
        why_held=status.why_held,
        create_time=time(status.create_time),
        update_time=time(status.update_time),
        last_sequence=status.last_sequence,
        leg_role=enum(orders_service_pb2.LegRole, "LEG_ROLE", status.leg_role),
        parent_order_id=status.parent_order_id,
        trailing_amount=decimal(status.trailing_amount),
        trailing_percent=decimal(status.trailing_percent),
        pending_modify_id=status.pending_modify_id,
        oca_group=status.oca_group,
    )


def order_key(key: OrderKey) -> orders_service_pb2.OrderKey:
    """The name of an order, by the id that it has."""
    role = enum(orders_service_pb2.LegRole, "LEG_ROLE", key.leg_role)
    if key.client_order_id:
        return orders_service_pb2.OrderKey(client_order_id=key.client_order_id, leg_role=role)
    if key.order_id:
        return orders_service_pb2.OrderKey(order_id=key.order_id, leg_role=role)
    return orders_service_pb2.OrderKey(perm_id=key.perm_id, leg_role=role)


def order_result(placed: Order) -> orders_service_pb2.OrderResult:
    """What has become of a placed order."""
    status = placed.status
    return orders_service_pb2.OrderResult(
        client_order_id=status.client_order_id,
        order_id=status.order_id,
        state=enum(orders_service_pb2.OrderState, "ORDER_STATE", status.state),
        order_ids=[leg.order_id for leg in placed.legs if leg.order_id],
        leg_roles=[enum(orders_service_pb2.LegRole, "LEG_ROLE", leg.leg_role) for leg in placed.legs],
        warnings=[notice(warning) for warning in dict.fromkeys(chain(*(leg.warnings for leg in placed.legs)))],
        is_simulated=status.state is OrderState.SIMULATED,
        status=order_status(status),
        legs=[order_status(leg) for leg in placed.legs],
    )


def order(known: Order) -> orders_service_pb2.Order:
    """An order with its terms, its legs and their executions."""
    return orders_service_pb2.Order(
        spec=order_spec(known.spec) if known.spec else None,
        status=order_status(known.status),
        executions=[execution(fill) for fill in known.executions],
        legs=[order_status(leg) for leg in known.legs],
    )


def preview(shown: Preview, source: str, correlation_id: str) -> orders_service_pb2.OrderPreview:
    """What an order would do."""
    what_if = shown.what_if
    fee_currency = what_if.commission_currency if what_if else ""
    currency = what_if.currency if what_if else ""
    return orders_service_pb2.OrderPreview(
        legs=[_leg(leg) for leg in shown.legs],
        total_notional=money(shown.notional, shown.instrument.currency),
        commission=money(what_if.commission, fee_currency) if what_if else None,
        min_commission=money(what_if.min_commission, fee_currency) if what_if else None,
        max_commission=money(what_if.max_commission, fee_currency) if what_if else None,
        initial_margin_change=money(what_if.initial_margin_change, currency) if what_if else None,
        maintenance_margin_change=money(what_if.maintenance_margin_change, currency) if what_if else None,
        margin_source=enum(orders_service_pb2.MarginSource, "MARGIN_SOURCE", shown.margin_source),
        quote=quote(shown.quote, source) if shown.quote else None,
        warnings=shown.warnings,
        blockers=[blocker_error(blocker, correlation_id) for blocker in shown.blockers],
        preview_token=shown.token,
        expire_time=time(shown.expire_time),
    )


def blocker_error(blocker: Blocker, correlation_id: str) -> error_reason_pb2.GatewayError:
    """A blocker as the error that PlaceOrder would give."""
    details = {"remedy": blocker.remedy, "correlation_id": correlation_id}
    return error_reason_pb2.GatewayError(error_code=blocker.reason, message=blocker.message, details=details)


def session_status(status: SessionStatus) -> gateway_service_pb2.SessionStatus:
    """Where the session stands."""
    return gateway_service_pb2.SessionStatus(
        state=enum(common_pb2.SessionState, "SESSION_STATE", status.state),
        epoch=status.epoch,
        since_time=time(status.since_time),
        reason=status.reason,
        message=status.message,
        next_attempt_time=time(status.next_attempt_time),
        farms=[
            gateway_service_pb2.FarmStatus(name=farm.name, ibkr_code=farm.ibkr_code, is_ok=farm.is_ok)
            for farm in status.farms
        ],
        clock_skew=None if status.clock_skew is None else Duration(seconds=round(status.clock_skew.total_seconds())),
    )


def order_spec(spec: OrderSpec) -> orders_service_pb2.OrderSpec:
    """The terms of an order, in their one spelling."""
    return orders_service_pb2.OrderSpec(
        account_id=spec.account_id,
        instrument=instrument(spec.instrument),
        side=enum(common_pb2.Side, "SIDE", spec.side),
        quantity=decimal(spec.quantity) or "0",
        order_type=enum(orders_service_pb2.OrderType, "ORDER_TYPE", spec.order_type),
        limit_price=decimal(spec.limit_price),
        stop_price=decimal(spec.stop_price),
        time_in_force=enum(orders_service_pb2.TimeInForce, "TIME_IN_FORCE", spec.time_in_force),
        outside_regular_hours=spec.outside_regular_hours,
        strategy_id=spec.strategy_id,
        note=spec.note,
        trailing_amount=decimal(spec.trailing_amount),
        trailing_percent=decimal(spec.trailing_percent),
        trail_stop_price=decimal(spec.trail_stop_price),
        limit_offset=decimal(spec.limit_offset),
        take_profit_price=decimal(spec.take_profit_price),
        stop_loss_price=decimal(spec.stop_loss_price),
        stop_loss_limit_price=decimal(spec.stop_loss_limit_price),
        bracket_transmit=spec.bracket_transmit if spec.order_type is OrderType.BRACKET else None,
        oca_group=spec.oca_group,
        oca_type=enum(orders_service_pb2.OcaType, "OCA_TYPE", spec.oca_type),
        good_till_time=time(spec.good_till_time),
        good_after_time=time(spec.good_after_time),
        all_or_none=spec.all_or_none,
        hidden=spec.hidden,
        display_size=spec.display_size,
    )


def _leg(leg: Leg) -> orders_service_pb2.OrderLeg:
    return orders_service_pb2.OrderLeg(
        role=enum(orders_service_pb2.LegRole, "LEG_ROLE", leg.terms.role),
        order_type=enum(orders_service_pb2.OrderType, "ORDER_TYPE", leg.terms.order_type),
        side=enum(common_pb2.Side, "SIDE", leg.terms.side),
        quantity=decimal(leg.terms.quantity) or "0",
        limit_price=decimal(leg.terms.limit_price),
        stop_price=decimal(leg.terms.stop_price),
        time_in_force=enum(orders_service_pb2.TimeInForce, "TIME_IN_FORCE", leg.terms.time_in_force),
        estimated_price=decimal(leg.estimated_price),
        estimated_notional=decimal(leg.estimated_notional),
        trailing_amount=decimal(leg.terms.trailing_amount),
        trailing_percent=decimal(leg.terms.trailing_percent),
        trail_stop_price=decimal(leg.terms.trail_stop_price),
        limit_offset=decimal(leg.terms.limit_offset),
    )


def _greeks(greeks: Greeks | None) -> market_data_service_pb2.Greeks | None:
    if greeks is None:
        return None
    return market_data_service_pb2.Greeks(
        implied_volatility=greeks.implied_volatility,
        delta=greeks.delta,
        gamma=greeks.gamma,
        vega=greeks.vega,
        theta=greeks.theta,
        option_price=greeks.option_price,
        underlying_price=greeks.underlying_price,
    )


def _date(day: date) -> str:
    return day.isoformat()
