"""The words of streams as messages: quotes, ticks and order events with heartbeats, gaps and all."""

from __future__ import annotations

import itertools
from collections.abc import AsyncIterable, AsyncIterator
from typing import Any

from ibkr_gateway.v1 import common_pb2, market_data_service_pb2, orders_service_pb2

from ibkr_gateway_server.domain.accounts import AccountPnl, AccountSummary, Position
from ibkr_gateway_server.domain.bars import Bar
from ibkr_gateway_server.domain.depth import MarketDepth
from ibkr_gateway_server.domain.errors import DomainError
from ibkr_gateway_server.domain.events import (
    AlarmRaised,
    CommissionReported,
    Filled,
    ModifiedExternally,
    Noted,
    NoticeReceived,
    OrderEvent,
    StatusChanged,
)
from ibkr_gateway_server.domain.orders import BrokerNotice
from ibkr_gateway_server.domain.quotes import Quote
from ibkr_gateway_server.domain.streams import (
    DataTypeChanged,
    Draining,
    Gap,
    Heartbeat,
    QuoteEvent,
    Resumed,
    SnapshotBegin,
    SnapshotEnd,
    Stale,
    TickEvent,
)
from ibkr_gateway_server.domain.ticks import Tick
from ibkr_gateway_server.rpc import present, present_accounts
from ibkr_gateway_server.rpc.status import gateway_error
from ibkr_gateway_server.streams.accounts import AccountItem
from ibkr_gateway_server.streams.depth import BookShown
from ibkr_gateway_server.streams.market_data import Accepted, Item, Open
from ibkr_gateway_server.streams.orders import OrderStreamItem


def word(said: object) -> dict[str, Any]:
    """A stream's word about itself, as the oneof field it fills."""
    match said:
        case SnapshotBegin():
            return {"snapshot_begin": common_pb2.SnapshotBegin()}
        case SnapshotEnd():
            return {"snapshot_end": common_pb2.SnapshotEnd()}
        case Heartbeat():
            return {"heartbeat": heartbeat(said)}
        case Gap():
            return {"gap": common_pb2.Gap(reason=said.reason, start_time=present.time(said.start_time))}
        case Resumed():
            started = present.time(said.gap_start_time)
            return {"resumed": common_pb2.Resumed(recovered=said.recovered, gap_start_time=started)}
        case Stale():
            return {"stale": common_pb2.Stale(since_time=present.time(said.since_time), reason=said.reason)}
        case DataTypeChanged():
            changed = present.enum(common_pb2.MarketDataType, "MARKET_DATA_TYPE", said.market_data_type)
            return {"data_type_changed": common_pb2.DataTypeChanged(market_data_type=changed)}
        case BrokerNotice():
            return {"notice": present.notice(said)}
        case Draining():
            return {"draining": common_pb2.Draining(deadline=present.time(said.deadline))}
    raise TypeError(f"{type(said).__name__} is no word of a stream")


def heartbeat(beat: Heartbeat) -> common_pb2.Heartbeat:
    """A heartbeat."""
    return common_pb2.Heartbeat(
        send_time=present.time(beat.send_time),
        session_state=present.enum(common_pb2.SessionState, "SESSION_STATE", beat.session_state),
        epoch=beat.epoch,
    )


def quote_event(event: QuoteEvent, source: str, correlation_id: str) -> market_data_service_pb2.QuoteEvent:
    """One event of a quote stream."""
    happening = event.happening
    if isinstance(happening, Quote):
        fields: dict[str, Any] = {"quote": present.quote(happening, source)}
    elif isinstance(happening, DomainError):
        fields = {"error": gateway_error(happening, correlation_id)}
    else:
        fields = word(happening)
    return market_data_service_pb2.QuoteEvent(
        sequence=event.sequence,
        instrument_index=event.instrument_index,
        conflated_count=event.conflated_count,
        **fields,
    )


def account_item(item: AccountItem) -> dict[str, Any]:
    """One item of an account stream, as the oneof field it fills."""
    match item:
        case AccountSummary():
            return {"summary": present_accounts.account_summary(item)}
        case Position():
            return {"position": present_accounts.position(item)}
        case AccountPnl():
            return {"pnl": present_accounts.account_pnl(item)}
    return word(item)


async def numbered(batches: AsyncIterable[tuple[AccountItem, ...]]) -> AsyncIterator[list[tuple[int, AccountItem]]]:
    """Batches whose items are numbered from 1 on through the stream."""
    sequence = itertools.count(1)
    async for batch in batches:
        yield [(next(sequence), item) for item in batch]


def tick_event(event: TickEvent, correlation_id: str) -> market_data_service_pb2.TickEvent:
    """One event of a tick stream."""
    happening = event.happening
    if isinstance(happening, Tick):
        fields: dict[str, Any] = {"tick": present.tick(happening)}
    elif isinstance(happening, DomainError):
        fields = {"error": gateway_error(happening, correlation_id)}
    else:
        fields = word(happening)
    return market_data_service_pb2.TickEvent(sequence=event.sequence, **fields)


def bar_event(sequence: int, happening: object, correlation_id: str) -> market_data_service_pb2.BarEvent:
    """One event of a bar stream."""
    if isinstance(happening, Bar):
        fields: dict[str, Any] = {"bar": present.bar(happening)}
    elif isinstance(happening, DomainError):
        fields = {"error": gateway_error(happening, correlation_id)}
    else:
        fields = word(happening)
    return market_data_service_pb2.BarEvent(sequence=sequence, **fields)


def depth_event(sequence: int, happening: object, correlation_id: str) -> market_data_service_pb2.MarketDepthEvent:
    """One event of a depth stream."""
    if isinstance(happening, BookShown):
        fields: dict[str, Any] = {"depth": present.depth(happening.book)}
    elif isinstance(happening, DomainError):
        fields = {"error": gateway_error(happening, correlation_id)}
    else:
        fields = word(happening)
    return market_data_service_pb2.MarketDepthEvent(sequence=sequence, **fields)


def market_data_event(
    sequence: int, item: Item, source: str, correlation_id: str
) -> market_data_service_pb2.MarketDataEvent:
    """One event of a market-data connection."""
    return market_data_service_pb2.MarketDataEvent(
        sequence=sequence,
        request_id=item.request_id,
        conflated_count=item.conflated_count,
        **_of_connection(item.happening, source, correlation_id),
    )


def _of_connection(happening: object, source: str, correlation_id: str) -> dict[str, Any]:
    match happening:
        case Quote():
            return {"quote": present.quote(happening, source)}
        case MarketDepth():
            return {"depth": present.depth(happening)}
        case Tick():
            return {"tick": present.tick(happening)}
        case Bar():
            return {"bar": present.bar(happening)}
        case DomainError():
            return {"error": gateway_error(happening, correlation_id)}
        case Accepted(named):
            resolved = None if named is None else present.instrument(named)
            return {"accepted": market_data_service_pb2.SubscriptionAccepted(instrument=resolved)}
        case Open(request_ids):
            return {"subscriptions": market_data_service_pb2.SubscriptionList(request_ids=request_ids)}
    return word(happening)


def order_event(item: OrderStreamItem) -> orders_service_pb2.OrderEvent:
    """One event of an order stream; those that are not of the record have no sequence."""
    if not isinstance(item, OrderEvent):
        return orders_service_pb2.OrderEvent(**word(item))
    return orders_service_pb2.OrderEvent(
        sequence=item.sequence,
        occurred_time=present.time(item.occurred_time),
        client_order_id=item.client_order_id,
        order_id=item.order_id,
        perm_id=item.perm_id,
        account_id=item.account_id,
        recovered=item.recovered,
        leg_role=present.enum(orders_service_pb2.LegRole, "LEG_ROLE", item.leg_role),
        audit_pending=item.audit_pending,
        **_happening(item),
    )


def _happening(event: OrderEvent) -> dict[str, Any]:
    match event.happening:
        case StatusChanged(status):
            return {"status": present.order_status(status)}
        case Filled(execution):
            return {"execution": present.execution(execution)}
        case CommissionReported(execution):
            return {"commission": present.execution(execution)}
        case NoticeReceived(notice):
            return {"notice": present.notice(notice)}
        case ModifiedExternally(before, after):
            change = orders_service_pb2.ExternalModification(
                before=present.order_status(before), after=present.order_status(after)
            )
            return {"modified_externally": change}
        case AlarmRaised(kind, text):
            raised = present.enum(orders_service_pb2.OrderAlarmKind, "ORDER_ALARM_KIND", kind)
            return {"alarm": orders_service_pb2.OrderAlarm(kind=raised, message=text)}
        case Noted():
            raise AssertionError("what is for the record alone is told to nobody")
