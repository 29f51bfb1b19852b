"""The guard: what the operator allows. Asked before every order, and again in the instant before it is written."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from decimal import Decimal
from enum import StrEnum
from pathlib import Path

from ibkr_gateway_server.credentials.files import override_problem
from ibkr_gateway_server.domain.accounts import is_paper_account
from ibkr_gateway_server.domain.errors import (
    AccountMismatch,
    DomainError,
    LiveNotAuthorized,
    MaxNotional,
    MaxSize,
    NoReferencePrice,
    Reason,
    ShuttingDown,
    TradingDisabled,
)
from ibkr_gateway_server.domain.halts import Halt
from ibkr_gateway_server.domain.orders import Blocker, OrderSpec, TradingStatus
from ibkr_gateway_server.trading.halt import halted

# What a person does about each thing in the way of orders.
_REMEDIES = {
    Reason.TRADING_DISABLED: "set ORDERS_ENABLED=true and restart, on a paper account first",
    Reason.LIVE_NOT_AUTHORIZED: "after the safety checklist, touch LIVE_TRADING_OVERRIDE_FILE's file, and chmod 600 it",
    Reason.TRADING_HALTED: "find out why, remove the file HALT beside the record, if any, then ResumeTrading (admin)",
    Reason.ACCOUNT_MISMATCH: "log TWS in to the right account, or correct TRADING_MODE, its port or IBKR_ACCOUNT",
    Reason.BROKER_DISCONNECTED: "start TWS or IB Gateway; the gateway connects by itself",
    Reason.BROKER_LINK_DOWN: "wait until TWS has its link to IBKR back",
    Reason.SESSION_SYNCING: "wait some seconds",
    Reason.RECONCILIATION_REQUIRED: "reset the API order id sequence in the API settings of TWS",
    Reason.RESTART_WINDOW: "wait until TWS has restarted, or correct RESTART_WINDOW",
    Reason.AUDIT_UNAVAILABLE: "free disk space, or repair the file that AUDIT_DB_PATH names",
    Reason.AUDIT_ROLLED_BACK: "compare with IBKR's statement, then run ibkr-gateway audit accept-rollback",
    Reason.READ_ONLY_API: "turn Read-Only API off in the API settings of TWS, and wait a minute",
    Reason.SHUTTING_DOWN: "connect again later",
}


class Mode(StrEnum):
    """In which world orders are."""

    PAPER = "paper"
    LIVE = "live"
    SIMULATION = "simulation"


@dataclass(frozen=True, slots=True)
class TradingRules:
    """What the operator has set. Limits are per order: value in the contract's currency, quantity in units."""

    mode: Mode = Mode.PAPER
    orders_enabled: bool = False
    override_file: Path | None = None
    override_max_age_h: float | None = None
    max_notional: Decimal | None = None
    max_size_per_symbol: Decimal | None = None
    max_open_orders: int | None = 20
    """Open orders of one contract, side and account; IBKR refuses more. Source: TWS API, order limitations."""
    duplicate_window_s: float = 0.0
    """The same terms under another client_order_id within so many seconds are refused; 0: they are another order."""

    @property
    def live_problem(self) -> str | None:
        """What live orders lack; None: nothing. Looked at each time, so that removing the file stops them at once."""
        if self.override_file is None:
            return "LIVE_TRADING_OVERRIDE_FILE is not set"
        found = override_problem(self.override_file, self.override_max_age_h, time.time())
        return f"LIVE_TRADING_OVERRIDE_FILE {found}" if found else None

    @property
    def has_live_override(self) -> bool:
        """True when the override file is there, its owner's alone, and not too old."""
        return self.live_problem is None


class Guard:
    """Says no.

    `link` raises when orders cannot reach IBKR; `record` while they cannot be recorded; `ids` when there is no id for a
    new one, which is in the way of neither changes nor cancels.
    """

    def __init__(
        self,
        rules: TradingRules,
        link: Callable[[], object],
        record: Callable[[], object],
        ids: Callable[[], object] = lambda: None,
    ) -> None:
        self.rules = rules
        self._link = link
        self._record = record
        self._ids = ids
        self._is_draining = False
        self._halt: Callable[[], Halt | None] = lambda: None

    def obey(self, look: Callable[[], Halt | None]) -> None:
        """Refuse new orders while this gives a halt; it is asked before every order."""
        self._halt = look

    def drain(self) -> None:
        """Refuse every new order from now on: the gateway is stopping."""
        self._is_draining = True

    def check(self) -> None:
        """Whether an order may leave at this moment. Raises what `authorize` and `check_way` raise."""
        self.authorize()
        self.check_way()

    def authorize(self) -> None:
        """Whether any order may be written at all. Raises TradingDisabled, LiveNotAuthorized."""
        self.authorize_cancel()
        if self.rules.mode is Mode.LIVE and (missing := self.rules.live_problem):
            raise LiveNotAuthorized(missing)

    def authorize_cancel(self) -> None:
        """Whether a cancel may be written: also where a live order may not any more, since it takes risk away.

        Raises TradingDisabled.
        """
        if not self.rules.orders_enabled:
            raise TradingDisabled

    def check_account(self, account_id: str) -> None:
        """A paper gateway sends nothing to a live account, nor the reverse. Raises AccountMismatch."""
        expects_paper = self.rules.mode is not Mode.LIVE
        if is_paper_account(account_id) is not expects_paper:
            raise AccountMismatch("paper" if expects_paper else "live")

    def mismatch(self, account_ids: Iterable[str]) -> AccountMismatch | None:
        """What `check_account` would raise for the first of these that it refuses; None: nothing."""
        for account_id in account_ids:
            try:
                self.check_account(account_id)
            except AccountMismatch as mismatch:
                return mismatch
        return None

    def check_way(self) -> None:
        """Whether an order could reach IBKR and be recorded now. Raises the reason why not."""
        for check in self._way():
            check()

    def _way(self) -> tuple[Callable[[], object], ...]:
        """What may be in the way, each by itself."""
        return (self._check_draining, self._check_halt, self._record, self._link)

    def _check_draining(self) -> None:
        if self._is_draining:
            raise ShuttingDown

    def _check_halt(self) -> None:
        if (halt := self._halt()) is not None:
            raise halted(halt)

    def check_size(self, spec: OrderSpec) -> None:
        """Raises MaxSize."""
        limit = self.rules.max_size_per_symbol
        if limit is not None and spec.quantity > limit:
            raise MaxSize(str(spec.quantity), str(limit))

    def check_notional(self, spec: OrderSpec, notional: Decimal | None) -> None:
        """Raises MaxNotional; NoReferencePrice when a limit is set and the order cannot be valued."""
        limit = self.rules.max_notional
        if limit is None:
            return
        if notional is None:
            raise NoReferencePrice(spec.instrument.label())
        if abs(notional) > limit:
            raise MaxNotional(f"{abs(notional):f}", str(limit))

    def status(self, account_ids: tuple[str, ...]) -> TradingStatus:
        """Everything in the way of a new order now."""
        checks: list[Callable[[], object]] = [self.authorize, *self._way(), self._ids]
        checks += [lambda account=account: self.check_account(account) for account in account_ids]  # type: ignore[misc]
        blockers: dict[Reason, Blocker] = {}
        halt = self._halt()
        for check in checks:
            try:
                check()
            except DomainError as error:
                since = halt.since_time if halt is not None and error.reason is Reason.TRADING_HALTED else None
                blockers[error.reason] = Blocker(error.reason, error.message, _REMEDIES.get(error.reason, ""), since)
        return TradingStatus(
            orders_enabled=self.rules.orders_enabled,
            has_live_override=self.rules.has_live_override,
            blockers=tuple(blockers.values()),
            max_notional=self.rules.max_notional,
            max_size_per_symbol=self.rules.max_size_per_symbol,
            halt=halt,
        )
