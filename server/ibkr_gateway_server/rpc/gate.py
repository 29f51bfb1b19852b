"""The gate that every call passes: who calls, and whether he may."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import AsyncGenerator, Callable, Iterable
from contextlib import aclosing
from datetime import UTC, datetime, timedelta
from time import perf_counter
from typing import TypeVar

from ibkr_gateway_server.audit.denials import Denial
from ibkr_gateway_server.credentials.tokens import Tokens, digest_of
from ibkr_gateway_server.domain.errors import DomainError, ScopeMissing, TokenExpired, TokenInvalid, TokenMissing
from ibkr_gateway_server.domain.scopes import LOCAL, Caller, Scope
from ibkr_gateway_server.logs import LineRate, correlation_id, principal

log = logging.getLogger(__name__)

T = TypeVar("T")

Metadata = Iterable[tuple[str, str | bytes]]

KEY = "authorization"
# Of the hash of what was shown: enough to see that two denials had the same token, nothing to find the token by.
PREFIX_DIGITS = 8
# Of denials; whoever knocks without end does not fill the disk.
LINES_A_SECOND = 5

NOBODY = Caller("", frozenset())
"""Who calls what anybody may call: nothing else is his to do."""


class Gate:
    """Lets callers in by their tokens. Without tokens every caller is a program of this machine and may do everything.

    `tell` gets every denial, for the record.
    """

    def __init__(self, tokens: Tokens | None = None, tell: Callable[[Denial], None] = lambda _denial: None) -> None:
        self._tokens = tokens
        self._tell = tell
        self._lines = LineRate(LINES_A_SECOND)

    def admit(self, metadata: Metadata, endpoint: str, scope: Scope | None) -> Caller:
        """Who calls. `scope` None: anybody may. Raises TokenMissing, TokenInvalid, TokenExpired, ScopeMissing."""
        if self._tokens is None:
            return LOCAL
        if scope is None:
            return NOBODY
        caller = self.known(metadata, endpoint)
        try:
            caller.require(scope)
        except ScopeMissing as refusal:
            self._deny(refusal, endpoint, caller=caller)
            raise
        return caller

    def known(self, metadata: Metadata, endpoint: str) -> Caller:
        """Whose token was shown, whatever it is for. Raises TokenMissing, TokenInvalid, TokenExpired."""
        if self._tokens is None:
            return LOCAL
        shown = _bearer(metadata)
        try:
            caller = self._tokens.caller(shown)
        except (TokenMissing, TokenInvalid, TokenExpired) as refusal:
            self._deny(refusal, endpoint, shown=shown)
            raise
        principal.set(caller.name)
        return caller

    def while_known(self, caller: Caller, endpoint: str, responses: AsyncGenerator[T, None]) -> AsyncGenerator[T, None]:
        """What a stream tells, until its caller's token expires. Raises TokenExpired."""
        end = caller.expire_time
        return responses if end is None else self._until(end, caller, endpoint, responses)

    async def _until(
        self, end: datetime, caller: Caller, endpoint: str, responses: AsyncGenerator[T, None]
    ) -> AsyncGenerator[T, None]:
        async with aclosing(responses):
            # By the clock that tokens expire by, each time: it may be set anew while the stream is open.
            while (left := end - datetime.now(UTC)) > timedelta(0):
                time_left = asyncio.timeout(left.total_seconds())
                try:
                    async with time_left:
                        response = await anext(responses)
                except StopAsyncIteration:
                    return
                except TimeoutError:
                    if not time_left.expired():
                        raise
                    break
                yield response
        refusal = TokenExpired()
        self._deny(refusal, endpoint, caller=caller)
        raise refusal

    def _deny(self, refusal: DomainError, endpoint: str, *, caller: Caller = NOBODY, shown: str = "") -> None:
        prefix = digest_of(shown).hex()[:PREFIX_DIGITS] if shown else ""
        if self._lines.has_room(perf_counter()):
            extra = {"endpoint": endpoint, "reason": refusal.reason, "token_hash": prefix}
            log.warning("denied", extra={**extra, **self._lines.left_out()})
        self._tell(Denial(refusal.reason, endpoint, caller.name, correlation_id.get(), prefix))


def _bearer(metadata: Metadata) -> str:
    """The token that was shown; empty: none. One that was shown beside another is none of ours."""
    shown = [value for key, value in metadata if key == KEY]
    if not shown:
        return ""
    first = shown[0]
    scheme, _, token = (first if isinstance(first, str) else first.decode("latin-1")).partition(" ")
    return token if len(shown) == 1 and scheme.lower() == "bearer" and token else "unreadable"
