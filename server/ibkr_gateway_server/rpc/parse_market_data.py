"""From market-data requests to the domain: every wrong field of a request is found before it is refused."""

from __future__ import annotations

from google.protobuf.message import Message
from ibkr_gateway.v1 import market_data_service_pb2

from ibkr_gateway_server.domain.bars import (
    BarSize,
    BarsRequest,
    DurationUnit,
    HistorySpan,
    LiveBarsRequest,
    LongHistoryRequest,
    WhatToShow,
)
from ibkr_gateway_server.domain.depth import DepthRequest
from ibkr_gateway_server.domain.errors import Violations
from ibkr_gateway_server.domain.instruments import Instrument
from ibkr_gateway_server.domain.ticks import TickType
from ibkr_gateway_server.rpc import parse

# The contract's order of these is the domain's; their names differ, since a Python name cannot begin with a digit.
BAR_SIZES = dict(enumerate(BarSize, start=1))
DURATION_UNITS = dict(enumerate(DurationUnit, start=1))

# What IBKR keeps up to date. Source: TWS API, reqHistoricalData with keepUpToDate, and reqRealTimeBars.
LIVE_SHOWN = (WhatToShow.TRADES, WhatToShow.MIDPOINT, WhatToShow.BID, WhatToShow.ASK)

MAX_DURATION = 86400
MAX_ROWS = 20
DEFAULT_ROWS = 5


def bars_request(message: market_data_service_pb2.GetHistoricalBarsRequest) -> BarsRequest:
    """A historical request. Raises FieldsInvalid."""
    found = Violations()
    with found.under("instrument") as nested:
        named = parse.instrument(message.instrument, nested)
    bar_size = BAR_SIZES.get(message.bar_size)
    if bar_size is None:
        found.add("bar_size", "is needed: BAR_SIZE_1_SEC to BAR_SIZE_1_MONTH")
    history = _history(message.duration, found)
    shown = parse.enum(message, "what_to_show", WhatToShow, found, required=False)
    end = parse.time(message.end_time) if message.HasField("end_time") else None
    found.raise_if_any()
    assert bar_size is not None
    assert history is not None
    return BarsRequest(named, bar_size, history.value, history.unit, shown, message.regular_hours_only, end)


def live_bars_request(message: market_data_service_pb2.StreamBarsRequest) -> LiveBarsRequest:
    """Which bars that go on. Raises FieldsInvalid."""
    found = Violations()
    with found.under("instrument") as nested:
        named = parse.instrument(message.instrument, nested)
    bar_size = BAR_SIZES.get(message.bar_size)
    if bar_size is None or bar_size is BarSize.SEC_1:
        found.add("bar_size", "is needed: BAR_SIZE_5_SECS to BAR_SIZE_1_MONTH; IBKR updates none of one second")
    elif message.real_time and bar_size is not BarSize.SECS_5:
        found.add("bar_size", "is BAR_SIZE_5_SECS where real_time is set")
    shown = parse.enum(message, "what_to_show", WhatToShow, found, required=False)
    if shown is not None and shown not in LIVE_SHOWN:
        found.add("what_to_show", f"{shown} does not go on; one of {', '.join(LIVE_SHOWN)}")
    history = _history(message.duration, found) if message.HasField("duration") else None
    if history is not None and message.real_time:
        found.add("duration", "is not for real_time: IBKR's real-time bars have no history")
    found.raise_if_any()
    assert bar_size is not None
    return LiveBarsRequest(named, bar_size, shown, message.regular_hours_only, history, message.real_time)


def _history(message: market_data_service_pb2.HistoryDuration, found: Violations) -> HistorySpan | None:
    unit = DURATION_UNITS.get(message.unit)
    if unit is None:
        found.add("duration.unit", "is needed: DURATION_UNIT_SECOND, DAY, WEEK, MONTH or YEAR")
    if not 1 <= message.value <= MAX_DURATION:
        found.add("duration.value", f"{message.value} is not within 1 to {MAX_DURATION}")
    return HistorySpan(message.value, unit) if unit is not None else None


def depth_request(message: market_data_service_pb2.StreamMarketDepthRequest) -> DepthRequest:
    """Whose book, and how many rows of it. Raises FieldsInvalid."""
    found = Violations()
    with found.under("instrument") as nested:
        named = parse.instrument(message.instrument, nested)
    row_count = rows(message, "row_count", found)
    found.raise_if_any()
    return DepthRequest(named, row_count, message.smart_depth)


def rows(message: Message, name: str, found: Violations) -> int:
    """Rows of a book on each side; what is wrong is noted."""
    count: int = getattr(message, name) if message.HasField(name) else DEFAULT_ROWS
    if not 1 <= count <= MAX_ROWS:
        found.add(name, f"{count} is not within 1 to {MAX_ROWS}")
    return count


def head_timestamp_request(
    message: market_data_service_pb2.GetHeadTimestampRequest,
) -> tuple[Instrument, WhatToShow | None]:
    """Whose earliest bar of which prices. Raises FieldsInvalid."""
    found = Violations()
    with found.under("instrument") as nested:
        named = parse.instrument(message.instrument, nested)
    shown = parse.enum(message, "what_to_show", WhatToShow, found, required=False)
    found.raise_if_any()
    return named, shown


def long_history_request(message: market_data_service_pb2.StreamHistoricalBarsRequest) -> LongHistoryRequest:
    """Bars of a range. Raises FieldsInvalid."""
    found = Violations()
    with found.under("instrument") as nested:
        named = parse.instrument(message.instrument, nested)
    bar_size = BAR_SIZES.get(message.bar_size)
    if bar_size is None:
        found.add("bar_size", "is needed: BAR_SIZE_1_SEC to BAR_SIZE_1_MONTH")
    shown = parse.enum(message, "what_to_show", WhatToShow, found, required=False)
    if not message.HasField("start_time"):
        found.add("start_time", "is needed: bars from then on")
    end = parse.time(message.end_time) if message.HasField("end_time") else None
    found.raise_if_any()
    assert bar_size is not None
    return LongHistoryRequest(named, bar_size, parse.time(message.start_time), end, shown, message.regular_hours_only)


def tick_request(message: market_data_service_pb2.StreamTicksRequest) -> tuple[Instrument, TickType]:
    """Whose ticks of which kind. Raises FieldsInvalid."""
    found = Violations()
    with found.under("instrument") as nested:
        named = parse.instrument(message.instrument, nested)
    tick_type = parse.enum(message, "tick_type", TickType, found)
    found.raise_if_any()
    assert tick_type is not None
    return named, tick_type
