"""Preview tokens."""

from __future__ import annotations

from collections.abc import Callable
from datetime import datetime


class PreviewTokens:
    def __init__(self, now: Callable[[], datetime], lifetime_s: float = 60.0) -> None:
        self._now = now

    def issue(self, payload_hash: str) -> tuple[str, datetime]:
        return "", self._now()

    def redeem(self, token: str, payload_hash: str, client_order_id: str) -> None:
        return
