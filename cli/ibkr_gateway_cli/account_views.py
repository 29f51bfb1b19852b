"""What the live views of positions and profit show."""

from __future__ import annotations

from collections import deque
from decimal import Decimal

from ibkr_gateway.v1 import account_service_pb2 as pb
from rich.console import Group, RenderableType
from rich.table import Table
from rich.text import Text

from ibkr_gateway_cli.charts import sparkline
from ibkr_gateway_cli.live import TREND_MOST, View, remark_of
from ibkr_gateway_cli.render import WARNING, amount, clock, name_of, positions_table, signed, table, with_remark


class PnlView(View):
    """Profit and loss of an account, with the day's trend."""

    def __init__(self) -> None:
        self._pnl: pb.AccountPnl | None = None
        self._trend: deque[float | None] = deque(maxlen=TREND_MOST)

    def take(self, event: pb.PnlEvent) -> bool:
        """Keep the newest figures."""
        if event.HasField("pnl"):
            self._pnl, self.remark = event.pnl, ""
            # For drawing alone.
            self._trend.append(float(event.pnl.daily_pnl) if event.pnl.daily_pnl else None)
            return True
        if event.HasField("gap"):
            self._trend.append(None)
        self.remark = remark_of(event) or self.remark
        return False

    def screen(self, width: int) -> RenderableType:
        """The figures, and how the day's have moved since the view began."""
        if self._pnl is None:
            return Text(self.remark or "waiting for figures", style=WARNING)
        trend = sparkline(list(self._trend), max(1, min(TREND_MOST, width - 6)))
        return with_remark(Group(pnl_table(self._pnl), Text(f"  day {trend}")), self.remark)

    def line(self, event: pb.PnlEvent) -> str:
        """The account's figures."""
        if not event.HasField("pnl"):
            return remark_of(event)
        pnl = event.pnl
        figures = (
            f"{name} {signed(value)}"
            for name, value in (
                ("day", pnl.daily_pnl),
                ("unrealized", pnl.unrealized_pnl),
                ("realized", pnl.realized_pnl),
            )
        )
        stale = "  stale" if pnl.is_stale else ""
        return f"{clock(pnl.as_of_time)}  {pnl.account_id}  {'  '.join(figures)}  {pnl.currency}{stale}"


class PositionsView(View):
    """Positions by account and contract, in the order in which they were told."""

    def __init__(self) -> None:
        self._positions: dict[tuple[str, int], pb.Position] = {}
        self._is_whole = False

    def take(self, event: pb.PositionEvent) -> bool:
        """Keep a position, drop one that is closed, and begin anew with a snapshot."""
        kind = event.WhichOneof("event")
        if kind == "position":
            key = (event.position.account_id, event.position.instrument.con_id)
            if Decimal(event.position.quantity):
                self._positions[key] = event.position
            else:
                self._positions.pop(key, None)
            return True
        if kind == "snapshot_begin":
            self._positions, self._is_whole = {}, False
        elif kind == "snapshot_end":
            self._is_whole, self.remark = True, ""
        self.remark = remark_of(event) or self.remark
        return False

    def screen(self, width: int) -> RenderableType:
        """The table of positions."""
        waiting = "" if self._is_whole else "waiting for positions"
        return with_remark(positions_table(self._positions.values()), self.remark or waiting)

    def line(self, event: pb.PositionEvent) -> str:
        """A position as it is now."""
        if not event.HasField("position"):
            return remark_of(event)
        held = event.position
        value = f"value {amount(held.market_value)}  unrealized {signed(held.unrealized_pnl)}  {held.currency}"
        return f"{held.account_id}  {amount(held.quantity, 0)} {name_of(held.instrument)}  {value}"


def pnl_table(pnl: pb.AccountPnl) -> Table:
    """Profit and loss: a row for each position, then the account's own figures."""
    numbers = ("quantity", "value", "day", "unrealized", "realized")
    title = f"Profit and loss of {pnl.account_id} ({pnl.currency})" + (", stale" if pnl.is_stale else "")
    made = table(title, "instrument", *numbers, numbers=numbers)
    for detail in pnl.details:
        figures = (signed(value) for value in (detail.daily_pnl, detail.unrealized_pnl, detail.realized_pnl))
        made.add_row(name_of(detail.instrument), amount(detail.quantity, 0), amount(detail.market_value), *figures)
    made.add_section()
    made.add_row("account", "", "", *(signed(value) for value in (pnl.daily_pnl, pnl.unrealized_pnl, pnl.realized_pnl)))
    return made
