"""What the decoder calls: every TWS message, handed to whoever asked for it.

The library's decoder looks up a method by the message's name and leaves out those that are missing, so this object is
all that stands between the wire and us. A message with a request id goes to the request's collector or to a
subscription's sink; one about an order to the order listener; one about the account to the account listener; the rest
is about the session. Names in camelCase are the TWS API's own.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable
from datetime import UTC, datetime
from types import SimpleNamespace
from typing import Any

from ibkr_gateway_server.broker import ib as tws
from ibkr_gateway_server.broker.notices import is_read_only
from ibkr_gateway_server.broker.sinks import AccountListener, Collector, OptionComputation, OrderListener, Sink

log = logging.getLogger(__name__)

# Requests that are not orders are numbered from here, orders from the id TWS gives (1 upwards): an error's id then says
# which of the two it speaks of, since TWS uses one field for both.
FIRST_REQUEST_ID = 1_000_000_000


class Callbacks:
    """Routes every decoded message. One per connection."""

    # The decoder reads these two from its wrapper: the zone it turns times into, and the zone of times that name none.
    defaultTimezone = UTC
    ib = SimpleNamespace(TimezoneTWS="")

    def __init__(self, now: Callable[[], datetime]) -> None:
        self.now = now
        self.collectors: dict[int | str, Collector] = {}
        self.sinks: dict[int, Sink] = {}
        self.account_listener: AccountListener | None = None
        self.order_listener: OrderListener | None = None
        self.on_notice: Callable[[int, str], None] = _ignore_notice
        self.on_read_only: Callable[[], None] = _ignore
        self.on_closed: Callable[[], None] = _ignore
        self.on_undecodable: Callable[[int, str], None] = _ignore_unreadable
        self.next_valid_order_id = 0
        self.received_time = now()
        self.received_count = 0
        self.on_late: Callable[[], None] = _ignore
        self.received_at = asyncio.get_running_loop().time()
        """When the last bytes came, on the loop's clock."""
        self.greeted = asyncio.Event()
        """Set when TWS has said its version."""
        self._touched: dict[Sink, None] = {}

    # --- the connection ------------------------------------------------------------------------------------------

    def tcpDataArrived(self) -> None:
        self.received_time = self.now()
        self.received_count += 1
        self.received_at = asyncio.get_running_loop().time()

    def tcpDataProcessed(self) -> None:
        """All messages of one read are in: whoever got something publishes it, once."""
        touched, self._touched = self._touched, {}
        for sink in touched:
            sink.batch_end()

    def connectAck(self) -> None:
        self.greeted.set()

    def setEventsDone(self) -> None:
        """The library's word for: the socket is gone."""
        self.on_closed()

    def connectionClosed(self) -> None: ...

    def nextValidId(self, order_id: int) -> None:
        self.next_valid_order_id = max(self.next_valid_order_id, order_id)
        self._end("nextValidId", order_id)

    def managedAccounts(self, accounts: str) -> None:
        self._end("managedAccounts", accounts)

    def currentTime(self, time: int) -> None:
        self._end("currentTime", time)

    def error(self, req_id: int, code: int, text: str, _advanced_reject_json: str = "") -> None:
        if is_read_only(code, text):
            self.on_read_only()
        if req_id == -1:
            self.on_notice(code, text)
        elif (collector := self.collectors.get(req_id)) is not None:
            collector.error(code, text)
        elif (sink := self.sinks.get(req_id)) is not None:
            sink.error(code, text)
            self._touched[sink] = None
        elif req_id < FIRST_REQUEST_ID and self.order_listener is not None:
            self.order_listener.order_error(req_id, code, text)
        else:
            self.on_late()
            log.debug("message for a request that has ended", extra={"req_id": req_id, "ibkr_code": code})

    # --- requests with rows and an end ---------------------------------------------------------------------------

    def contractDetails(self, req_id: int, details: Any) -> None:
        self._row(req_id, details)

    def bondContractDetails(self, req_id: int, details: Any) -> None:
        self._row(req_id, details)

    def contractDetailsEnd(self, req_id: int) -> None:
        self._end(req_id)

    def symbolSamples(self, req_id: int, descriptions: list[Any]) -> None:
        self._end(req_id, *descriptions)

    def securityDefinitionOptionParameter(self, req_id: int, *chain: Any) -> None:
        self._row(req_id, chain)

    def securityDefinitionOptionParameterEnd(self, req_id: int) -> None:
        self._end(req_id)

    def marketRule(self, rule_id: int, increments: list[Any]) -> None:
        self._end(f"marketRule:{rule_id}", *increments)

    def historicalData(self, req_id: int, bar: tws.BarData) -> None:
        if req_id in self.collectors:
            self._row(req_id, bar)
        elif (sink := self.sink(req_id)) is not None:
            sink.past_bar(bar)

    def historicalDataEnd(self, req_id: int, _start: str, _end: str) -> None:
        if req_id in self.collectors:
            self._end(req_id)
        elif (sink := self.sink(req_id)) is not None:
            sink.past_bars_end()

    def historicalDataUpdate(self, req_id: int, bar: tws.BarData) -> None:
        if (sink := self.sink(req_id)) is not None:
            sink.bar_update(bar)

    def headTimestamp(self, req_id: int, moment: str) -> None:
        self._end(req_id, moment)

    def historicalSchedule(self, req_id: int, start: str, end: str, time_zone: str, sessions: list[Any]) -> None:
        self._end(req_id, (start, end, time_zone, sessions))

    # --- market data ---------------------------------------------------------------------------------------------

    def priceSizeTick(self, req_id: int, tick_type: int, price: float, size: float) -> None:
        if (sink := self.sink(req_id)) is not None:
            sink.tick_price(tick_type, price, size)

    def tickSize(self, req_id: int, tick_type: int, size: float) -> None:
        if (sink := self.sink(req_id)) is not None:
            sink.tick_size(tick_type, size)

    def tickString(self, req_id: int, tick_type: int, value: str) -> None:
        if (sink := self.sink(req_id)) is not None:
            sink.tick_string(tick_type, value)

    def tickGeneric(self, req_id: int, tick_type: int, value: float) -> None:
        if (sink := self.sink(req_id)) is not None:
            sink.tick_generic(tick_type, value)

    def tickOptionComputation(self, req_id: int, tick_type: int, _attribute: int, *values: float) -> None:
        if (sink := self.sink(req_id)) is not None:
            sink.option_computation(tick_type, OptionComputation(*values))

    def marketDataType(self, req_id: int, market_data_type: int) -> None:
        if (sink := self.sink(req_id)) is not None:
            sink.data_type(market_data_type)

    def tickSnapshotEnd(self, req_id: int) -> None:
        if (sink := self.sink(req_id)) is not None:
            sink.snapshot_end()

    def tickByTickAllLast(
        self,
        req_id: int,
        _tick_type: int,
        time: int,
        price: float,
        size: float,
        _attributes: Any,
        exchange: str,
        special_conditions: str,
    ) -> None:
        if (sink := self.sink(req_id)) is not None:
            sink.trade_tick(time, price, size, exchange, special_conditions)

    def tickByTickBidAsk(
        self, req_id: int, time: int, bid: float, ask: float, bid_size: float, ask_size: float, _attributes: Any
    ) -> None:
        if (sink := self.sink(req_id)) is not None:
            sink.bid_ask_tick(time, bid, ask, bid_size, ask_size)

    def tickByTickMidPoint(self, req_id: int, time: int, midpoint: float) -> None:
        if (sink := self.sink(req_id)) is not None:
            sink.midpoint_tick(time, midpoint)

    def realtimeBar(
        self,
        req_id: int,
        time: int,
        first: float,
        high: float,
        low: float,
        last: float,
        volume: float,
        wap: float,
        count: int,
    ) -> None:
        if (sink := self.sink(req_id)) is not None:
            # As a row of history says it: seconds since the epoch, in digits.
            start: Any = str(time)
            sink.bar_update(tws.BarData(start, first, high, low, last, volume, wap, count))

    def updateMktDepth(self, req_id: int, position: int, operation: int, side: int, price: float, size: float) -> None:
        if (sink := self.sink(req_id)) is not None:
            sink.depth_row(position, operation, side, price, size, "")

    def updateMktDepthL2(
        self,
        req_id: int,
        position: int,
        venue: str,
        operation: int,
        side: int,
        price: float,
        size: float,
        _is_smart: bool = False,
    ) -> None:
        if (sink := self.sink(req_id)) is not None:
            sink.depth_row(position, operation, side, price, size, venue)

    # --- account -------------------------------------------------------------------------------------------------

    def accountSummary(self, req_id: int, account: str, tag: str, value: str, currency: str) -> None:
        if (sink := self.sink(req_id)) is not None:
            sink.account_summary(account, tag, value, currency)

    def accountSummaryEnd(self, req_id: int) -> None:
        if (sink := self.sink(req_id)) is not None:
            sink.account_summary_end()

    def pnl(self, req_id: int, daily: float, unrealized: float, realized: float) -> None:
        if (sink := self.sink(req_id)) is not None:
            sink.pnl(daily, unrealized, realized)

    def pnlSingle(
        self, req_id: int, position: float, daily: float, unrealized: float, realized: float, value: float
    ) -> None:
        if (sink := self.sink(req_id)) is not None:
            sink.pnl_single(position, daily, unrealized, realized, value)

    def position(self, account: str, contract: tws.Contract, quantity: float, average_cost: float) -> None:
        if self.account_listener is not None:
            self.account_listener.position(account, contract, quantity, average_cost)

    def positionEnd(self) -> None:
        if self.account_listener is not None:
            self.account_listener.position_end()
        self._end("positions")

    def updateAccountValue(self, tag: str, value: str, currency: str, account: str) -> None:
        if self.account_listener is not None:
            self.account_listener.account_value(account, tag, value, currency)

    def updatePortfolio(
        self,
        contract: tws.Contract,
        quantity: float,
        market_price: float,
        market_value: float,
        average_cost: float,
        unrealized_pnl: float,
        realized_pnl: float,
        account: str,
    ) -> None:
        if self.account_listener is not None:
            self.account_listener.portfolio(
                account,
                contract,
                quantity,
                market_price,
                market_value,
                average_cost,
                unrealized_pnl,
                realized_pnl,
            )

    def accountDownloadEnd(self, account: str) -> None:
        if self.account_listener is not None:
            self.account_listener.account_download_end(account)
        self._end(f"accountDownload:{account}")

    # --- orders --------------------------------------------------------------------------------------------------

    def openOrder(self, _order_id: int, contract: tws.Contract, order: tws.Order, state: tws.OrderState) -> None:
        if self.order_listener is not None:
            self.order_listener.open_order(contract, order, state)

    def openOrderEnd(self) -> None:
        self._end("openOrders")

    def completedOrder(self, contract: tws.Contract, order: tws.Order, state: tws.OrderState) -> None:
        if self.order_listener is not None:
            self.order_listener.completed_order(contract, order, state)

    def completedOrdersEnd(self) -> None:
        self._end("completedOrders")

    def orderStatus(
        self,
        order_id: int,
        status: str,
        filled: float,
        remaining: float,
        average_fill_price: float,
        perm_id: int,
        _parent_id: int,
        _last_fill_price: float,
        client_id: int,
        why_held: str,
        _market_cap_price: float = 0.0,
    ) -> None:
        if self.order_listener is not None:
            self.order_listener.order_status(
                order_id, status, filled, remaining, average_fill_price, perm_id, client_id, why_held
            )

    def execDetails(self, req_id: int, contract: tws.Contract, execution: tws.Execution) -> None:
        if self.order_listener is not None:
            self.order_listener.execution(contract, execution, is_recovered=req_id in self.collectors)

    def execDetailsEnd(self, req_id: int) -> None:
        self._end(req_id)

    def commissionReport(self, report: tws.CommissionReport) -> None:
        if self.order_listener is not None:
            self.order_listener.commission(report)

    # --- routing -------------------------------------------------------------------------------------------------

    def sink(self, req_id: int) -> Sink | None:
        """Who hears what comes under this id, and publishes it at the end of the read; None: nobody any more."""
        sink = self.sinks.get(req_id)
        if sink is None:
            # Ticks that were on their way when the subscription ended are normal.
            self.on_late()
        else:
            self._touched[sink] = None
        return sink

    def unreadable(self, req_id: int) -> None:
        """A row of this request's could not be read: an answer without it would be a part told as the whole."""
        if (collector := self.collectors.get(req_id)) is not None:
            collector.unreadable()
        elif (sink := self.sinks.get(req_id)) is not None:
            sink.unreadable()

    def _row(self, key: int | str, value: Any) -> None:
        if (collector := self.collectors.get(key)) is not None:
            collector.row(value)

    def _end(self, key: int | str, *values: Any) -> None:
        if (collector := self.collectors.get(key)) is not None:
            for value in values:
                collector.row(value)
            collector.end()


def _ignore() -> None: ...


def _ignore_notice(_code: int, _text: str) -> None: ...


def _ignore_unreadable(_message_id: int, _digest: str) -> None: ...
