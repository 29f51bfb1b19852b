"""Reading a table of a TOML file key by key: what is wrong is named by its place."""

from __future__ import annotations

from datetime import UTC, datetime
from typing import Any


class WrongScenario(ValueError):
    """A scenario that cannot be played; the text names the place."""


class Table:
    """One table of a file: every key is read once, and none is left."""

    def __init__(self, values: dict[str, Any], place: str) -> None:
        self._values = dict(values)
        self.place = place

    def wrong(self, key: str, why: str) -> WrongScenario:
        return WrongScenario(f"{self.place}: {key}: {why}")

    def has(self, key: str) -> bool:
        return key in self._values

    def text(self, key: str, default: str | None = None) -> str:
        found = self._take(key, default)
        if not isinstance(found, str) or "\0" in found:
            raise self.wrong(key, f"{found!r} is not a text")
        return found

    def number(self, key: str, default: float | None = None, *, low: float = -1e12, high: float = 1e12) -> float:
        found = self._take(key, default)
        if isinstance(found, bool) or not isinstance(found, int | float) or not low <= found <= high:
            raise self.wrong(key, f"{found!r} is not a number from {low:g} to {high:g}")
        return float(found)

    def text_of_number(self, key: str) -> str:
        """A text that may be written as a number; "" when there is none."""
        found = self._values.get(key)
        if isinstance(found, int | float) and not isinstance(found, bool):
            self._values[key] = str(found)
        return self.text(key, "")

    def number_or_none(self, key: str, *, low: float = -1e12, high: float = 1e12) -> float | None:
        return self.number(key, low=low, high=high) if self.has(key) else None

    def integer(self, key: str, default: int | None = None, *, low: int = -(1 << 53), high: int = 1 << 53) -> int:
        found = self._take(key, default)
        if isinstance(found, bool) or not isinstance(found, int) or not low <= found <= high:
            raise self.wrong(key, f"{found!r} is not a whole number from {low} to {high}")
        return found

    def flag(self, key: str) -> bool:
        found = self._take(key, None)
        if not isinstance(found, bool):
            raise self.wrong(key, f"{found!r} is neither true nor false")
        return found

    def choice(self, key: str, choices: dict[str, Any]) -> Any:
        found = self.text(key)
        if found not in choices:
            raise self.wrong(key, f"{found!r} is none of {', '.join(choices)}")
        return choices[found]

    def texts(self, key: str) -> tuple[str, ...]:
        found = self._take(key, None)
        if not isinstance(found, list) or not found or not all(isinstance(each, str) and each for each in found):
            raise self.wrong(key, "it is not a list of texts")
        return tuple(found)

    def table(self, key: str) -> dict[str, Any]:
        found = self._take(key, None)
        if not isinstance(found, dict):
            raise self.wrong(key, "it is not a table")
        return found

    def tables(self, key: str) -> list[dict[str, Any]]:
        found = self._take(key, [])
        if not isinstance(found, list) or not all(isinstance(each, dict) for each in found):
            raise self.wrong(key, f"write [[{key}]] above each")
        return found

    def moment(self, key: str) -> float:
        found = self._take(key, None)
        if not isinstance(found, datetime) or not 2005 <= found.year <= 2099:
            raise self.wrong(key, "it is not a time, as 2026-11-23T15:00:00Z")
        return (found if found.tzinfo else found.replace(tzinfo=UTC)).timestamp()

    def end(self) -> None:
        """Raises WrongScenario when a key is left that means nothing here."""
        if self._values:
            key = next(iter(self._values))
            raise self.wrong(key, "there is no such key here")

    def _take(self, key: str, default: Any) -> Any:
        if key not in self._values:
            if default is None:
                raise self.wrong(key, "it is missing")
            return default
        return self._values.pop(key)
