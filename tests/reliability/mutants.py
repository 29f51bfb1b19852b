"""`make mutants`: faults put into the order core on purpose, each of which the explorer must find.

    make mutants                        every mutant, with as many seeds as it takes to find it
    make mutants ONLY="no dedupe"       one of them
    make explore SEED=5 MUTANT="..."    what one of them does in one seed, with the trace

A mutant changes one rule of one function, in the running program. One that no longer fits the code says so and fails:
the rule has moved, and the mutant has to follow it. A seed in which the unchanged core fails as well finds no mutant.
"""

from __future__ import annotations
import __future__

import argparse
import asyncio
import inspect
import json
import subprocess
import sys
import textwrap
import time
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor, as_completed
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any

from ibkr_gateway_server.audit.transaction import Transaction
from ibkr_gateway_server.broker.orders import OrderWire
from ibkr_gateway_server.domain.errors import DomainError
from ibkr_gateway_server.domain.evidence import Evidence, ExecutionSeen
from ibkr_gateway_server.domain.orders import OrderState
from ibkr_gateway_server.domain.sessions import SessionState
from ibkr_gateway_server.trading import conclusions, ledger, loading, recorder, transitions
from ibkr_gateway_server.trading.desk import Desk
from ibkr_gateway_server.trading.doubts import Doubts
from ibkr_gateway_server.trading.entries import Intent
from ibkr_gateway_server.trading.ledger import Ledger
from ibkr_gateway_server.trading.reconcile import Reconciler
from ibkr_gateway_server.trading.submission import Submission
from ibkr_gateway_server.trading.transitions import TABLE, Sign

from tests.reliability.invariants import WHOLE
from tests.reliability.report import PAGE, table, write
from tests.reliability.run import run

ROOT = Path(__file__).parents[2]
# The seed by which each mutant was found the last time: it is tried first, which makes most hunts short.
FINDERS = Path(__file__).with_name("finders.json")
# Seeds that a mutant may survive before it counts as one that is not found.
MOST_SEEDS = 1000


class DoesNotFit(Exception):
    """The code that a mutant changes is not there any more."""


@dataclass(frozen=True, slots=True)
class Mutant:
    """A fault of the order core. `apply` puts it into this process, for good."""

    name: str
    apply: Callable[[], None]


def _rewritten(owner: Any, name: str, *changes: tuple[str, str]) -> Callable[[], None]:
    """A function or method with other words in its source."""

    def apply() -> None:
        if not hasattr(owner, name):
            raise DoesNotFit(f"there is no {name}")
        function = inspect.unwrap(inspect.getattr_static(owner, name))
        source = textwrap.dedent(inspect.getsource(function))
        for old, new in changes:
            if old not in source:
                raise DoesNotFit(f"{name} has no {old!r}")
            source = source.replace(old, new)
        flags = __future__.annotations.compiler_flag
        namespace: dict[str, Any] = {}
        code = compile(source, inspect.getfile(function), "exec", flags=flags, dont_inherit=True)
        exec(code, function.__globals__, namespace)  # the function's own source, changed
        setattr(owner, name, namespace[name])

    return apply


def _everywhere(module: Any, name: str, users: tuple[Any, ...], *changes: tuple[str, str]) -> Callable[[], None]:
    """A function of a module that others have imported by name."""

    def apply() -> None:
        _rewritten(module, name, *changes)()
        for user in users:
            setattr(user, name, getattr(module, name))

    return apply


def _forget_the_floor() -> None:
    Transaction.floor = lambda _self, _client_id: 0  # type: ignore[method-assign]


def _take_silence_for_an_answer() -> None:
    for name in ("ask_open_orders", "ask_completed_orders", "ask_executions"):
        ask = getattr(OrderWire, name)

        async def asked(self: OrderWire, connection: Any, timeout_s: float, ask: Any = ask) -> None:
            try:
                await ask(self, connection, timeout_s)
            except DomainError:
                return

        setattr(OrderWire, name, asked)


def _rewritten_in(module: Any, name: str, old: str, new: str) -> Callable[[], None]:
    """A function of a module that only this module calls."""
    return _rewritten(module, name, (old, new))


def _record_after_the_write() -> None:
    """The intent goes to the disk when the order has left."""
    record = Submission._record

    async def late(self: Submission, intent: Intent, *what: Any, **how: Any) -> None:
        self._means.ledger.add(intent)
        asyncio.get_running_loop().call_soon(lambda: asyncio.ensure_future(record(self, intent, *what, **how)))

    Submission._record = late  # type: ignore[method-assign]


def _count_every_telling_of_a_fill() -> None:
    _rewritten(Ledger, "_executed", (_KNOWN, "if False:"))()
    change = ("entry.fills[fill.stem] = fill", "entry.fills[f'{fill.stem} {len(entry.fills)}'] = fill")
    _everywhere(conclusions, "executed", (ledger,), change)()


def _call_a_failed_write_unsent() -> None:
    place = Submission.place
    write = Submission._write

    def failing(self: Submission, connection: Any, *what: Any) -> bool:
        if not write(self, connection, *what):
            raise connection.disconnected()
        return True

    async def placing(self: Submission, intent: Intent, *what: Any) -> None:
        try:
            await place(self, intent, *what)
        except DomainError:
            for entry in intent:
                entry.status = replace(entry.status, state=OrderState.NOT_SENT)
            raise

    Submission._write = failing  # type: ignore[method-assign]
    Submission.place = placing  # type: ignore[method-assign]


def _stay_presumed() -> None:
    """No later word of an order that was presumed never placed is taken."""
    for outcomes in TABLE.values():
        outcomes.pop(OrderState.PRESUMED_NOT_PLACED, None)


def _ignore_inactive() -> None:
    _everywhere(transitions, "sign_of", (conclusions,), ('if word == "Inactive"', "if False"))()


def _drop_fills_while_the_link_is_down() -> None:
    """And take them for known when they are told again."""
    hear = Reconciler.hear

    def heard(self: Reconciler, evidence: Evidence) -> None:
        if isinstance(evidence, ExecutionSeen) and self._session.status.state is SessionState.LINK_DOWN:
            entry = self._ledger.entry_of(evidence, self._session.client_id)
            if entry is not None:
                self._ledger._by_execution_id[evidence.execution_id] = entry
        else:
            hear(self, evidence)

    Reconciler.hear = heard  # type: ignore[method-assign]


def _after_sign(sign: Sign, state: OrderState, *sources: OrderState) -> Callable[[], None]:
    """The table of signs with another outcome."""

    def apply() -> None:
        for source in sources:
            if TABLE[sign].get(source, source) is state:
                raise DoesNotFit(f"{sign.name} makes {state} of {source} already")
            TABLE[sign][source] = state

    return apply


_KNOWN = "if seen.execution_id in self._by_execution_id:"

MUTANTS = (
    Mutant(
        "an order that is not known of is sent again under its key",
        _rewritten(
            Desk,
            "_place",
            ("leg.status.state is not OrderState.NOT_SENT", "leg.status.state not in ('NOT_SENT', 'UNKNOWN')"),
        ),
    ),
    Mutant("no floor of order ids", _forget_the_floor),
    Mutant(
        "no look at the session before the write",
        _rewritten(Submission, "_check", ("self._means.guard.check_way()", "return")),
    ),
    Mutant("fills dropped while the link is down", _drop_fills_while_the_link_is_down),
    Mutant("recorded after it is sent", _record_after_the_write),
    Mutant("silence taken for an answer", _take_silence_for_an_answer),
    Mutant(
        "lists of before and after a lost link taken for one",
        _rewritten(Doubts, "_aged", ("or doubt.watch != self.watch", "")),
    ),
    Mutant(
        "no quarantine",
        _rewritten(Doubts, "_limit_s", ("self._patience.quarantine_s", "0.0")),
    ),
    Mutant(
        "a row that cannot be read is no row",
        _rewritten(Reconciler, "_unreadable", ("self._is_torn = True", "pass")),
    ),
    Mutant(
        "a notice taken for a cancel",
        _rewritten_in(
            conclusions,
            "_sign_of_error",
            "    state = entry.status.state\n",
            "    state = entry.status.state\n    if code == ORDER_CANCELLED:\n        return Sign.CANCELLED\n",
        ),
    ),
    Mutant(
        "a late fill of a cancelled order left out",
        _rewritten(
            Ledger,
            "_executed",
            (_KNOWN, "if seen.execution_id in self._by_execution_id or entry.status.state == 'CANCELLED':"),
        ),
    ),
    Mutant("no dedupe of keys", _rewritten(Desk, "_place", ("self._ledger.intent(client_order_id)", "None"))),
    Mutant(
        "terms under a known key not compared",
        _rewritten(Desk, "_place", ("known.payload_hash != payload_hash", "False")),
    ),
    Mutant(
        "orderStatus counted besides executions",
        _rewritten_in(
            conclusions, "_after_fills", "max(quantity, entry.told_filled)", "entry.status.filled_quantity + quantity"
        ),
    ),
    Mutant("executions not deduplicated", _count_every_telling_of_a_fill),
    Mutant(
        "a correction added instead of replacing",
        _everywhere(
            conclusions,
            "executed",
            (ledger,),
            ("entry.fills[fill.stem] = fill", "entry.fills[fill.execution_id] = fill"),
        ),
    ),
    Mutant(
        "silence about an order read as its rejection", _after_sign(Sign.SILENCE, OrderState.REJECTED, OrderState.SENT)
    ),
    Mutant("a failed write reported as a refusal", _call_a_failed_write_unsent),
    Mutant(
        "a restart takes SENT for NOT_SENT", _rewritten_in(loading, "_recovered", "if entry.was_written", "if False")
    ),
    Mutant(
        "told before it is durable",
        _rewritten(recorder.Recorder, "_write_until_durable", ("await asyncio.sleep(RETRY_AFTER_S)", "return")),
    ),
    Mutant("an order that is presumed never placed stays so", _stay_presumed),
    Mutant("the word Inactive ignored of what fills now or never", _ignore_inactive),
)


@dataclass(frozen=True, slots=True)
class Hunt:
    """How a mutant fared. `seed` None: it was not found, and `shown` says why."""

    name: str
    seed: int | None
    invariant: str
    shown: str
    seconds: float

    def __str__(self) -> str:
        if self.seed is None:
            return f"SURVIVES  {self.name}: {self.shown}"
        return (
            f"found     {self.name}, by seed {self.seed} in {self.seconds:.1f} s: {self.invariant}: {self.shown[:160]}"
        )


def hunt(name: str, first: int, most: int) -> Hunt:
    """Look for one mutant with seeds from one to another. Changes this process for good: give it one of its own."""
    mutant = next(mutant for mutant in MUTANTS if mutant.name == name)
    began = time.perf_counter()
    try:
        mutant.apply()
    except DoesNotFit as error:
        return Hunt(name, None, "", f"does not fit the code: {error}", 0.0)
    for seed in _seeds(name, first, most):
        findings = run(seed).findings
        if findings and findings[0][0] == WHOLE:
            # A program that falls over is no rule that is broken.
            return Hunt(name, None, "", f"does not fit the code: {findings[0][1]}", 0.0)
        if findings:
            return Hunt(name, seed, *findings[0], time.perf_counter() - began)
    return Hunt(name, None, "", f"not found by {most} seeds", time.perf_counter() - began)


def _seeds(name: str, first: int, most: int) -> Iterator[int]:
    """Where it was found the last time, then all others in turn."""
    known = json.loads(FINDERS.read_text(encoding="utf-8")).get(name, 0)
    if first == 1 and known:
        yield known
    yield from (seed for seed in range(first, most + 1) if seed != known or first > 1)


def hunted(names: Sequence[str], most: int, jobs: int) -> Iterator[Hunt]:
    """How each of these mutants fares, in the order in which they are found."""
    with ThreadPoolExecutor(jobs) as threads:
        for done in as_completed([threads.submit(_in_a_process, name, most) for name in names]):
            yield done.result()


def _in_a_process(name: str, most: int) -> Hunt:
    """Hunt in a process of its own, past seeds in which the unchanged core fails as well."""
    first = 1
    while True:
        command = [sys.executable, "-m", "tests.reliability.mutants", "--hunt", name]
        command += ["--first", str(first), "--most", str(most)]
        ran = subprocess.run(command, cwd=ROOT, capture_output=True, text=True)
        if ran.returncode:
            return Hunt(name, None, "", f"its process failed: {ran.stderr[-500:]}", 0.0)
        found = Hunt(**json.loads(ran.stdout))
        if found.seed is None:
            return found
        command = [sys.executable, "-m", "tests.reliability.explorer", "--once", "--seed", str(found.seed)]
        if subprocess.run(command, cwd=ROOT, capture_output=True).returncode == 0:
            return found
        first = found.seed + 1


def main(argv: list[str] | None = None) -> int:
    """Run from the command line. Returns the exit code: 0 when every mutant is found."""
    parser = argparse.ArgumentParser(prog="make mutants", description=__doc__)
    parser.add_argument("--only", default="", help="the mutants with this in their name")
    parser.add_argument("--most", type=int, default=MOST_SEEDS, help="seeds for each of them (default: %(default)s)")
    parser.add_argument("--jobs", type=int, default=2, help="processes (default: %(default)s)")
    parser.add_argument("--write", action="store_true", help="write the table into docs/reliability.md")
    parser.add_argument("--hunt", default="", help="one of them, by its name, in this process; the outcome as JSON")
    parser.add_argument("--first", type=int, default=1, help="the seed to begin with (default: %(default)s)")
    arguments = parser.parse_args(argv)
    if arguments.hunt:
        print(json.dumps(asdict(hunt(arguments.hunt, arguments.first, arguments.most))))
        return 0
    names = [mutant.name for mutant in MUTANTS if arguments.only in mutant.name]
    began, hunts = time.perf_counter(), []
    for found in hunted(names, arguments.most, arguments.jobs):
        hunts.append(found)
        print(found, flush=True)
    seconds = time.perf_counter() - began
    survivors = [found.name for found in hunts if found.seed is None]
    print(json.dumps({"mutants": len(hunts), "survivors": survivors, "seconds": round(seconds, 1)}))
    if survivors or not hunts:
        return 1
    if arguments.write:
        finders = {found.name: found.seed for found in sorted(hunts, key=lambda one: one.name)}
        FINDERS.write_text(json.dumps(finders, indent=2) + "\n", encoding="utf-8")
        rows = [(found.name, str(found.seed), found.invariant) for found in sorted(hunts, key=lambda one: one.name)]
        body = table(("fault put in", "found by seed", "which finds broken"), rows)
        write(PAGE, "mutants", "make mutants", seconds, body)
    return 0


if __name__ == "__main__":
    sys.exit(main())
