"""The tokens that callers show, as the operator has written them down: by their hashes, never themselves.

[tokens.strategy-a]                 # the caller's name, as the record and the log have it
sha256 = "9f86d081884c7d65..."      # of the token's text, 64 hexadecimal digits
scopes = ["read", "trade"]
expires = 2027-01-01                # optional: a date, from whose first moment (UTC) on it is refused, or a time
"""

from __future__ import annotations

import hashlib
import hmac
import re
import tomllib
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from datetime import UTC, date, datetime, time
from pathlib import Path
from typing import Any

from ibkr_gateway_server.domain.errors import TokenExpired, TokenInvalid, TokenMissing
from ibkr_gateway_server.domain.scopes import Caller, Scope

# Fewer could be guessed; `ibkr-gateway token create` makes 43 characters of 32 random bytes.
LEAST_CHARACTERS = 32
MOST_CHARACTERS = 256

_NAME = re.compile(r"[A-Za-z0-9_-]{1,64}", re.ASCII)
_SHA256 = re.compile(r"[0-9a-f]{64}", re.ASCII)
_KEYS = frozenset({"sha256", "scopes", "expires"})


class TokensInvalid(ValueError):
    """The file of tokens is not one; one line for each thing that is wrong, none with a hash in it."""

    def __init__(self, problems: list[str]) -> None:
        super().__init__("\n".join(problems))
        self.problems = problems


@dataclass(frozen=True, slots=True)
class Token:
    """One token: whose, and by which hash it is known."""

    caller: Caller
    digest: bytes


class Tokens:
    """Every token. `now` gives the time, in UTC."""

    def __init__(self, tokens: Iterable[Token], now: Callable[[], datetime] = lambda: datetime.now(UTC)) -> None:
        self._tokens = tuple(tokens)
        self._now = now

    def caller(self, shown: str) -> Caller:
        """Whose token was shown. Raises TokenMissing, TokenInvalid, TokenExpired.

        Every known hash is compared, each in constant time: how long it takes says nothing about the token.
        """
        if not shown:
            raise TokenMissing
        digest = digest_of(shown)
        found: Token | None = None
        for token in self._tokens:
            if hmac.compare_digest(token.digest, digest):
                found = token
        if found is None or not LEAST_CHARACTERS <= len(shown) <= MOST_CHARACTERS:
            raise TokenInvalid
        end = found.caller.expire_time
        if end is not None and self._now() >= end:
            raise TokenExpired
        return found.caller


def digest_of(token: str) -> bytes:
    """The hash by which a token is known."""
    return hashlib.sha256(token.encode("utf-8", "surrogatepass")).digest()


def load_tokens(path: Path) -> Tokens:
    """The tokens of a file. Raises TokensInvalid with everything that is wrong, OSError."""
    try:
        text = tomllib.loads(path.read_bytes().decode())
    except (tomllib.TOMLDecodeError, UnicodeDecodeError):
        # The library's own words quote the line.
        raise TokensInvalid(["must be TOML: what `ibkr-gateway token create` prints"]) from None
    entries = text.pop("tokens", None)
    if text or not isinstance(entries, dict) or not entries:
        raise TokensInvalid(["must have one table for each token and nothing else: [tokens.NAME]"])
    problems: list[str] = []
    tokens = [_token(name, entry, problems) for name, entry in entries.items()]
    digests = [token.digest for token in tokens if token.digest]
    if len(set(digests)) < len(digests):
        problems.append("has one token under two names")
    if problems:
        raise TokensInvalid(problems)
    return Tokens(tokens)


def _token(name: str, entry: object, problems: list[str]) -> Token:
    """One entry; what is wrong with it is noted."""
    if not _NAME.fullmatch(name):
        problems.append("has a name that is not 1 to 64 of A-Z, a-z, 0-9, _ and -")
        return Token(Caller("", frozenset()), b"")
    fields: Mapping[str, Any] = entry if isinstance(entry, dict) else {}
    if not fields or not fields.keys() <= _KEYS:
        problems.append(f"{name} must have sha256, scopes and, where it ends, expires, and nothing else")
    sha256, scopes = fields.get("sha256"), fields.get("scopes")
    if not isinstance(sha256, str) or not _SHA256.fullmatch(sha256):
        problems.append(f"{name}.sha256 must be the SHA-256 of a token, 64 of 0-9 and a-f; never the token itself")
        sha256 = ""
    if not isinstance(scopes, list) or not scopes or not set(map(str, scopes)) <= set(Scope):
        problems.append(f"{name}.scopes must be a list of {', '.join(Scope)}")
        scopes = []
    end = _expiry(name, fields.get("expires"), problems)
    return Token(Caller(name, frozenset(Scope(scope) for scope in scopes), end), bytes.fromhex(sha256))


def _expiry(name: str, value: object, problems: list[str]) -> datetime | None:
    if value is None:
        return None
    if isinstance(value, datetime) and value.tzinfo is not None:
        return value.astimezone(UTC)
    if isinstance(value, date) and not isinstance(value, datetime):
        return datetime.combine(value, time(), UTC)
    problems.append(f"{name}.expires must be a date, as 2027-01-01, or a time with its zone, as 2027-01-01T12:00:00Z")
    return None
