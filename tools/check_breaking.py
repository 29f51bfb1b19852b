"""Checks that the contract breaks no client of the last release; without a release, of the commit before this one.

A published v1 grows by adding only. Needs git's history: in a checkout without it there is nothing to compare with.
"""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path


def main() -> int:
    """Run `buf breaking` against the right commit. Returns its exit code."""
    tags = _git("tag", "--list", "v*", "--sort=-creatordate").split()
    commits = _git("rev-list", "-2", "HEAD", "--", "proto").split()
    against = tags[0] if tags else (commits[-1] if commits else "")
    if not against:
        print("buf breaking: no earlier contract to compare with")
        return 0
    print(f"buf breaking: against {against}")
    buf = Path(sys.executable).parent / "buf"
    return subprocess.run([buf, "breaking", "--against", f".git#ref={against},subdir=proto"], check=False).returncode


def _git(*arguments: str) -> str:
    done = subprocess.run(["git", *arguments], capture_output=True, text=True, check=False)
    return done.stdout.strip()


if __name__ == "__main__":
    sys.exit(main())
