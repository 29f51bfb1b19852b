"""The guard: what the operator has not allowed does not leave."""

from __future__ import annotations

import os
from decimal import Decimal
from pathlib import Path
from typing import Any

import pytest
from ibkr_gateway_server.domain.errors import (
    AccountMismatch,
    AuditUnavailable,
    BrokerDisconnected,
    LiveNotAuthorized,
    MaxNotional,
    MaxSize,
    NoReferencePrice,
    Reason,
    ShuttingDown,
    TradingDisabled,
)
from ibkr_gateway_server.trading.guard import Guard, Mode, TradingRules

from tests.server.trading.conftest import market_order


def guard(rules: TradingRules, *, linked: bool = True, recording: bool = True) -> Guard:
    def link() -> None:
        if not linked:
            raise BrokerDisconnected("127.0.0.1", 4002)

    def record() -> None:
        if not recording:
            raise AuditUnavailable

    return Guard(rules, link, record)


def test_nothing_is_authorized_unless_orders_are_enabled() -> None:
    with pytest.raises(TradingDisabled):
        guard(TradingRules()).authorize()


def test_live_orders_need_the_override_file_at_the_moment_of_each(tmp_path: Path) -> None:
    file = tmp_path / "live"
    live = guard(TradingRules(Mode.LIVE, orders_enabled=True, override_file=file))
    with pytest.raises(LiveNotAuthorized):
        live.authorize()
    file.touch(0o600)
    live.authorize()
    file.unlink()
    with pytest.raises(LiveNotAuthorized):
        live.authorize()


def test_what_live_orders_lack_is_said_exactly(tmp_path: Path) -> None:
    file = tmp_path / "live"
    file.touch(0o600)

    def lacks(**rules: Any) -> str:
        with pytest.raises(LiveNotAuthorized) as refused:
            guard(TradingRules(Mode.LIVE, orders_enabled=True, **rules)).authorize()
        return refused.value.missing

    assert lacks() == "LIVE_TRADING_OVERRIDE_FILE is not set"
    assert lacks(override_file=tmp_path / "x") == "LIVE_TRADING_OVERRIDE_FILE must name a file that is there"
    os.utime(file, (0, 0))
    assert "older than LIVE_OVERRIDE_MAX_AGE of 24 h" in lacks(override_file=file, override_max_age_h=24.0)
    file.touch()
    file.chmod(0o644)
    assert lacks(override_file=file) == "LIVE_TRADING_OVERRIDE_FILE must be its owner's alone: chmod 600"


@pytest.mark.parametrize(
    ("mode", "account"), [(Mode.PAPER, "U1234567"), (Mode.LIVE, "DU1234567"), (Mode.SIMULATION, "F1")]
)
def test_an_account_of_the_other_kind_is_refused(mode: Mode, account: str) -> None:
    with pytest.raises(AccountMismatch):
        guard(TradingRules(mode, orders_enabled=True)).check_account(account)


def test_limits_are_kept_and_named() -> None:
    limited = guard(TradingRules(max_notional=Decimal(1000), max_size_per_symbol=Decimal(5)))
    with pytest.raises(MaxSize):
        limited.check_size(market_order())
    with pytest.raises(MaxNotional):
        limited.check_notional(market_order(), Decimal("1000.01"))
    with pytest.raises(NoReferencePrice):
        limited.check_notional(market_order(), None)
    limited.check_notional(market_order(), Decimal(1000))


def test_orders_wait_for_the_record_the_link_and_never_come_while_stopping() -> None:
    enabled = TradingRules(orders_enabled=True)
    with pytest.raises(AuditUnavailable):
        guard(enabled, recording=False).check_way()
    with pytest.raises(BrokerDisconnected):
        guard(enabled, linked=False).check_way()
    stopping = guard(enabled)
    stopping.drain()
    with pytest.raises(ShuttingDown):
        stopping.check_way()


def test_the_status_names_everything_in_the_way_with_a_remedy() -> None:
    status = guard(TradingRules(), linked=False).status(("U1234567",))
    assert not status.can_send_orders
    reasons = {blocker.reason for blocker in status.blockers}
    assert reasons == {Reason.TRADING_DISABLED, Reason.BROKER_DISCONNECTED, Reason.ACCOUNT_MISMATCH}
    assert all(blocker.remedy for blocker in status.blockers)
