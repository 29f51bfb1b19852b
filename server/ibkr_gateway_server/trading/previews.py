"""Previews: tokens, each of which binds one order to exactly the plan that was previewed, and their record.

Tokens live in memory alone: after a restart the market is another one, and the order is previewed again.
"""

from __future__ import annotations

import secrets
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass
from datetime import datetime, timedelta

from pydantic import TypeAdapter

from ibkr_gateway_server.audit.store import AuditStore
from ibkr_gateway_server.audit.stored import SPEC, Cause
from ibkr_gateway_server.domain.errors import AuditUnavailable, PreviewExpired
from ibkr_gateway_server.domain.orders import OrderSpec, Preview, WhatIf
from ibkr_gateway_server.trading.appraisal import snapshot_of

LIFETIME_S = 60.0

# More are not remembered at a time: the oldest goes, and its order is to be previewed again.
MAX_TOKENS = 10_000

_TOKEN_BYTES = 24

_WHAT_IF = TypeAdapter(WhatIf | None)


@dataclass(slots=True)
class _Issued:
    """A token's plan, its end, and the order that has used it."""

    payload_hash: str
    expire_time: datetime
    client_order_id: str = ""


class PreviewTokens:
    """Issues tokens and takes each once. `now` is the time, UTC; `lifetime_s` how long a token is good, in seconds."""

    def __init__(
        self, now: Callable[[], datetime], lifetime_s: float = LIFETIME_S, max_tokens: int = MAX_TOKENS
    ) -> None:
        self._now = now
        self._lifetime = timedelta(seconds=lifetime_s)
        self._max_tokens = max_tokens
        # Oldest first: all live equally long.
        self._issued: dict[str, _Issued] = {}

    def __len__(self) -> int:
        return len(self._issued)

    def issue(self, payload_hash: str) -> tuple[str, datetime]:
        """A token for one order with this plan, and when it ends."""
        self._forget()
        token, expire_time = secrets.token_urlsafe(_TOKEN_BYTES), self._now() + self._lifetime
        self._issued[token] = _Issued(payload_hash, expire_time)
        return token, expire_time

    def redeem(self, token: str, payload_hash: str, client_order_id: str) -> None:
        """Use a token for an order. The same order may use it again within its time: a try that has not left.

        An order that was placed already is to be recognised before: its answer does not depend on its token any more.
        Raises PreviewExpired.
        """
        issued = self._issued.get(token)
        if issued is None:
            raise PreviewExpired("is not known: it has ended, or the gateway was restarted")
        if self._now() >= issued.expire_time:
            raise PreviewExpired(f"has ended: it was good for {self._lifetime.total_seconds():g} s")
        if issued.payload_hash != payload_hash:
            raise PreviewExpired("is of another order than this")
        if issued.client_order_id not in ("", client_order_id):
            raise PreviewExpired("was used for another order")
        issued.client_order_id = client_order_id

    def _forget(self) -> None:
        """Drop what has ended, and the oldest where there are too many."""
        now = self._now()
        while self._issued:
            oldest = next(iter(self._issued))
            if len(self._issued) < self._max_tokens and self._issued[oldest].expire_time > now:
                return
            del self._issued[oldest]


class PreviewRecord:
    """Keeps what was previewed: for which terms, in which market, with which figures, and what stood in the way."""

    def __init__(self, store: AuditStore) -> None:
        self._store = store

    async def keep(self, spec: OrderSpec, preview: Preview) -> None:
        """One event. A preview is answered whether or not it can be recorded: it sends nothing."""
        cause = Cause.of_caller()
        body = {
            "spec": SPEC.dump_python(spec, mode="json"),
            "market": snapshot_of(preview.quote),
            "notional": preview.notional,
            "margin_source": preview.margin_source,
            "what_if": _WHAT_IF.dump_python(preview.what_if, mode="json"),
            "blockers": [blocker.reason for blocker in preview.blockers],
            "warnings": preview.warnings,
        }
        with suppress(AuditUnavailable):
            await self._store.transact(lambda tx: tx.append("order.preview", body, cause=cause))
