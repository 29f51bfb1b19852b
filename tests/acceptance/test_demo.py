"""The demo: everything once, whatever the environment says."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path


def test_the_demo_shows_everything_and_ends_with_0(tmp_path: Path) -> None:
    hostile = {"TRADING_MODE": "live", "ORDERS_ENABLED": "nonsense", "GRPC_PORT": "1", "IBKR_GATEWAY_PORT": "4001"}
    done = subprocess.run(
        [sys.executable, "-m", "ibkr_gateway_cli", "demo", "--seconds", "2"],
        capture_output=True,
        text=True,
        cwd=tmp_path,
        env={"PATH": os.environ["PATH"], "HOME": str(tmp_path), **hostile},
        timeout=60,
    )
    assert done.returncode == 0, done.stderr
    for said in ("Live quotes", "MESZ6", "EUR.USD", "Daily bars", "net liquidation", "Positions", "IBKR's what-if"):
        assert said in done.stdout
    for state in ("PENDING", "SENT", "WORKING", "FILLED", "CANCEL_PENDING", "CANCELLED", "execution", "commission"):
        assert state in done.stdout
    assert "Next steps" in done.stdout
    assert list(tmp_path.iterdir()) == []
