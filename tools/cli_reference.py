"""Write docs/cli.md: a line and an example for every command, from the command line itself.

`make docs` runs it. A test fails when the page is not as this would write it.
"""

from __future__ import annotations

from pathlib import Path

from ibkr_gateway_cli.__main__ import app
from ibkr_gateway_cli.examples import EXAMPLES, commands_of, summary_of
from ibkr_gateway_cli.session import EXIT_CODES

PAGE = Path(__file__).resolve().parents[1] / "docs" / "cli.md"

HEAD = """# The command line

Every command, with an example. `ibkr-gateway COMMAND --help` has all options. This page is written by `make docs` from
the commands themselves.

Before or behind any command but `serve`, `start-api` and `simulate`: `--json` (one object a line, errors on stderr in
the same form), and `--paper` or `--live` (refused with 4, and nothing asked, when the server is in the other mode; a
simulation passes for paper). Before the command: `--host`, `--port`, `--token-file`, `--tls-ca`, `--tls-cert`,
`--tls-key`.

Data goes to stdout, talk and questions to stderr. A command that would ask does nothing without a terminal: it ends
with 2 and says to give `--yes`. `ibkr-gateway --install-completion` has the shell complete commands and options.
"""


def page() -> str:
    """The whole page."""
    parts = [HEAD]
    for name, command in commands_of(app):
        parts.append(f"## {name}\n\n{summary_of(command)}\n\n```console\n$ ibkr-gateway {EXAMPLES[name]}\n```\n")
    rows = "".join(f"| {code} | {meaning} |\n" for code, meaning in EXIT_CODES.items())
    parts.append(f"## Exit codes\n\n| exit code | meaning |\n|---|---|\n{rows}")
    return "\n".join(parts)


def main() -> None:
    """Write the page."""
    PAGE.write_text(page())


if __name__ == "__main__":
    main()
