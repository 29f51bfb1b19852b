"""Log lines and metrics."""

from __future__ import annotations

import json
import logging
import queue
from collections.abc import Iterator

import pytest
from ibkr_gateway_server import logs
from ibkr_gateway_server.logs import configure_logs, correlation_id, principal, redact
from ibkr_gateway_server.metrics import Metrics, percentile


@pytest.fixture(autouse=True)
def _restore_logging() -> Iterator[None]:
    root = logging.getLogger()
    before = root.handlers[:], root.level
    yield
    root.handlers[:], root.level = before


@pytest.mark.parametrize(
    ("text", "shown"),
    [
        ("account DU1234567 bought", "account DU***567 bought"),
        ("U7654321,F1234567", "U***321,F***567"),
        ("order 1234567", "order 1234567"),
    ],
)
def test_account_numbers_are_cut(text: str, shown: str) -> None:
    assert redact(text) == shown


def test_a_line_is_one_json_object_with_its_fields_its_call_and_caller(capsys: pytest.CaptureFixture[str]) -> None:
    stop = configure_logs()
    token, caller = correlation_id.set("call-7"), principal.set("strategy-a")
    logging.getLogger("x").info("order sent for %s", "DU1234567", extra={"order_id": 17, "account": "DU1234567"})
    correlation_id.reset(token)
    principal.reset(caller)
    stop()
    line = json.loads(capsys.readouterr().err)
    assert line["message"] == "order sent for DU***567"
    assert line["account"] == "DU***567"
    assert (line["order_id"], line["correlation_id"], line["level"]) == (17, "call-7", "INFO")
    assert line["principal"] == "strategy-a"


def test_outside_a_call_a_line_has_no_correlation_id(capsys: pytest.CaptureFixture[str]) -> None:
    stop = configure_logs()
    logging.getLogger("x").warning("quiet")
    stop()
    assert not {"correlation_id", "principal"} & json.loads(capsys.readouterr().err).keys()


def test_text_lines_are_for_people(capsys: pytest.CaptureFixture[str]) -> None:
    stop = configure_logs(form="text")
    logging.getLogger("x").info("order sent", extra={"order_id": 17})
    stop()
    assert capsys.readouterr().err.rstrip().endswith("order sent order_id=17")


def test_the_tws_librarys_own_lines_are_not_written(capsys: pytest.CaptureFixture[str]) -> None:
    stop = configure_logs("DEBUG")
    logging.getLogger("ib_async.client").error("<<< 61,3,DU1234567,…")
    stop()
    assert capsys.readouterr().err == ""


def test_lines_that_nobody_writes_are_counted_rather_than_waited_for(capsys: pytest.CaptureFixture[str]) -> None:
    written, waiting = [], queue.Queue[logging.LogRecord](2)
    hand_over = logs._HandOver(waiting)
    for number in range(5):
        hand_over.emit(logging.makeLogRecord({"msg": f"line {number}"}))
    while not waiting.empty():
        written.append(waiting.get())
    hand_over.emit(logging.makeLogRecord({"msg": "line 5"}))
    assert [record.msg for record in written] == ["line 0", "line 1"]
    assert waiting.get().left_out_count == 3


def test_an_error_is_written_with_where_it_came_from(capsys: pytest.CaptureFixture[str]) -> None:
    stop = configure_logs()
    try:
        raise ValueError("broken")
    except ValueError:
        logging.getLogger("x").exception("failed")
    stop()
    assert "ValueError: broken" in json.loads(capsys.readouterr().err)["exc_info"]


def test_after_the_end_no_line_is_kept_for_a_stream_that_may_be_closed(capsys: pytest.CaptureFixture[str]) -> None:
    configure_logs()()
    assert logging.getLogger().handlers == []
    logging.getLogger("x").info("too late")
    assert capsys.readouterr().err == ""


@pytest.mark.parametrize(("part", "value"), [(0.5, 1.0), (0.75, 1.5), (1.0, 2.0)])
def test_a_percentile_is_interpolated_within_its_bucket(part: float, value: float) -> None:
    assert percentile([(1.0, 2.0), (2.0, 4.0), (float("inf"), 4.0)], part) == pytest.approx(value)


def test_a_percentile_above_the_last_bound_is_that_bound_and_of_nothing_is_none() -> None:
    assert percentile([(1.0, 0.0), (float("inf"), 3.0)], 0.5) == 1.0
    assert percentile([(1.0, 0.0), (float("inf"), 0.0)], 0.5) is None


def test_a_snapshot_has_the_three_groups_under_their_names() -> None:
    metrics = Metrics()
    metrics.api_requests.labels("/a/B", "OK").inc(3)
    metrics.api_request_duration.labels("/a/B").observe(0.003)
    metrics.connection_status.set(1)
    snapshot = metrics.snapshot()
    (counter,) = snapshot.counters
    assert (counter.name, counter.labels, counter.value) == (
        "api_requests_total",
        {"endpoint": "/a/B", "status": "OK"},
        3,
    )
    histogram = next(each for each in snapshot.histograms if each.labels)
    assert (histogram.name, histogram.count) == ("api_request_duration_seconds", 1)
    assert histogram.percentiles[0] is not None
    assert ("ibkr_connection_status", 1.0) in {(gauge.name, gauge.value) for gauge in snapshot.gauges}
