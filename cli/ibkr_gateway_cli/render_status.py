"""How the gateway's own state looks: trading, session, limits."""

from __future__ import annotations

from collections.abc import Iterable

from google.protobuf.timestamp_pb2 import Timestamp
from ibkr_gateway.v1 import common_pb2
from ibkr_gateway.v1 import gateway_service_pb2 as pb
from rich.table import Table
from rich.text import Text

from ibkr_gateway_cli.render import DASH, amount, state_name, table


def trading_table(status: pb.TradingStatus) -> Table:
    """Whether orders are sent, and each thing in the way with what to do about it."""
    sent = Text("sent", style="green") if status.can_send_orders else Text("not sent", style="red")
    mode = state_name(status.trading_mode, pb.TradingMode, "TRADING_MODE_").lower()
    made = table("Trading", "what", "value")
    made.columns[1].no_wrap = False
    made.add_row("mode", mode)
    made.add_row("orders", sent)
    made.add_row("most for an order", amount(status.max_notional) if status.HasField("max_notional") else "no limit")
    has_size = status.HasField("max_size_per_symbol")
    made.add_row("most of a symbol", amount(status.max_size_per_symbol, 0) if has_size else "no limit")
    if status.halt_level:
        level = state_name(status.halt_level, pb.HaltLevel, "HALT_LEVEL_")
        made.add_row("halted", f"{level} since {_moment(status.halt_time)} {status.halt_comment}".rstrip())
    for blocker in status.blockers:
        made.add_row("in the way", Text(f"{blocker.reason}: {blocker.message}", style="red"))
        made.add_row("what to do", Text(blocker.remedy or DASH))
        if blocker.HasField("retry_time"):
            made.add_row("ends", _moment(blocker.retry_time))
    return made


def session_table(session: pb.SessionStatus) -> Table:
    """The session with IBKR."""
    made = table("Session with IBKR", "what", "value")
    made.columns[1].no_wrap = False
    name = state_name(session.state, common_pb2.SessionState, "SESSION_STATE_")
    made.add_row("state", Text(name, style="green" if session.state == common_pb2.SESSION_STATE_READY else "yellow"))
    made.add_row("since", _moment(session.since_time))
    if session.reason or session.message:
        made.add_row("why", Text(" ".join(filter(None, (session.reason, session.message)))))
    if session.HasField("next_attempt_time"):
        made.add_row("next attempt", _moment(session.next_attempt_time))
    if session.HasField("clock_skew"):
        made.add_row("IBKR's clock", f"{session.clock_skew.seconds:+d} s")
    for farm in session.farms:
        made.add_row(farm.name, "ok" if farm.is_ok else Text(f"broken ({farm.ibkr_code})", style="red"))
    return made


def usage_table(limits: Iterable[pb.UsageLimit]) -> Table:
    """Limits with what of each is used."""
    made = table("Limits", "limit", "used", "at most", "within", numbers=("used", "at most", "within"))
    for limit in limits:
        window = f"{limit.window.ToTimedelta().total_seconds():g} s" if limit.HasField("window") else DASH
        name = limit.name.replace("_", " ")
        made.add_row(name, str(limit.used_count), str(limit.limit_count), window)
    return made


def _moment(time: Timestamp) -> str:
    return time.ToDatetime().strftime("%Y-%m-%d %H:%M:%SZ")
