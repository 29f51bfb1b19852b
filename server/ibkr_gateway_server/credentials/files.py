"""Whether a file is one that only its owner can have made and can change."""

from __future__ import annotations

import os
import stat
from pathlib import Path

# Permissions of the group and of everyone else.
_OTHERS = stat.S_IRWXG | stat.S_IRWXO


def exposure(path: Path) -> str | None:
    """Why a file must not be trusted; None: it is there, and it is this user's (or root's) alone.

    The path itself is looked at, not what a link leads to: who can change the link decides what is read.
    """
    try:
        found = path.lstat()
    except OSError:
        return "must name a file that is there"
    if stat.S_ISLNK(found.st_mode):
        return "must be the file itself, not a link to it"
    if not stat.S_ISREG(found.st_mode):
        return "must be a file"
    if found.st_uid not in (os.geteuid(), 0):
        return "must belong to the user who runs the server"
    if found.st_mode & _OTHERS:
        return "must be its owner's alone: chmod 600"
    return None


def override_problem(path: Path, max_age_h: float | None, now: float) -> str | None:
    """Why the file that allows live orders does not count; None: it does. `now` in seconds since 1970."""
    if found := exposure(path):
        return found
    if max_age_h is not None and now - path.lstat().st_mtime > max_age_h * 3600:
        return f"is older than LIVE_OVERRIDE_MAX_AGE of {max_age_h:g} h: go through the safety checklist, then touch it"
    return None
