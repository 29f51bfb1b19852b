"""The file of tokens, and who is behind each."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest
from ibkr_gateway_server.credentials.tokens import Token, Tokens, TokensInvalid, digest_of, load_tokens
from ibkr_gateway_server.domain.errors import ScopeMissing, TokenExpired, TokenInvalid, TokenMissing
from ibkr_gateway_server.domain.scopes import Caller, Scope

TOKEN = "a" * 43
HASH = digest_of(TOKEN).hex()
ENTRY = f'[tokens.bot]\nsha256 = "{HASH}"\nscopes = ["read", "trade"]\n'


def loaded(folder: Path, text: str) -> Tokens:
    path = folder / "tokens.toml"
    path.write_text(text)
    return load_tokens(path)


def test_a_token_is_known_by_its_hash_with_its_name_and_scopes(tmp_path: Path) -> None:
    caller = loaded(tmp_path, ENTRY).caller(TOKEN)
    assert caller == Caller("bot", frozenset({Scope.READ, Scope.TRADE}))
    caller.require(Scope.TRADE)
    with pytest.raises(ScopeMissing) as refused:
        caller.require(Scope.ADMIN)
    assert refused.value.scope == "admin"


@pytest.mark.parametrize("shown", ["b" * 43, HASH, TOKEN + " ", "ß" * 43, "\udcff" * 43, "x" * 10_000])
def test_anything_else_is_not_known(tmp_path: Path, shown: str) -> None:
    with pytest.raises(TokenInvalid):
        loaded(tmp_path, ENTRY).caller(shown)


def test_no_token_is_missing(tmp_path: Path) -> None:
    with pytest.raises(TokenMissing):
        loaded(tmp_path, ENTRY).caller("")


def test_a_short_token_is_not_accepted_whatever_its_hash(tmp_path: Path) -> None:
    tokens = loaded(tmp_path, ENTRY.replace(HASH, digest_of("s" * 31).hex()))
    with pytest.raises(TokenInvalid):
        tokens.caller("s" * 31)


def test_a_token_is_refused_from_its_last_moment_on() -> None:
    end = datetime(2027, 1, 1, tzinfo=UTC)
    now = end - timedelta(microseconds=1)
    owner = Caller("bot", frozenset(Scope), end)
    tokens = Tokens([Token(owner, digest_of(TOKEN))], lambda: now)
    assert tokens.caller(TOKEN) is owner
    now = end
    with pytest.raises(TokenExpired):
        tokens.caller(TOKEN)


@pytest.mark.parametrize("expires", ["2026-01-01", "2026-01-01T00:00:00Z", "2026-01-01T02:00:00+02:00"])
def test_the_end_is_a_date_or_a_time_with_its_zone(tmp_path: Path, expires: str) -> None:
    with pytest.raises(TokenExpired):
        loaded(tmp_path, f"{ENTRY}expires = {expires}\n").caller(TOKEN)


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("", "one table for each token"),
        ("tokens = 1", "one table for each token"),
        ("token = {}", "one table for each token"),
        ("[tokens]", "one table for each token"),
        ("not toml", "must be TOML"),
        (f"other = 1\n{ENTRY}", "nothing else"),
        (ENTRY.replace(HASH, TOKEN), "bot.sha256 must be the SHA-256"),
        (ENTRY.replace(HASH, HASH.upper()), "bot.sha256 must be the SHA-256"),
        (ENTRY.replace('"trade"', '"root"'), "bot.scopes must be a list of read, preview, trade, admin"),
        (ENTRY.replace('"read", "trade"', ""), "bot.scopes must be a list"),
        (f"{ENTRY}limit = 1\n", "bot must have sha256, scopes"),
        ("[tokens]\nbot = 1\n", "bot must have sha256, scopes"),
        (f"{ENTRY}expires = 2027-01-01T00:00:00\n", "bot.expires must be a date"),
        (f'{ENTRY}expires = "soon"\n', "bot.expires must be a date"),
        (ENTRY.replace("bot", '"a b"'), "has a name that is not"),
        (ENTRY + ENTRY.replace("bot", "other"), "has one token under two names"),
    ],
)
def test_a_file_that_is_wrong_says_where_and_repeats_nothing(tmp_path: Path, text: str, said: str) -> None:
    with pytest.raises(TokensInvalid) as refused:
        loaded(tmp_path, text)
    assert said in str(refused.value)
    assert TOKEN not in str(refused.value)
    assert HASH not in str(refused.value).lower()
