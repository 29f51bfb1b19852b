"""Files of settings that were changed while the gateway runs: it says so, and goes on as it was started.

No setting is read again. A limit that is raised, a token that is added or taken away, another certificate count from
the next start on; until then the difference is told, so that nobody believes otherwise.
"""

from __future__ import annotations

import asyncio
import hashlib
import logging
from collections.abc import Callable, Mapping
from pathlib import Path

log = logging.getLogger(__name__)

LOOK_S = 1.0


class SettingsWatch:
    """Looks at files by what is in them. `tell` gets how many differ from what the gateway was started with."""

    def __init__(self, files: Mapping[str, Path], tell: Callable[[int], object]) -> None:
        self._files = dict(files)
        self._tell = tell
        self._used = {name: _content(path) for name, path in self._files.items()}
        self._changed: frozenset[str] = frozenset()

    def look(self) -> frozenset[str]:
        """Names of the files that differ now; each is logged when it begins to, and when it is as before again."""
        changed = frozenset(name for name, path in self._files.items() if _content(path) != self._used[name])
        for name in sorted(changed - self._changed):
            log.warning("settings were changed and are not used before a restart", extra={"changed": name})
        for name in sorted(self._changed - changed):
            log.info("settings are again those that the gateway was started with", extra={"changed": name})
        if changed != self._changed:
            self._tell(len(changed))
        self._changed = changed
        return changed

    async def run(self) -> None:
        """Look, until cancelled."""
        while True:
            self.look()
            await asyncio.sleep(LOOK_S)


def _content(path: Path) -> bytes:
    """What stands for a file's content; empty when it is not there or cannot be read."""
    try:
        return hashlib.sha256(path.read_bytes()).digest()
    except OSError:
        return b""
