"""Requests about the past."""

from __future__ import annotations

from datetime import UTC, datetime
from typing import TYPE_CHECKING
from zoneinfo import ZoneInfo

from ibkr_gateway_server.simulator import history
from ibkr_gateway_server.simulator.codec import messages
from ibkr_gateway_server.simulator.codec.requests import read_contract, skip_legs
from ibkr_gateway_server.simulator.feeds.bars import BarDate, LiveBars
from ibkr_gateway_server.simulator.history import BadRequest, BarSpan
from ibkr_gateway_server.simulator.listings import Listing
from ibkr_gateway_server.simulator.requests.contracts import one_contract
from ibkr_gateway_server.simulator.wire import Fields, plain

if TYPE_CHECKING:
    from ibkr_gateway_server.simulator.session import Session

HMDS = "Historical Market Data Service error message:"
VALIDATION = "Error validating request.-'bK' : cause - "

# Every contract's prices are told to begin here, though they would go on into the past.
FIRST = datetime(2004, 1, 23, 14, 30, tzinfo=UTC)


def bars(session: Session, fields: Fields) -> None:
    req_id, query = fields.integer(), read_contract(fields)
    expired = fields.flag()
    end_text, size, duration, regular = fields.text(), fields.text(), fields.text(), fields.flag()
    shown, as_epoch = fields.text(), fields.integer(1) == 2
    skip_legs(fields, query)
    keeps_up = fields.flag()
    market = session.gateway.market
    listing = one_contract(session, req_id, query, include_expired=expired)
    if listing is None:
        return
    where = f"{listing.local_symbol}@{query.exchange} {shown.title()}"
    if shown in history.NEVER_SHOWN or (shown in history.TRADED and listing.sec_type == "CASH"):
        session.error(req_id, 162, f"{HMDS}No historical market data for {where}")
        return
    try:
        if shown not in history.SHOWN:
            raise BadRequest(f"Invalid what to show: {shown}")
        end = history.end_of(end_text, session.gateway.now)
        if shown == "SCHEDULE":
            _send_schedule(session, req_id, listing, history.schedule(market.hours, listing, duration, end))
            return
        spans = history.bar_spans(market.hours, listing, size, duration, end, regular=regular)
    except BadRequest as refused:
        session.error(req_id, 321, f"{VALIDATION}{refused}")
        return
    if not spans:
        session.error(req_id, 162, f"{HMDS}HMDS query returned no data: {where}")
        return
    date_of = BarDate(session.version, listing.time_zone, history.width_of(size) >= history.DAY_S, as_epoch)
    _send_bars(session, req_id, listing, spans, date_of, shown)
    if keeps_up:
        now = session.gateway.now
        growing = history.growing_bar(market.hours, listing, size, now, regular=regular)
        session.feeds.start(LiveBars(req_id, listing, size, regular, date_of, shown, now, growing))


def cancel_bars(session: Session, fields: Fields) -> None:
    fields.skip()
    req_id = fields.integer()
    if session.feeds.stop(LiveBars, req_id) is None:
        session.error(req_id, 366, f"No historical data query found for ticker id:{req_id}")


def head_timestamp(session: Session, fields: Fields) -> None:
    req_id, query = fields.integer(), read_contract(fields)
    fields.skip(3)
    as_epoch = fields.integer(1) == 2
    if one_contract(session, req_id, query) is not None:
        text = str(int(FIRST.timestamp())) if as_epoch else FIRST.strftime("%Y%m%d-%H:%M:%S")
        session.send(messages.head_timestamp(req_id, text))


def _send_bars(
    session: Session, req_id: int, listing: Listing, spans: list[BarSpan], date_of: BarDate, shown: str
) -> None:
    zone = ZoneInfo(listing.time_zone)
    begin, end = (datetime.fromtimestamp(moment, zone) for moment in (spans[0].begin, spans[-1].end))
    whole = (begin.strftime("%Y%m%d  %H:%M:%S"), end.strftime("%Y%m%d  %H:%M:%S"))
    rows = [_row(session, listing, span, date_of, shown) for span in spans]
    session.send(messages.historical_data(session.version, req_id, whole, rows))
    if session.version >= messages.HISTORY_END_APART:
        session.send(messages.historical_data_end(req_id, whole))


def _row(session: Session, listing: Listing, span: BarSpan, date_of: BarDate, shown: str) -> list[str]:
    bar = session.gateway.market.bar_of(listing, span.parts, shown)
    prices = [plain(price) for price in (bar.open, bar.high, bar.low, bar.close)]
    # Prices that are not trades have no volume; IBKR says so by -1.
    traded = [str(bar.volume), f"{bar.wap:.3f}", str(bar.count)] if shown in history.TRADED else ["-1", "-1", "-1"]
    return [date_of(span.label), *prices, *traded]


def _send_schedule(session: Session, req_id: int, listing: Listing, sessions: list[tuple[float, float]]) -> None:
    zone = ZoneInfo(listing.time_zone)
    moments = [[datetime.fromtimestamp(moment, zone) for moment in span] for span in sessions]
    rows = [(f"{begin:%Y%m%d-%H:%M:%S}", f"{end:%Y%m%d-%H:%M:%S}", f"{end:%Y%m%d}") for begin, end in moments]
    whole = (rows[0][0], rows[-1][1]) if rows else ("", "")
    session.send(messages.historical_schedule(req_id, whole, listing.time_zone, rows))
