"""What one connection has told of accounts: summaries, values, positions, P&L. A new connection starts empty."""

from __future__ import annotations

import asyncio
from collections import defaultdict
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from datetime import datetime
from decimal import Decimal

from ibkr_gateway_server.broker import ib
from ibkr_gateway_server.broker.connection import Connection
from ibkr_gateway_server.broker.contracts import from_contract
from ibkr_gateway_server.broker.notices import is_notice, request_error
from ibkr_gateway_server.broker.numbers import decimal, number
from ibkr_gateway_server.broker.sinks import Sink
from ibkr_gateway_server.domain.accounts import AccountPnl, AccountSummary, AccountValue, PnlDetail, Position
from ibkr_gateway_server.domain.errors import DomainError
from ibkr_gateway_server.domain.tallies import UNKNOWN_ACCOUNT_TAGS, Tallies

# What TWS 10.47 writes before the tags of a currency's ledger.
LEDGER_PREFIX = "$LEDGER-"
# Source: TWS API, account summary tags.
SUMMARY_FIELDS = {
    "NetLiquidation": "net_liquidation",
    "TotalCashValue": "cash",
    "BuyingPower": "buying_power",
    "ExcessLiquidity": "margin_excess",
    "MaintMarginReq": "maintenance_margin",
    "InitMarginReq": "initial_margin",
    "AvailableFunds": "available_funds",
    "GrossPositionValue": "gross_position_value",
    "Cushion": "cushion",
}


@dataclass(slots=True)
class Kept:
    """What one connection has told of one account."""

    summary: dict[str, tuple[str, str]] = field(default_factory=dict)
    values: dict[tuple[str, str], AccountValue] = field(default_factory=dict)
    positions: dict[int, Position] = field(default_factory=dict)
    values_time: datetime | None = None
    positions_time: datetime | None = None
    summary_time: datetime | None = None


class AccountState:
    """What the current connection has told; a new one starts empty. Hears the callbacks without a request id."""

    def __init__(
        self,
        connection: Connection | None,
        now: Callable[[], datetime],
        tallies: Tallies,
        tell: Callable[[], None] = lambda: None,
    ) -> None:
        self.connection = connection
        self.tallies = tallies
        self.now = now
        self.tell = tell
        """Called when something of any account has changed."""
        self.accounts = connection.accounts if connection is not None else ()
        self.of: defaultdict[str, Kept] = defaultdict(Kept)
        self.pnl: dict[tuple[str, int], PnlSink] = {}
        self.summary_complete = asyncio.Event()
        self.summary_failure: DomainError | None = None
        self.positions_complete = asyncio.Event()
        self.ask_again_at: float | None = None
        """On the loop's clock: when positions may be asked for again, after a row of them could not be read."""
        self.values_complete = asyncio.Event()
        self.values_account = ""
        self.values_turn = asyncio.Lock()

    def summary_of(self, account: str) -> AccountSummary:
        """Balances and margin as they were last told."""
        kept = self.of[account]
        amounts = {name: _amount(kept, tag) for tag, name in SUMMARY_FIELDS.items()}
        return AccountSummary(
            account_id=account,
            currency=base_currency(kept),
            as_of_time=kept.summary_time or self.now(),
            **amounts,
        )

    def held(self, account: str) -> tuple[Position, ...]:
        """Positions that are not zero, in the order of their instruments."""
        held = (position for position in self.of[account].positions.values() if position.quantity)
        return tuple(sorted(held, key=_by_instrument))

    def pnl_of(self, account: str, positions: Sequence[Position]) -> AccountPnl | None:
        """P&L of the account and of these positions as it was last told, a position that is not followed without
        figures; None when the account is not followed."""
        whole = self.pnl.get((account, 0))
        if whole is None:
            return None
        return AccountPnl(
            account_id=account,
            currency=base_currency(self.of[account]),
            as_of_time=whole.time or self.now(),
            daily_pnl=whole.daily,
            unrealized_pnl=whole.unrealized,
            realized_pnl=whole.realized,
            details=tuple(self._detail(account, held) for held in positions),
        )

    def _detail(self, account: str, held: Position) -> PnlDetail:
        told = self.pnl.get((account, held.instrument.con_id))
        if told is None:
            return PnlDetail(held.instrument, held.quantity)
        return PnlDetail(
            instrument=held.instrument,
            quantity=held.quantity,
            daily_pnl=told.daily,
            unrealized_pnl=told.unrealized,
            realized_pnl=told.realized,
            market_value=told.market_value,
        )

    def begin_pnl(self, connection: Connection, account: str, con_id: int) -> None:
        sink = self.pnl[account, con_id] = PnlSink(
            connection.request_id(), self.now, lambda: self.pnl.pop((account, con_id), None), self.tell
        )
        connection.listen(sink.request_id, sink)
        if con_id:
            connection.client.reqPnLSingle(sink.request_id, account, "", con_id)
        else:
            connection.client.reqPnL(sink.request_id, account, "")

    def end_pnl_of_others(self, account: str, con_ids: set[int]) -> None:
        """Positions that have been closed since are followed no more."""
        for key, sink in list(self.pnl.items()):
            if key[0] == account and key[1] and key[1] not in con_ids and self.connection is not None:
                del self.pnl[key]
                self.connection.unlisten(sink.request_id)
                self.connection.client.cancelPnLSingle(sink.request_id)

    def position(self, account: str, contract: ib.Contract, quantity: float, average_cost: float) -> None:
        kept = self.of[account]
        known, units = kept.positions.get(contract.conId), decimal(quantity) or Decimal(0)
        # A price outlives a fill; a value of another quantity does not.
        is_marked = known is not None and known.quantity == units
        kept.positions[contract.conId] = Position(
            account_id=account,
            instrument=from_contract(contract),
            quantity=units,
            average_cost=decimal(average_cost) or Decimal(0),
            currency=contract.currency,
            market_price=known.market_price if known else None,
            market_value=known.market_value if known and is_marked else None,
            unrealized_pnl=known.unrealized_pnl if known and is_marked else None,
            realized_pnl=known.realized_pnl if known else None,
        )
        kept.positions_time = self.now()
        self.tell()

    def position_end(self) -> None:
        self.positions_complete.set()

    def position_unreadable(self) -> None:
        """What is known may lack a holding, or be of before: it is no answer until TWS has told all of it again."""
        self.positions_complete = asyncio.Event()
        if self.ask_again_at is None:
            self.ask_again_at = asyncio.get_running_loop().time()

    def account_value(self, account: str, tag: str, value: str, currency: str) -> None:
        kept = self.of[account]
        if tag.startswith("$"):
            self.tallies.add(UNKNOWN_ACCOUNT_TAGS)
        kept.values[tag, currency] = AccountValue(tag, value, currency)
        kept.values_time = self.now()

    def portfolio(
        self,
        account: str,
        contract: ib.Contract,
        quantity: float,
        market_price: float,
        market_value: float,
        average_cost: float,
        unrealized_pnl: float,
        realized_pnl: float,
    ) -> None:
        kept = self.of[account]
        known = kept.positions.get(contract.conId)
        kept.positions[contract.conId] = Position(
            account_id=account,
            instrument=known.instrument if known else from_contract(contract),
            quantity=decimal(quantity) or Decimal(0),
            average_cost=decimal(average_cost) or Decimal(0),
            currency=contract.currency,
            market_price=number(market_price),
            market_value=decimal(market_value),
            unrealized_pnl=decimal(unrealized_pnl),
            realized_pnl=decimal(realized_pnl),
        )
        kept.positions_time = self.now()
        self.tell()

    def account_download_end(self, account: str) -> None:
        if account == self.values_account:
            self.values_complete.set()


class SummarySink(Sink):
    def __init__(self, state: AccountState) -> None:
        self._state = state

    def account_summary(self, account: str, tag: str, value: str, currency: str) -> None:
        kept = self._state.of[account]
        if tag not in SUMMARY_FIELDS:
            self._state.tallies.add(UNKNOWN_ACCOUNT_TAGS)
        kept.summary[tag] = (value, currency)
        kept.summary_time = self._state.now()
        self._state.tell()

    def account_summary_end(self) -> None:
        self._state.summary_complete.set()

    def error(self, code: int, text: str) -> None:
        if not is_notice(code):
            self._state.summary_failure = request_error(code, text, "the account", "reqAccountSummary")
            self._state.summary_complete.set()


class PnlSink(Sink):
    """P&L as it comes; a figure that TWS has not computed is absent."""

    def __init__(
        self,
        request_id: int,
        now: Callable[[], datetime],
        forget: Callable[[], object],
        tell: Callable[[], None],
    ) -> None:
        self.request_id = request_id
        self._now = now
        self._forget = forget
        self._tell = tell
        self.arrived = asyncio.Event()
        self.failure: DomainError | None = None
        self.time: datetime | None = None
        self.daily: Decimal | None = None
        self.unrealized: Decimal | None = None
        self.realized: Decimal | None = None
        self.market_value: Decimal | None = None

    def pnl(self, daily: float, unrealized: float, realized: float) -> None:
        self.daily, self.unrealized, self.realized = decimal(daily), decimal(unrealized), decimal(realized)
        self.time = self._now()
        self.arrived.set()
        self._tell()

    def pnl_single(self, position: float, daily: float, unrealized: float, realized: float, value: float) -> None:
        self.market_value = decimal(value)
        self.pnl(daily, unrealized, realized)

    def error(self, code: int, text: str) -> None:
        if not is_notice(code):
            self.failure = request_error(code, text, "the account", "reqPnL")
            # Whoever asks next asks TWS again.
            self._forget()
            self.arrived.set()


def _amount(kept: Kept, tag: str) -> Decimal | None:
    """The amount under a tag, whether TWS writes it plainly or, as since 10.47, with a prefix; two that differ are
    none."""
    told = {kept.summary[each][0] for each in (tag, LEDGER_PREFIX + tag) if each in kept.summary}
    return decimal(told.pop()) if len(told) == 1 else None


def base_currency(kept: Kept) -> str:
    return next((currency for _, currency in kept.summary.values() if currency), "")


def _by_instrument(position: Position) -> tuple[str, str, Decimal, int]:
    instrument = position.instrument
    return instrument.symbol, instrument.expiry, instrument.strike or Decimal(0), instrument.con_id
