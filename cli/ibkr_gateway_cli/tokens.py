"""Tokens: made here, known to the server by their hashes alone."""

from __future__ import annotations

import hashlib
import json
import os
import re
import secrets
from datetime import date
from enum import StrEnum
from pathlib import Path
from typing import Annotated

import typer

from ibkr_gateway_cli.session import USAGE, Options, console

TOKEN_BYTES = 32

_NAME = re.compile(r"[A-Za-z0-9_-]{1,64}", re.ASCII)

tokens = typer.Typer(no_args_is_help=True, help="Make tokens that callers show the server.")


class Scope(StrEnum):
    """What a token allows; none contains another."""

    READ = "read"
    PREVIEW = "preview"
    TRADE = "trade"
    ADMIN = "admin"


ScopeOption = Annotated[
    list[Scope], typer.Option("--scope", help="What it allows; repeat it. read, preview, trade and admin are apart.")
]
ExpiresOption = Annotated[str, typer.Option("--expires", metavar="YYYY-MM-DD", help="First day (UTC) it is refused.")]
OutOption = Annotated[Path | None, typer.Option("--out", help="Write the token to this new file (mode 600) instead.")]


@tokens.command()
def create(
    context: typer.Context,
    name: Annotated[str, typer.Argument(help="Whose it is, as the record and the log will have it.")],
    scopes: ScopeOption,
    expires: ExpiresOption = "",
    out: OutOption = None,
) -> None:
    """Make a token. Shows it this once, and the lines for the server's TOKENS_FILE, which hold its hash only."""
    options: Options = context.obj
    if problem := _problem(name, expires):
        console(to_stderr=True).print(problem, markup=False)
        raise typer.Exit(USAGE)
    token = secrets.token_urlsafe(TOKEN_BYTES)
    if out is not None:
        _write(out, token)
    lines = _lines(name, token, scopes, expires)
    if options.as_json:
        shown = {} if out is not None else {"token": token}
        print(json.dumps({"name": name, **shown, "toml": lines}))
        return
    told = console(to_stderr=True)
    if out is None:
        told.print("The token, which is shown this once:", markup=False)
        print(token)
    told.print("For the file that TOKENS_FILE names (chmod 600), used after a restart of the server:", markup=False)
    print(lines, end="")


def _lines(name: str, token: str, scopes: list[Scope], expires: str) -> str:
    """One entry of the server's file."""
    listed = ", ".join(f'"{scope}"' for scope in dict.fromkeys(scopes))
    lines = [f"[tokens.{name}]", f'sha256 = "{hashlib.sha256(token.encode()).hexdigest()}"', f"scopes = [{listed}]"]
    return "\n".join([*lines, *([f"expires = {expires}"] if expires else [])]) + "\n"


def _problem(name: str, expires: str) -> str | None:
    if not _NAME.fullmatch(name):
        return "a name is 1 to 64 of A-Z, a-z, 0-9, _ and -"
    try:
        if expires and date.fromisoformat(expires).isoformat() != expires:
            raise ValueError
    except ValueError:
        return f"{expires} is no date; write it as 2027-01-31"
    return None


def _write(path: Path, token: str) -> None:
    """A new file that is its owner's alone from its first moment on."""
    try:
        descriptor = os.open(path, os.O_CREAT | os.O_EXCL | os.O_WRONLY, 0o600)
    except OSError as error:
        console(to_stderr=True).print(f"{path} cannot be made: {error.strerror}", markup=False)
        raise typer.Exit(USAGE) from None
    with os.fdopen(descriptor, "w") as file:
        file.write(f"{token}\n")
