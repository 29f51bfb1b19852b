"""Books, profit, metrics, charts and whatever is followed: on a terminal, in a pipe, as JSON, and how they fail."""

from __future__ import annotations

import io
import os
import signal
import sys
from collections.abc import Callable, Iterator
from contextlib import ExitStack, closing
from pathlib import Path

import pytest
from ibkr_gateway import connect_sync
from ibkr_gateway.v1 import account_service_pb2 as account_pb
from ibkr_gateway.v1 import common_pb2
from ibkr_gateway.v1 import gateway_service_pb2 as gateway_pb
from ibkr_gateway.v1 import market_data_service_pb2 as market_pb
from ibkr_gateway.v1 import simulation_service_pb2 as simulation_pb
from ibkr_gateway_cli.__main__ import with_kind_of_plot
from ibkr_gateway_cli.account_views import PnlView, PositionsView
from ibkr_gateway_cli.figures import metrics_tables
from ibkr_gateway_cli.market_views import DepthView, QuotesView
from ibkr_gateway_cli.plots import with_gaps
from rich.console import Console, RenderableType

from tests.cli.conftest import Run, command, lines
from tools.terminal import OnTerminal, Screen, on_terminal

Show = Callable[..., OnTerminal]


@pytest.fixture
def show(address: str, tmp_path: Path) -> Iterator[Show]:
    """Starts a command on a terminal of its own."""
    port = address.rpartition(":")[2]
    with ExitStack() as stack:

        def start(*arguments: str, columns: int = 80, rows: int = 24) -> OnTerminal:
            started = on_terminal(
                (sys.executable, "-m", "ibkr_gateway_cli", "--port", port, *arguments),
                cwd=tmp_path,
                environment={"PATH": os.environ["PATH"], "HOME": str(tmp_path), "LANG": "C.UTF-8"},
                columns=columns,
                rows=rows,
            )
            return stack.enter_context(closing(started))

        yield start


def text_of(shown: RenderableType, width: int = 100) -> str:
    """What is shown on a terminal of this width."""
    out = Console(width=width, file=io.StringIO())
    with out.capture() as captured:
        out.print(shown)
    return captured.get()


# On a terminal.


@pytest.mark.parametrize(
    ("arguments", "once"),
    [
        (("quote", "AAPL", "MES:FUT", "--watch"), "MESZ6"),
        (("depth", "AAPL", "--watch"), "Depth of AAPL"),
        (("pnl", "--watch"), "Profit and loss"),
        (("metrics", "--watch", "--interval", "0.1"), "IBKR's operations"),
    ],
)
def test_a_live_view_is_redrawn_in_place_and_leaves_the_cursor(
    show: Show, arguments: tuple[str, ...], once: str
) -> None:
    shown = show(*arguments, "--count", "4", columns=100, rows=60)
    assert shown.read_to_the_end() == 0
    assert shown.screen.moves_up > 0
    assert shown.screen.text.count(once) == 1
    assert shown.screen.has_cursor


def test_positions_that_are_followed_are_one_table(show: Show) -> None:
    shown = show("positions", "--watch", "--count", "3", columns=100)
    assert shown.read_to_the_end() == 0
    assert [shown.screen.text.count(name) for name in ("AAPL", "MESZ6", "SPY")] == [1, 1, 1]


@pytest.mark.parametrize("columns", [80, 100, 120, 160])
def test_quotes_that_are_followed_fit_the_terminal_with_a_trend_and_nothing_cut(show: Show, columns: int) -> None:
    shown = show("quote", "AAPL", "MES:FUT", "--watch", "--count", "30", columns=columns)
    assert shown.read_to_the_end() == 0
    assert "…" not in shown.screen.text
    assert all(len(line) <= columns for line in shown.screen.lines)
    assert all(set(row) & set("▁▂▃▄▅▆▇█") for row in shown.screen.lines if row.startswith("  MESZ6"))


@pytest.mark.parametrize("name", ["quote", "depth", "pnl", "positions", "metrics"])
def test_ctrl_c_ends_a_live_view_with_130_and_leaves_it_on_the_screen(show: Show, name: str) -> None:
    arguments = {"quote": ("AAPL",), "depth": ("AAPL",)}.get(name, ())
    shown = show(name, *arguments, "--watch", columns=100, rows=60)
    shown.read_until(lambda screen: "AAPL" in screen.text or "Requests" in screen.text)
    shown.process.send_signal(signal.SIGINT)
    assert shown.read_to_the_end() == 130
    assert "Traceback" not in shown.screen.text
    assert "AAPL" in shown.screen.text or "Requests" in shown.screen.text
    assert shown.screen.has_cursor


def test_quotes_that_are_followed_say_that_the_broker_is_away_and_go_on_when_it_is_back(
    show: Show, address: str
) -> None:
    shown = show("quote", "AAPL", "--watch")
    shown.read_until(lambda screen: " live" in screen.text)
    with connect_sync(address) as gateway:
        gateway.simulation.InjectFault(simulation_pb.InjectFaultRequest(fault=simulation_pb.FAULT_DISCONNECT))
    shown.read_until(lambda screen: "AAPL: gap: BROKER_DISCONNECTED" in screen.text)
    assert "260." in shown.screen.text
    shown.read_until(lambda screen: " live" in screen.text and "gap" not in screen.text)


@pytest.mark.parametrize("kind", ["candles", "line"])
def test_a_chart_fits_the_terminal(show: Show, kind: str) -> None:
    shown = show("bars", "AAPL", "--duration", "1 Y", "--plot", kind, columns=90, rows=24)
    assert shown.read_to_the_end() == 0
    assert 60 <= max(map(len, shown.screen.lines[1:])) <= 90
    assert len(shown.screen.lines) <= 20
    assert ("each of 4 bars" in shown.screen.text) is (kind == "candles")


# In a pipe.


def test_bars_are_drawn_as_candles_unless_a_line_is_asked_for(run: Run) -> None:
    drawn = run("bars", "AAPL", "--plot")
    assert drawn.returncode == 0, drawn.stderr
    assert "┃ rose  █ fell" in drawn.stdout
    assert drawn.stdout == run("bars", "AAPL", "--plot", "candles").stdout
    straight = run("bars", "AAPL", "--plot", "line", "--width", "60").stdout
    assert "rose" not in straight
    assert max(map(len, straight.splitlines())) <= 60
    assert len(lines(run("bars", "AAPL", "--plot", "--json"))) >= 19


def test_a_kind_of_chart_that_does_not_exist_is_refused_by_name(run: Run) -> None:
    done = run("bars", "AAPL", "--plot=pie")
    assert done.returncode == 2
    assert "candles nor line" in done.stderr


def test_plot_alone_means_candles_wherever_it_stands() -> None:
    assert with_kind_of_plot(["bars", "AAPL", "--plot"]) == ["bars", "AAPL", "--plot", "candles"]
    assert with_kind_of_plot(["bars", "--plot", "AAPL"]) == ["bars", "--plot", "candles", "AAPL"]
    assert with_kind_of_plot(["bars", "AAPL", "--plot", "line"]) == ["bars", "AAPL", "--plot", "line"]


def test_a_book_has_as_many_rows_as_asked_for_and_bids_below_asks(run: Run) -> None:
    done = run("depth", "AAPL", "--rows", "3")
    assert done.returncode == 0, done.stderr
    assert len([row for row in done.stdout.splitlines() if "260." in row]) == 3
    (book,) = lines(run("depth", "AAPL", "--json"))
    assert len(book["bids"]) == len(book["asks"]) == 5  # type: ignore[arg-type]
    assert book["bids"][0]["price"] < book["asks"][0]["price"]  # type: ignore[index]


def test_profit_is_shown_by_position_and_of_the_account(run: Run) -> None:
    done = run("pnl")
    assert done.returncode == 0, done.stderr
    assert all(name in done.stdout for name in ("AAPL", "MESZ6", "SPY", "account", "unrealized"))
    (pnl,) = lines(run("pnl", "--json"))
    assert {detail["instrument"]["symbol"] for detail in pnl["details"]} == {"AAPL", "MES", "SPY"}  # type: ignore[attr-defined]


def test_metrics_are_grouped_and_without_zeros_unless_all_are_asked_for(run: Run) -> None:
    run("account")
    some, everything = run("metrics").stdout, run("metrics", "--all").stdout
    assert "AccountService/GetAccountSummary" in some
    assert "session_state READY" in some
    assert "sentinels_total" not in some
    assert "sentinels_total" in everything
    (answer,) = lines(run("metrics", "--json"))
    assert any(counter["name"] == "api_requests_total" for counter in answer["counters"])  # type: ignore[attr-defined]
    assert len(lines(run("metrics", "--watch", "--interval", "0.1", "--count", "2", "--json"))) == 2


@pytest.mark.parametrize(
    ("arguments", "kind"),
    [
        (("quote", "AAPL"), "quote"),
        (("depth", "AAPL"), "depth"),
        (("pnl",), "pnl"),
        (("positions",), "position"),
    ],
)
def test_what_is_followed_in_a_pipe_is_a_line_a_change_or_an_object_an_event(
    run: Run, arguments: tuple[str, ...], kind: str
) -> None:
    done = run(*arguments, "--watch", "--count", "3")
    assert done.returncode == 0, done.stderr
    assert "\x1b" not in done.stdout
    assert len(done.stdout.splitlines()) >= 3
    events = lines(run(*arguments, "--watch", "--count", "3", "--json"))
    assert sum(kind in event for event in events) >= 3


# When it fails.


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (("depth", "AAPLL"), "CONTRACT_NOT_FOUND"),
        (("depth", "AAPLL", "--watch"), "CONTRACT_NOT_FOUND"),
        (("bars", "AAPLL", "--plot"), "CONTRACT_NOT_FOUND"),
        (("pnl", "--account", "U7654321"), "ACCOUNT_NOT_FOUND"),
        (("pnl", "--account", "U7654321", "--watch"), "ACCOUNT_NOT_FOUND"),
        (("positions", "--account", "U7654321", "--watch"), "ACCOUNT_NOT_FOUND"),
    ],
)
def test_what_is_not_there_is_named_and_ends_with_6(run: Run, arguments: tuple[str, ...], said: str) -> None:
    done = run(*arguments)
    assert done.returncode == 6
    assert said in done.stderr
    assert "Traceback" not in done.stderr


def test_quotes_of_nothing_known_are_not_followed_for_ever(run: Run) -> None:
    done = run("quote", "AAPLL", "--watch")
    assert done.returncode == 6
    assert "AAPLL" in done.stdout


@pytest.mark.parametrize(
    "arguments",
    [
        ("quote", "AAPL", "--watch"),
        ("depth", "AAPL"),
        ("pnl", "--watch"),
        ("positions", "--watch"),
        ("metrics",),
        ("metrics", "--watch"),
        ("bars", "AAPL", "--plot"),
    ],
)
def test_without_a_server_every_view_says_how_to_start_one(
    arguments: tuple[str, ...], tmp_path: Path, unused_tcp_port: int
) -> None:
    done = command("--port", str(unused_tcp_port), *arguments, cwd=tmp_path)
    assert done.returncode == 3
    assert "serve --mode simulation" in " ".join(done.stderr.split())
    assert "Traceback" not in done.stderr


# What a stream says of itself.


def quote(price: float, index: int = 0) -> market_pb.QuoteEvent:
    """An event with a last price."""
    instrument = common_pb2.Instrument(symbol="AAPL")
    return market_pb.QuoteEvent(
        instrument_index=index, quote=market_pb.Quote(instrument=instrument, last_price=price, is_stale=False)
    )


def test_a_gap_and_a_stale_quote_are_told_until_the_next_quote_and_break_the_trend() -> None:
    view = QuotesView(["AAPL"])
    assert view.take(quote(1.0))
    assert not view.take(market_pb.QuoteEvent(gap=common_pb2.Gap(reason="BROKER_DISCONNECTED")))
    shown = text_of(view.screen(80), 80)
    assert "AAPL: gap: BROKER_DISCONNECTED" in shown
    assert "1.00" in shown
    assert "…" not in shown
    view.take(market_pb.QuoteEvent(resumed=common_pb2.Resumed()))
    assert "resumed" in text_of(view.screen(100))
    view.take(quote(2.0))
    assert "▁ █" in text_of(view.screen(100))
    assert "gap" not in text_of(view.screen(100))
    stale = market_pb.QuoteEvent(stale=common_pb2.Stale(reason="NO_TICKS"))
    view.take(stale)
    assert "stale: NO_TICKS" in text_of(view.screen(100))
    assert view.line(stale) == "AAPL  stale: NO_TICKS"


def test_what_the_stream_says_as_a_whole_is_said_of_every_instrument() -> None:
    view = QuotesView(["AAPL", "MSFT"])
    view.take(market_pb.QuoteEvent(instrument_index=-1, draining=common_pb2.Draining()))
    assert "AAPL, MSFT: the server is stopping" in text_of(view.screen(80), 80)


def test_a_book_after_a_gap_is_not_shown_as_if_it_were_known() -> None:
    view = DepthView("AAPL", 2)
    rows = [market_pb.DepthRow(price=1.5, size=100)]
    view.take(market_pb.MarketDepthEvent(depth=market_pb.MarketDepth(bids=rows)))
    assert "gap" not in text_of(view.screen(80))
    view.take(market_pb.MarketDepthEvent(gap=common_pb2.Gap(reason="BOOK_RESET")))
    assert "gap: BOOK_RESET" in text_of(view.screen(80))
    view.take(market_pb.MarketDepthEvent(depth=market_pb.MarketDepth()))
    assert "gap" not in text_of(view.screen(80))
    assert "1.50" not in text_of(view.screen(80))


def test_profit_says_that_it_waits_and_that_it_is_stale() -> None:
    view = PnlView()
    assert "waiting" in text_of(view.screen(80))
    stale = account_pb.PnlEvent(pnl=account_pb.AccountPnl(account_id="DU1", daily_pnl="-12.5", is_stale=True))
    view.take(stale)
    assert "stale" in text_of(view.screen(80))
    assert "-12.50" in view.line(stale)
    assert view.line(stale).endswith("stale")


def position(con_id: int, quantity: str) -> account_pb.PositionEvent:
    """An event with a position."""
    instrument = common_pb2.Instrument(con_id=con_id, symbol=f"S{con_id}")
    return account_pb.PositionEvent(position=account_pb.Position(instrument=instrument, quantity=quantity))


def test_a_closed_position_disappears_and_a_snapshot_begins_anew() -> None:
    view = PositionsView()
    view.take(account_pb.PositionEvent(snapshot_begin=common_pb2.SnapshotBegin()))
    assert "waiting" in text_of(view.screen(100))
    for event in (position(1, "5"), position(2, "-3")):
        assert view.take(event)
    view.take(account_pb.PositionEvent(snapshot_end=common_pb2.SnapshotEnd()))
    assert "waiting" not in text_of(view.screen(100))
    view.take(position(1, "0"))
    assert "S1" not in text_of(view.screen(100))
    view.take(account_pb.PositionEvent(gap=common_pb2.Gap(reason="BROKER_LINK_DOWN")))
    assert "S2" in text_of(view.screen(100))
    assert "gap: BROKER_LINK_DOWN" in text_of(view.screen(100))
    view.take(account_pb.PositionEvent(snapshot_begin=common_pb2.SnapshotBegin()))
    assert "S2" not in text_of(view.screen(100))


def test_a_night_between_bars_is_an_empty_place_and_a_short_first_bar_is_none() -> None:
    bars = []
    for hour in (14.5, 15, 16, 17, 38.5, 39, 40):
        bar = market_pb.Bar(open=1, high=1, low=1, close=1)
        bar.start_time.FromSeconds(round(1_795_500_000 // 86_400 * 86_400 + hour * 3600))
        bars.append(bar)
    assert [candle is None for candle in with_gaps(bars)] == [False] * 4 + [True] + [False] * 3
    days = [market_pb.Bar(date=f"2026-11-{day}", open=1, high=1, low=1, close=1) for day in (26, 27, 30)]
    assert [candle.label if candle else "" for candle in with_gaps(days)] == ["11-26", "11-27", "11-30"]


def test_requests_that_did_not_end_well_are_told_with_their_status() -> None:
    labels = {"endpoint": "/ibkr_gateway.v1.MarketDataService/GetQuote"}
    counters = [
        gateway_pb.CounterMetric(name="api_requests_total", labels={**labels, "status": status}, value=value)
        for status, value in (("OK", 3.0), ("NOT_FOUND", 2.0))
    ]
    times = gateway_pb.HistogramMetric(name="api_request_duration_seconds", labels=labels, value_count=5, p50=0.0125)
    answer = gateway_pb.GetMetricsResponse(counters=counters, histograms=[times])
    (row,) = [row for row in text_of(metrics_tables(answer, show_all=False)).splitlines() if "GetQuote" in row]
    assert row.split() == ["MarketDataService/GetQuote", "5", "12.5", "-", "-", "NOT_FOUND", "2"]


# The terminal that this is looked at with.


def test_the_screen_has_what_was_written_over_and_refuses_what_it_does_not_know() -> None:
    screen = Screen(columns=10, rows=3)
    screen.feed("one\r\ntwo\x1b[")
    screen.feed("1A\r\x1b[2K\x1b[1;31mnew\x1b[0m\r\n\x1b[?25l")
    assert screen.lines == ["new", "two"]
    assert not screen.has_cursor
    with pytest.raises(ValueError):
        screen.feed("\x1b[5B")
