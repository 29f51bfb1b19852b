"""Orders under every failure, a bounded slice of what `make explore` and `make mutants` do at length."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections import Counter
from pathlib import Path

import pytest

from tests.reliability.hunt import Hunt, hunted
from tests.reliability.mishaps import CLASSES
from tests.reliability.mutants import MUTANTS
from tests.reliability.report import MANY_SEEDS, OFTEN, Totals
from tests.reliability.run import run

ROOT = Path(__file__).parents[2]
SEEDS = range(1, 13)
SEEDS_OF_TWO_PROCESSES = 4
# Found within the first seeds, so that a test takes a moment; `make mutants` looks for all of them.
EASY_MUTANTS = ("no dedupe of keys", "recorded after it is sent", "executions not deduplicated")


@pytest.mark.parametrize("seed", SEEDS)
def test_orders_are_never_doubled_lost_or_guessed(seed: int) -> None:
    outcome = run(seed)
    assert not outcome.findings, "\n".join([*outcome.trace[-100:], *map(str, outcome.findings)])


def test_a_seed_does_the_same_in_processes_that_hash_text_differently() -> None:
    told = [_told(hashing) for hashing in ("1", "4711")]
    assert told[0] == told[1]
    assert len({one["digest"] for one in told[0]}) == SEEDS_OF_TWO_PROCESSES


def test_faults_put_into_the_order_core_are_found() -> None:
    found = list(hunted(EASY_MUTANTS, 20, 2))
    assert sorted(one.name for one in found if one.seed is not None) == sorted(EASY_MUTANTS), found


def test_every_mutant_has_a_name_of_its_own() -> None:
    names = [mutant.name for mutant in MUTANTS]
    assert len(set(names)) == len(names) >= 12


def test_a_mutant_that_is_not_found_says_so() -> None:
    assert str(Hunt("a fault", None, "", "not found by 20 seeds", 1.0)) == "SURVIVES  a fault: not found by 20 seeds"


def test_a_long_run_says_which_failures_it_has_hardly_tried() -> None:
    often = Counter(dict.fromkeys(CLASSES, OFTEN))
    assert Totals(jobs=1, first_seed=1, seeds=MANY_SEEDS, struck=often).rare == []
    often["C29 read-only"] = OFTEN - 1
    assert Totals(jobs=1, first_seed=1, seeds=MANY_SEEDS, struck=often).rare == [f"C29 read-only ({OFTEN - 1})"]
    assert Totals(jobs=1, first_seed=1, seeds=MANY_SEEDS - 1).rare == []


def _told(hashing: str) -> list[dict[str, object]]:
    command = [sys.executable, "-m", "tests.reliability.explorer", "--seeds", str(SEEDS_OF_TWO_PROCESSES), "--once"]
    ran = subprocess.run(
        command, cwd=ROOT, env={**os.environ, "PYTHONHASHSEED": hashing}, capture_output=True, text=True, timeout=60
    )
    return json.loads(ran.stdout)
