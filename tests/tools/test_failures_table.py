"""The page of failures says what the tests say."""

from __future__ import annotations

import pytest

from tools import failures_table
from tools.failures_table import Row


def row(number: int = 1, test: str = "test_C01_the_port_is_closed") -> Row:
    return Row("C", number, test, "The port is closed.", "UNAVAILABLE.", "../tests/failures/test_connection.py")


def test_a_row_that_is_missing_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(failures_table, "PARTS", {"C": ("Connection", 2)})
    text = failures_table.page([row()], {"test_C01_the_port_is_closed": "passed"})
    assert failures_table.problems([row()], text) == ["no test is named after C02"]


@pytest.mark.parametrize("outcome", ["failed", "not run"])
def test_a_test_that_did_not_pass_is_named(outcome: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(failures_table, "PARTS", {"C": ("Connection", 1)})
    text = failures_table.page([row()], {"test_C01_the_port_is_closed": outcome})
    assert failures_table.problems([row()], text) == ["test_C01_the_port_is_closed is not on the page as it passed"]


def test_a_row_without_a_test_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(failures_table, "PARTS", {"C": ("Connection", 1)})
    text = failures_table.page([row(), row(1, "test_C01_gone")], {})
    assert "test_C01_gone is on the page and is no test" in failures_table.problems([row()], text)


def test_every_failure_of_the_catalogue_has_a_row_that_passed() -> None:
    text = failures_table.PAGE.read_text()
    assert failures_table.problems(failures_table.rows(), text) == [], "run `make failures`"
