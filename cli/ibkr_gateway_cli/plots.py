"""Bars as a chart for people: which bars, drawn, and what the signs mean."""

from __future__ import annotations

from collections.abc import Sequence
from itertools import pairwise
from statistics import median_low

from ibkr_gateway.v1 import market_data_service_pb2 as pb
from rich.text import Text

from ibkr_gateway_cli.charts import FELL, ROSE, Candle, bars_in_each, candles, line, price_rows
from ibkr_gateway_cli.render import cents, name_of, start_of

# With the title and the legend it fits the 24 lines of the smallest terminal.
CHART_ROWS = 18


def bars_plot(answer: pb.GetHistoricalBarsResponse, kind: str, width: int) -> Text:
    """Bars as `candles` or as a `line` of their closing prices, at most `width` columns wide."""
    drawn = with_gaps(answer.bars)
    title = Text(_title(answer, width), style="bold")
    if kind == "line":
        known = [None if candle is None else candle.close for candle in drawn]
        labels = ["" if candle is None else candle.label for candle in drawn]
        return Text("\n").join([title, *map(Text, line(known, width, CHART_ROWS, labels))])
    rows = candles(drawn, width, CHART_ROWS)
    prices = price_rows(drawn, CHART_ROWS)
    each = bars_in_each(drawn, width, CHART_ROWS)
    legend = Text(f"{ROSE[0]} rose  {FELL[0]} fell" + (f"  each of {each} bars" if each > 1 else ""))
    return Text("\n").join(
        [title, *map(_coloured, rows[:prices]), *(Text(row, style="dim") for row in rows[prices:]), _coloured(legend)]
    )


def with_gaps(bars: Sequence[pb.Bar]) -> list[Candle | None]:
    """Bars as candles, with an empty place where bars of a part of a day are further apart than usual: a night.

    Bars are as far apart as most are: the first of a day is shorter where the market opens within it.
    """
    starts = [bar.start_time.ToDatetime() for bar in bars if bar.HasField("start_time")]
    if len(starts) < len(bars):
        return [_candle(bar, start_of(bar)[5:]) for bar in bars]
    usual = median_low([after - before for before, after in pairwise(starts)]) if len(starts) > 1 else None
    made: list[Candle | None] = []
    before = None
    for bar, start in zip(bars, starts, strict=True):
        if before is not None and usual is not None and start - before > usual:
            made.append(None)
        is_new_day = before is None or start.date() != before.date()
        made.append(_candle(bar, start.strftime("%m-%d %H:%M" if is_new_day else "%H:%M")))
        before = start
    return made


def _candle(bar: pb.Bar, label: str) -> Candle:
    volume = bar.volume if bar.HasField("volume") else None
    return Candle(bar.open, bar.high, bar.low, bar.close, volume, label)


def _title(answer: pb.GetHistoricalBarsResponse, width: int) -> str:
    """What is drawn, in as many words as there is room for."""
    words = [name_of(answer.instrument)]
    if answer.bars:
        first, last = answer.bars[0], answer.bars[-1]
        words.append(cents(last.close))
        words += [f"{(last.close / first.open - 1) * 100:+.2f} %"] if first.open > 0 else []
        words += [f"{len(answer.bars)} bars", f"{start_of(first)} … {start_of(last)}"]
    titles = ("  ".join(words[:count]) for count in range(len(words), 0, -1))
    return next((title for title in titles if len(title) <= width), words[0][:width])


def _coloured(row: str | Text) -> Text:
    text = Text(row) if isinstance(row, str) else row
    text.highlight_regex(f"[{ROSE}]", "green")
    text.highlight_regex(f"[{FELL}]", "red")
    return text
