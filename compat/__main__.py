"""`python -m compat`: every client holds the conversation; a table of steps and clients; exit code 1 when one fails."""

from __future__ import annotations

import argparse
import json
import os
import re
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from compat.record import FAILED, LEFT_OUT, PASSED
from compat.steps import STEPS

ROOT = Path(__file__).parents[1]
# Ten seconds of its clock in one, so that five-second bars come twice a second.
SIMULATOR = (str(Path(sys.executable).with_name("ibkr-gateway")), "simulate", "--port", "0", "--seed", "7")
HASTE = ("--speed", "10", "--tick-interval", "0.05")
# Another one where it is always Sunday: it shows an order that is held until the market opens.
CLOSED = (*SIMULATOR, "--hours", "exchange", "--start", "2026-11-22T12:00:00Z")
LIMIT_S = 180
# Of a reason in the table; the JSON has all of it.
LONGEST = 400
MARKS = {PASSED: "✓", LEFT_OUT: "–", FAILED: "✗"}


@dataclass(frozen=True)
class Client:
    """One client: its environment, its driver, and the highest server version that it is offered."""

    name: str
    environment: str
    driver: str
    server_version: int = 200


CLIENTS = (
    Client("ib_async", "ib_async", "compat.ib_library"),
    Client("ib_insync", "ib_insync", "compat.ib_library"),
    Client("ibapi", "ibapi", "compat.official"),
    Client("ibapi at 176", "ibapi", "compat.official", 176),
)


@contextmanager
def served(command: Sequence[str]) -> Iterator[int]:
    """A simulator as a process of its own. Yields its port."""
    process = subprocess.Popen(command, stdout=subprocess.PIPE, text=True, cwd=ROOT)
    try:
        assert process.stdout is not None
        line = process.stdout.readline()
        match = re.search(r":(\d+)\s*$", line)
        if match is None:
            raise RuntimeError(f"the simulator did not start: {line!r}")
        yield int(match[1])
    finally:
        process.terminate()
        process.communicate(timeout=20)


def hold(client: Client) -> dict[str, Any]:
    """One client's conversation with simulators of its own, and what became of each step."""
    python = ROOT / f".venv-compat-{client.environment}" / "bin" / "python"
    version = ("--server-version", str(client.server_version))
    if not python.exists():
        missing = {"client": client.environment, "version": "?", "results": [], "name": client.name, "seconds": 0.0}
        return whole(missing, f"{python.parents[1]} is missing: make compat makes it")
    began = time.monotonic()
    with (
        tempfile.TemporaryDirectory() as folder,
        served((*SIMULATOR, *HASTE, *version)) as port,
        served(CLOSED) as closed_port,
    ):
        report = Path(folder) / "report.json"
        command = [
            str(python),
            "-m",
            client.driver,
            str(port),
            str(closed_port),
            str(report),
            str(client.server_version),
        ]
        # Nothing of this environment is seen in the client's own.
        environment = {name: value for name, value in os.environ.items() if not name.startswith("PYTHON")}
        try:
            done = subprocess.run(command, cwd=ROOT, env=environment, capture_output=True, text=True, timeout=LIMIT_S)
            trouble = done.stderr[-3000:] or (f"it ended with {done.returncode}" if done.returncode else "")
        except subprocess.TimeoutExpired:
            trouble = f"it was ended after {LIMIT_S} s"
        found: dict[str, Any] = {"client": client.environment, "version": "?", "results": []}
        if report.exists():
            found = json.loads(report.read_text())
    return {**whole(found, trouble), "name": client.name, "seconds": round(time.monotonic() - began, 1)}


def whole(report: dict[str, Any], trouble: str) -> dict[str, Any]:
    """A report with all steps: those that the driver has not come to have failed, as has its last one when the driver
    itself was in trouble."""
    results = list(report["results"])
    missing = STEPS[len(results) :]
    if missing or trouble:
        reason = trouble or "the driver ended before it"
        names = missing or STEPS[-1:]
        results = results[: len(STEPS) - len(names)]
        results += [{"step": name, "outcome": FAILED, "reason": reason, "seconds": 0.0} for name in names]
    return {**report, "results": results}


def table(reports: Sequence[dict[str, Any]]) -> str:
    """Steps by clients, and the reasons for whatever has not passed."""
    width = max(map(len, STEPS))
    names = [report["name"] for report in reports]
    lines = [" " * width + "  " + "  ".join(names)]
    notes: dict[str, list[str]] = {}
    for row, step in enumerate(STEPS):
        results = [report["results"][row] for report in reports]
        marks = (MARKS[result["outcome"]].center(len(name)) for name, result in zip(names, results, strict=True))
        lines.append(f"{step:<{width}}  {'  '.join(marks)}".rstrip())
        for name, result in zip(names, results, strict=True):
            if result["outcome"] != PASSED:
                note = f"{MARKS[result['outcome']]} {step}: {result['reason'][:LONGEST]}"
                notes.setdefault(note, []).append(name)
    lines += ["", *(f"{note} ({', '.join(whose)})" for note, whose in notes.items())]
    for report in reports:
        outcomes = [result["outcome"] for result in report["results"]]
        counts = ", ".join(f"{outcomes.count(kind)} {kind}" for kind in (PASSED, FAILED, LEFT_OUT))
        lines.append(f"{report['name']} ({report['client']} {report['version']}): {counts}; {report['seconds']} s")
    return "\n".join(lines)


def main(argv: list[str] | None = None) -> int:
    """Hold the conversations, two at a time. Returns the exit code."""
    parser = argparse.ArgumentParser(prog="python -m compat", description=__doc__)
    parser.add_argument("--json", type=Path, metavar="FILE", help="write the results there too")
    parser.add_argument("--only", choices=[client.name for client in CLIENTS], help="this client alone")
    arguments = parser.parse_args(argv)
    clients = [client for client in CLIENTS if arguments.only in (None, client.name)]
    with ThreadPoolExecutor(2) as pool:
        reports = list(pool.map(hold, clients))
    print(table(reports))
    if arguments.json:
        arguments.json.write_text(json.dumps(reports, indent=1) + "\n")
    return int(any(result["outcome"] == FAILED for report in reports for result in report["results"]))


if __name__ == "__main__":
    sys.exit(main())
