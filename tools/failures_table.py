"""Write docs/failures.md: run the tests of tests/failures, and make a row of each from its name, docstring and outcome.

`make failures` runs it. `--check` runs nothing: it fails when a row is missing or is not as the tests say.
"""

from __future__ import annotations

import argparse
import ast
import re
import subprocess
import sys
import tempfile
import xml.etree.ElementTree as ElementTree
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

ROOT = Path(__file__).resolve().parents[1]
TESTS = ROOT / "tests" / "failures"
PAGE = ROOT / "docs" / "failures.md"

# How many ids each part of the catalogue has.
PARTS = {
    "C": ("Connection", 30),
    "M": ("Market data", 17),
    "H": ("History", 11),
    "A": ("Accounts", 8),
    "O": ("Orders", 48),
    "D": ("The record", 13),
    "F": ("Configuration", 8),
    "P": ("MCP adapter", 11),
    "G": ("gRPC clients", 20),
    "S": ("Secrets", 4),
}

_NAME = re.compile(r"test_([A-Z])(\d\d)_\w+")

HEAD = """# Failures

What goes wrong with a broker, injected at the simulator's socket, and what a client then sees. Every row is a test
under `tests/failures`, named after its id, and `make test` runs them all; this page is written by `make failures` from
the tests' own words and from how they ended.
"""


@dataclass(frozen=True, slots=True)
class Row:
    """One test of one failure."""

    part: str
    number: int
    test: str
    injected: str
    seen: str
    place: str

    @property
    def id(self) -> str:
        """As it is called everywhere."""
        return f"{self.part}{self.number:02}"

    def line(self, outcome: str) -> str:
        """The row of the table."""
        return f"| {self.id} | {self.injected} | {self.seen} | [`{self.test}`]({self.place}) | {outcome} |"


def rows() -> list[Row]:
    """Every test of a failure, in the order of their ids. Raises ValueError for a docstring that is not two parts."""
    found = [row for path in sorted(TESTS.glob("test_*.py")) for row in _rows_of(path)]
    return sorted(found, key=lambda row: (list(PARTS).index(row.part), row.number, row.test))


def _rows_of(path: Path) -> Iterator[Row]:
    for node in ast.parse(path.read_text()).body:
        if not isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef) or not (match := _NAME.fullmatch(node.name)):
            continue
        parts = [" ".join(part.split()) for part in (ast.get_docstring(node) or "").split("\n\n")]
        if len(parts) != 2:
            raise ValueError(f"{path.name}: {node.name} does not say what happens and, in a second part, what is seen")
        place = f"../{path.relative_to(ROOT).as_posix()}"
        yield Row(match[1], int(match[2]), node.name, parts[0], parts[1], place)


def missing(found: Sequence[Row]) -> list[str]:
    """Ids of the catalogue that no test has."""
    have = {row.id for row in found}
    every = [f"{part}{number:02}" for part, (_, count) in PARTS.items() for number in range(1, count + 1)]
    return [each for each in every if each not in have]


def page(found: Sequence[Row], outcomes: Mapping[str, str]) -> str:
    """The whole page."""
    text = [HEAD]
    for part, (title, count) in PARTS.items():
        of_part = [row for row in found if row.part == part]
        text.append(f"## {title}: {part}01 to {part}{count:02}\n")
        text.append("| id | what happens | what a client sees | test | last result |\n|---|---|---|---|---|")
        text.extend(row.line(outcomes.get(row.test, "not run")) for row in of_part)
        text.append("")
    return "\n".join(text)


def outcomes() -> dict[str, str]:
    """Run the tests; how each ended. A test with several cases passed when all of them did."""
    with tempfile.TemporaryDirectory() as folder:
        report = Path(folder) / "report.xml"
        command = [sys.executable, "-m", "pytest", "-q", "-n", "2", f"--junit-xml={report}", str(TESTS)]
        subprocess.run(command, cwd=ROOT, check=False)
        cases = ElementTree.parse(report).getroot().iter("testcase")
        ended: dict[str, str] = {}
        for case in cases:
            name = case.get("name", "").partition("[")[0]
            failed = any(case.find(kind) is not None for kind in ("failure", "error", "skipped"))
            ended[name] = "failed" if failed else ended.get(name, "passed")
        return ended


def problems(found: Sequence[Row], text: str) -> list[str]:
    """What is wrong with the page."""
    wrong = [f"no test is named after {each}" for each in missing(found)]
    wrong += [f"{row.test} is not on the page as it passed" for row in found if row.line("passed") not in text]
    known = {row.test for row in found}
    wrong += [f"{test} is on the page and is no test" for test in re.findall(r"\[`(\w+)`\]", text) if test not in known]
    return wrong


def main() -> int:
    """Returns the exit code."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--check", action="store_true", help="run nothing; fail when the page is not as the tests say")
    found = rows()
    if not parser.parse_args().check:
        PAGE.write_text(page(found, outcomes()))
    wrong = problems(found, PAGE.read_text())
    for each in wrong:
        print(f"docs/failures.md: {each}", file=sys.stderr)
    return 1 if wrong else 0


if __name__ == "__main__":
    sys.exit(main())
