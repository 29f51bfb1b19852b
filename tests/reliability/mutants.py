"""Mutants: faults of the order core, each a rule of one function changed in the running program.

One that no longer fits the code says so: the rule has moved, and the mutant has to follow it.
"""

from __future__ import annotations
import __future__

import asyncio
import inspect
import textwrap
from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import Any

from ibkr_gateway_server.audit.transaction import Transaction
from ibkr_gateway_server.broker.orders import OrderWire
from ibkr_gateway_server.domain.errors import DomainError
from ibkr_gateway_server.domain.evidence import Evidence, ExecutionSeen
from ibkr_gateway_server.domain.orders import OrderState
from ibkr_gateway_server.domain.sessions import SessionState
from ibkr_gateway_server.trading import changes, conclusions, ledger, loading, plan, recorder, transitions
from ibkr_gateway_server.trading.desk import Desk
from ibkr_gateway_server.trading.doubts import Doubts
from ibkr_gateway_server.trading.entries import Intent
from ibkr_gateway_server.trading.ledger import Ledger
from ibkr_gateway_server.trading.reconcile import Reconciler
from ibkr_gateway_server.trading.submission import Submission
from ibkr_gateway_server.trading.transitions import TABLE, Sign


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
        _rewritten(Submission, "_check", ("self._means.guard.check()", "return")),
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
    Mutant(
        "a change sent again under its id",
        _rewritten(Desk, "_modify", ("known.state is not ModificationState.NOT_SENT", "known.state.is_pending")),
    ),
    Mutant(
        "a change made while an earlier one is not confirmed",
        _rewritten(changes, "targets", ("if intent.pending is not None", "if False")),
    ),
    Mutant(
        "the legs of a bracket transmitted one by one",
        _rewritten_in(plan, "_bracket", "transmits=False", "transmits=True"),
    ),
    Mutant(
        "the exits of a bracket not attached to its entry",
        _rewritten(Submission, "place", ("parent_order_id=entry_id", "parent_order_id=0")),
    ),
    Mutant("the word Inactive ignored of what fills now or never", _ignore_inactive),
)
