"""Writes docs/screens/*.txt: what commands show on a terminal, recorded from a server on the simulator.

Usage: record_screens.py [NAME...]; without a name all of them.
"""

from __future__ import annotations

import os
import subprocess
import sys
import tempfile
from collections.abc import Iterator, Sequence
from contextlib import closing, contextmanager
from dataclasses import dataclass
from pathlib import Path

from ibkr_gateway import connect_sync
from ibkr_gateway.v1 import common_pb2
from ibkr_gateway.v1 import gateway_service_pb2 as gateway_pb

ROOT = Path(__file__).resolve().parent.parent
sys.path.insert(0, str(ROOT))

from tools.terminal import on_terminal  # noqa: E402 - the repository's root is no installed package

SCREENS = ROOT / "docs" / "screens"
START_S, SHOW_S = 30.0, 120.0


@dataclass(frozen=True)
class Recording:
    """A command, and the size of the terminal that it is shown on."""

    arguments: tuple[str, ...]
    columns: int = 100
    rows: int = 30


RECORDINGS = {
    "quote-watch": Recording(("quote", "AAPL", "MES:FUT", "EUR.USD", "SPX:IND", "--watch", "--count", "120"), 120),
    "quote-watch-narrow": Recording(("quote", "AAPL", "MES:FUT", "EUR.USD", "--watch", "--count", "60"), 80),
    "bars-candles": Recording(("bars", "AAPL", "--duration", "3 M", "--plot")),
    "bars-line": Recording(("bars", "MES:FUT", "--size", "1 hour", "--duration", "1 W", "--plot", "line")),
    "depth-watch": Recording(("depth", "AAPL", "--rows", "8", "--watch", "--count", "20"), 80),
    "pnl-watch": Recording(("pnl", "--watch", "--count", "10"), 80),
    "metrics": Recording(("metrics",)),
}


def main(names: Sequence[str]) -> None:
    """Record the screens of these names, or all."""
    SCREENS.mkdir(exist_ok=True)
    with tempfile.TemporaryDirectory() as folder, served(Path(folder)) as port:
        for name in names or RECORDINGS:
            recording = RECORDINGS[name]
            text = recorded(recording, port, Path(folder))
            shown = " ".join(f'"{part}"' if " " in part else part for part in recording.arguments)
            (SCREENS / f"{name}.txt").write_text(f"$ ibkr-gateway {shown}\n{text}\n", encoding="utf-8")
            print(f"docs/screens/{name}.txt")


def recorded(recording: Recording, port: str, cwd: Path) -> str:
    """The screen at the end of a command. Raises RuntimeError when it fails."""
    command = (sys.executable, "-m", "ibkr_gateway_cli", "--port", port, *recording.arguments)
    environment = {"PATH": os.environ["PATH"], "HOME": str(cwd), "LANG": "C.UTF-8"}
    shown = on_terminal(command, cwd=cwd, environment=environment, columns=recording.columns, rows=recording.rows)
    with closing(shown):
        if shown.read_to_the_end(SHOW_S) != 0:
            raise RuntimeError(f"{' '.join(recording.arguments)} has failed:\n{shown.screen.text}")
    return shown.screen.text


@contextmanager
def served(cwd: Path) -> Iterator[str]:
    """A server on the simulator that is ready. Gives its port."""
    command = (
        sys.executable,
        "-m",
        "ibkr_gateway_server",
        "--mode",
        "simulation",
        "--port",
        "0",
        "--log-level",
        "ERROR",
    )
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True, cwd=cwd) as process:
        try:
            assert process.stdout is not None
            address = process.stdout.readline().removeprefix("listening on ").strip()
            with connect_sync(address) as gateway:
                for response in gateway.gateway.WatchSession(gateway_pb.WatchSessionRequest(), timeout=START_S):
                    if response.status.state == common_pb2.SESSION_STATE_READY:
                        break
            yield address.rpartition(":")[2]
        finally:
            process.terminate()


if __name__ == "__main__":
    main(sys.argv[1:])
