"""StreamHistoricalBars: through gRPC, with the token over a restart of the gateway."""

from __future__ import annotations

from contextlib import AsyncExitStack
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest
from ibkr_gateway import InvalidRequest, bar_size, connect, stock
from ibkr_gateway.v1 import market_data_service_pb2 as pb
from ibkr_gateway_server.app import running
from ibkr_gateway_server.domain.bars import BarSize
from ibkr_gateway_server.settings import load_settings

from tests.conftest import FAST, Gateway


def request(**changed: object) -> pb.StreamHistoricalBarsRequest:
    made = pb.StreamHistoricalBarsRequest(instrument=stock("AAPL"), bar_size=bar_size(BarSize.HOUR_1), **changed)
    now = datetime.now(UTC).replace(minute=0, second=0, microsecond=0)
    made.start_time.FromDatetime(now - timedelta(days=60))
    made.end_time.FromDatetime(now - timedelta(days=1))
    return made


async def test_a_range_comes_in_slices_with_progress(gateway: Gateway) -> None:
    parts = [part async for part in gateway.client.market_data.StreamHistoricalBars(request())]
    starts = [bar.start_time.ToDatetime(UTC) for part in parts for bar in part.bars]
    assert starts == sorted(set(starts))
    asked = request()
    assert asked.start_time.ToDatetime(UTC) <= starts[0]
    assert starts[-1] < asked.end_time.ToDatetime(UTC)
    assert [part.progress.completed_count for part in parts] == [1, 2, 3]
    assert {part.progress.total_count for part in parts} == {3}
    assert parts[-1].progress.eta.ToTimedelta() == timedelta(0)


async def test_the_token_goes_on_after_a_restart(tmp_path: Path) -> None:
    async def parts(resume_token: str = "") -> list[pb.StreamHistoricalBarsResponse]:
        async with AsyncExitStack() as stack:
            chosen = {"ibkr_mode": "simulation", "grpc_port": 0, "audit_db_path": tmp_path / "audit.db"}
            settings = load_settings(chosen, env_file=None)
            started = await stack.enter_async_context(running(settings, session_timings=FAST, drain_s=2.0))
            await started.session.wait_until_ready(10)
            client = await stack.enter_async_context(connect(started.target, timeout_s=10.0))
            asked = request(resume_token=resume_token)
            return [part async for part in client.market_data.StreamHistoricalBars(asked)]

    whole = await parts()
    rest = await parts(whole[0].progress.resume_token)
    assert [list(part.bars) for part in rest] == [list(part.bars) for part in whole[1:]]


async def test_every_wrong_field_is_named(gateway: Gateway) -> None:
    with pytest.raises(InvalidRequest) as refused:
        async for _ in gateway.client.market_data.StreamHistoricalBars(pb.StreamHistoricalBarsRequest()):
            pass
    assert {field.partition(".")[0] for field in refused.value.fields} == {
        *("instrument", "bar_size", "start_time"),
    }


@pytest.mark.parametrize("resume_token", ["nonsense", "W10"])
async def test_a_token_of_nobodys_is_refused(gateway: Gateway, resume_token: str) -> None:
    with pytest.raises(InvalidRequest) as refused:
        async for _ in gateway.client.market_data.StreamHistoricalBars(request(resume_token=resume_token)):
            pass
    assert list(refused.value.fields) == ["resume_token"]
