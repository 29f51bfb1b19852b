"""The server program killed while orders are placed: a bounded slice of what `make crash` does at length."""

from __future__ import annotations

from pathlib import Path

from tests.reliability.crash import run


async def test_a_killed_server_doubles_and_loses_nothing(tmp_path: Path) -> None:
    outcome = await run(3, 5, 1.0, tmp_path)
    assert outcome.findings == []
    assert outcome.kills == 3
    assert outcome.orders > 0
