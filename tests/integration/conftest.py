"""Tests that need an IB Gateway, logged in to a paper account: they run only where their mark is asked for."""

from __future__ import annotations

from collections.abc import AsyncIterator
from pathlib import Path

import pytest
from ibkr_gateway import AsyncGateway, connect
from ibkr_gateway_server.app import running
from ibkr_gateway_server.settings import load_settings

HERE = Path(__file__).parent


def pytest_collection_modifyitems(config: pytest.Config, items: list[pytest.Item]) -> None:
    """Without `-m integration` they are left out, which is not to be skipped."""
    if config.getoption("-m") == "integration":
        return
    here = [item for item in items if HERE in item.path.parents]
    if here:
        config.hook.pytest_deselected(items=here)
        items[:] = [item for item in items if item not in here]


@pytest.fixture
async def paper(tmp_path: Path) -> AsyncIterator[AsyncGateway]:
    """A client of a gateway in paper mode, which the environment's settings lead to IB Gateway; its record is new."""
    chosen = {"ibkr_mode": "paper", "trading_mode": "paper", "grpc_port": 0, "audit_db_path": tmp_path / "audit.db"}
    async with running(load_settings(chosen, env_file=None)) as started:
        await started.session.wait_until_ready(30)
        async with connect(started.target, timeout_s=20.0) as client:
            yield client
