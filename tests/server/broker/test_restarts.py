"""Planned restarts: when they are, what they forbid, and which absence is worth an alarm."""

from __future__ import annotations

import asyncio
import logging
import random
from datetime import UTC, datetime, timedelta

import pytest
from ibkr_gateway_server.broker.backoff import Absence, Backoff
from ibkr_gateway_server.broker.timings import SessionTimings
from ibkr_gateway_server.domain.errors import RestartWindow
from ibkr_gateway_server.domain.restarts import RestartWindows
from ibkr_gateway_server.domain.sessions import SessionState
from ibkr_gateway_server.simulator import Fault

from tests.failures.conftest import BEGIN, inject, virtual_broker, virtually

NIGHTLY = RestartWindows.parse("23:45-00:15 America/New_York")
# The virtual broker begins on a Monday at 10:00 in New York.
SOON = "10:10-10:20 America/New_York"


def at(text: str) -> datetime:
    return datetime.fromisoformat(text).replace(tzinfo=UTC)


@pytest.mark.parametrize(
    ("moment", "inside"),
    [
        ("2026-01-15T04:43:59", False),
        ("2026-01-15T04:44:00", True),
        ("2026-01-15T05:00:00", True),
        ("2026-01-15T05:14:59", True),
        ("2026-01-15T05:15:00", False),
        # In summer New York is four hours behind, not five.
        ("2026-07-15T04:44:00", False),
        ("2026-07-15T03:44:00", True),
    ],
)
def test_a_window_has_the_minute_before_and_goes_over_midnight_in_its_zone(moment: str, inside: bool) -> None:
    assert (NIGHTLY.around(at(moment)) is not None) is inside


def test_there_may_be_several_windows_or_none() -> None:
    both = RestartWindows.parse("23:45-00:15 America/New_York; 06:25-07:45 Europe/Zurich")
    assert both.around(at("2026-01-15T05:00:00"))
    assert both.around(at("2026-01-15T06:00:00"))
    assert both.around(at("2026-01-15T12:00:00")) is None
    assert RestartWindows.parse(" ").daily == ()


@pytest.mark.parametrize(
    "text", ["23:45", "23:45-00:15", "24:00-01:00 UTC", "23:45-00:15 Mars/Base", "10:00-10:00 UTC", "a; b"]
)
def test_a_window_that_cannot_be_is_named(text: str) -> None:
    with pytest.raises(ValueError, match=r"is not like|does not exist|begins when it ends"):
        RestartWindows.parse(text)


def test_attempts_are_never_closer_than_the_floor_and_rarer_while_a_restart_is_planned() -> None:
    backoff = Backoff(SessionTimings(), random.Random(1))
    waits = [backoff.next_s() for _ in range(200)]
    assert min(waits) >= 0.5
    assert 29 < max(waits) <= 30
    assert max(backoff.next_s(is_restarting=True) for _ in range(200)) > 30
    backoff.reset()
    assert backoff.next_s() <= 1.0


def test_an_absence_is_an_alarm_once_and_a_planned_one_only_after_its_window() -> None:
    now = at("2026-01-15T04:50:00")
    absence = Absence(NIGHTLY, 120.0, lambda: now)
    assert absence.is_planned
    now = at("2026-01-15T05:16:00")
    assert not absence.is_alarm()
    # The window is over, and until IBKR is back the restart is not.
    assert absence.is_planned
    assert not absence.is_planned_now
    now = at("2026-01-15T05:17:01")
    assert absence.is_alarm()
    assert not absence.is_alarm()
    absence.end()
    assert not absence.is_planned
    absence.begin()
    now += timedelta(seconds=121)
    assert absence.is_alarm()


def test_orders_are_refused_from_a_minute_before_a_restart_until_it_is_over_and_ibkr_is_back() -> None:
    async def main() -> None:
        async with virtual_broker(restarts=RestartWindows.parse(SOON)) as broker:
            session = broker.session
            await session.wait_until_ready(20)

            async def until(minute: float) -> None:
                await asyncio.sleep(minute * 60 - (session.now().timestamp() - BEGIN))

            await until(8.9)
            session.for_orders()
            await until(9.1)
            assert session.status.state is SessionState.READY
            with pytest.raises(RestartWindow):
                session.for_orders()
            # Cancels and data go on as long as they can.
            session.linked()
            inject(broker.simulator, Fault.REFUSE_CONNECTIONS, duration_s=12 * 60.0)
            broker.simulator.drop_connections()
            await until(20.5)
            with pytest.raises(RestartWindow):
                session.for_orders()
            await session.wait_until_ready(180)
            session.for_orders()

    virtually(main)


def test_ibkr_out_of_reach_for_two_minutes_is_one_error_in_the_log(caplog: pytest.LogCaptureFixture) -> None:
    async def main() -> None:
        async with virtual_broker() as broker:
            await broker.session.wait_until_ready(20)
            inject(broker.simulator, Fault.LINK_LOST)
            await asyncio.sleep(100)
            assert alarms() == 0
            await asyncio.sleep(600)
            assert alarms() == 1

    def alarms() -> int:
        return len([record for record in caplog.records if "out of reach" in record.getMessage()])

    caplog.set_level(logging.ERROR)
    virtually(main)
