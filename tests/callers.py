"""Tokens for tests: made, and written down as the operator does it."""

from __future__ import annotations

import hashlib
import secrets
from dataclasses import dataclass, field
from pathlib import Path


@dataclass
class TokenFile:
    """A TOKENS_FILE at a path, its owner's alone."""

    path: Path
    _entries: dict[str, str] = field(default_factory=dict)

    def issue(self, name: str, *scopes: str, expires: str = "") -> str:
        """A new token. A server that has been started already does not know it."""
        token = secrets.token_urlsafe(32)
        listed = ", ".join(f'"{scope}"' for scope in scopes)
        lines = [f"[tokens.{name}]", f'sha256 = "{hashlib.sha256(token.encode()).hexdigest()}"', f"scopes = [{listed}]"]
        self._entries[name] = "\n".join([*lines, *([f"expires = {expires}"] if expires else [])])
        self.path.touch(0o600)
        self.path.write_text("\n".join(self._entries.values()))
        return token
