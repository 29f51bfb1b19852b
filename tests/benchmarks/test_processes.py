"""The processes of a measurement: they are there while they are needed, and what goes wrong in one is told."""

from __future__ import annotations

import pytest

from benchmarks.processes import firehose, server, watched


def test_a_firehose_says_how_many_ticks_it_has_sent_and_ends_with_its_measurement() -> None:
    with firehose(1000.0) as started:
        assert started.port
        # Nobody has subscribed.
        assert started.sent() == 0
        assert started.process.poll() is None
    assert started.process.poll() == 0


def test_a_server_that_does_not_start_is_told_with_what_it_said() -> None:
    with (
        pytest.raises(RuntimeError, match=r"(?s)benchmarks.nothing did not start.*No module named"),
        server(set(), "benchmarks.nothing"),
    ):
        raise AssertionError("it cannot have started")


def test_a_client_that_fails_is_told_with_what_it_said() -> None:
    with pytest.raises(RuntimeError, match=r"(?s)readers failed.*invalid choice: 'telegraph'"):
        watched("readers", "telegraph", 1)
