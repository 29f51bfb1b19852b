"""Requests for news: invented headlines that say so, and agree with each other however they are asked for."""

from __future__ import annotations

from datetime import UTC, datetime

import pytest

from tests.server.simulator.conftest import NOW, Talk
from tests.server.simulator.requests.test_contracts import contract

AAPL = {"con_id": 265598, "exchange": "SMART"}
ALL = "BRFG+BRFUPDN+DJ-N+DJ-RT+DJ-RTA+DJ-RTE+DJ-RTG+DJNL"


def headlines(
    talk: Talk, codes: str = ALL, start: str = "", end: str = "", count: int = 10
) -> tuple[list[list[str]], bool]:
    """Headlines of the past, the latest first, and whether there are more."""
    talk.ask("86", 4, 265598, codes, start, end, count, "")
    *rows, last = talk.messages()
    assert last[:2] == ["87", "4"]
    assert all(row[:2] == ["86", "4"] for row in rows)
    return [row[2:] for row in rows], last[2] == "1"


def line(talk: Talk, req_id: int = 1, generic: str = "mdoff,292") -> list[list[str]]:
    talk.ask("1", "11", req_id, *contract(**AAPL), 0, generic, 0, 0, "")
    return talk.messages()


def test_providers_say_that_they_are_simulated(talk: Talk) -> None:
    talk.ask("85")
    (answer,) = talk.messages()
    assert answer[:2] == ["85", "8"]
    assert "+".join(answer[2::2]) == ALL
    assert all("Simulated" in name for name in answer[3::2])


def test_headlines_are_marked_and_come_the_latest_first(talk: Talk) -> None:
    rows, has_more = headlines(talk)
    times = [row[0] for row in rows]
    assert len(rows) == 10
    assert has_more
    assert times == sorted(times, reverse=True)
    assert all(row[3].startswith("{A:800015:L:en}[SIMULATED] AAPL ") for row in rows)
    assert {row[1] for row in rows} <= set(ALL.split("+"))


@pytest.mark.parametrize("form", ["%Y-%m-%d %H:%M:%S.0", "%Y%m%d %H:%M:%S", "%Y%m%d %H:%M:%S UTC"])
def test_headlines_of_a_span_are_those_in_it(talk: Talk, form: str) -> None:
    rows, has_more = headlines(talk, count=300)
    begin, end = (datetime.fromtimestamp(NOW - hours * 3600, UTC) for hours in (48, 24))
    within, _ = headlines(talk, start=begin.strftime(form), end=end.strftime(form), count=300)
    assert headlines(talk, start=end.strftime(form), end=begin.strftime(form), count=300)[0] == within
    assert within == [row for row in rows if f"{begin:%Y-%m-%d %H:%M:%S}" < row[0] <= f"{end:%Y-%m-%d %H:%M:%S}.0"]
    assert 15 < len(within) < 48
    assert has_more


def test_headlines_of_one_provider_are_its_own(talk: Talk) -> None:
    rows, _ = headlines(talk, "DJ-RTG", count=50)
    assert {row[1] for row in rows} == {"DJ-RTG"}


def test_an_article_is_found_by_its_headline(talk: Talk) -> None:
    ((_, provider, article_id, headline), *_), _ = headlines(talk)
    talk.ask("84", 5, provider, article_id, "")
    (article,) = talk.messages()
    assert article[:3] == ["83", "5", "0"]
    assert article[3].startswith(f"<html><body><p>{headline.removeprefix('{A:800015:L:en}')}.</p>")
    assert "simulator" in article[3]


@pytest.mark.parametrize(
    "article_id", ["", "DJNL$", "DJNL$40d7e-zz", "DJNL$40d7e-fffffff", "DJNL$0-1", "$-1-1", "DJNL"]
)
def test_an_article_that_is_not_there_is_an_error(talk: Talk, article_id: str) -> None:
    talk.ask("84", 5, "DJNL", article_id, "")
    assert [fields[1:3] for fields in talk.messages()] == [["5", "10172"]]


def test_providers_that_are_not_there_are_refused(talk: Talk) -> None:
    talk.ask("86", 4, 265598, "BRFG+REUTERS", "", "", 10, "")
    talk.ask("86", 4, 265598, "", "", "", 10, "")
    talk.ask("84", 5, "REUTERS", "REUTERS$1-1", "")
    assert [fields[1:3] for fields in line(talk, generic="mdoff,292:REUTERS")] == [
        ["4", "10276"],
        ["4", "10276"],
        ["5", "10276"],
        ["1", "10276"],
    ]


def test_of_a_contract_that_is_not_listed_there_is_no_news(talk: Talk) -> None:
    talk.ask("86", 4, 1, "BRFG", "", "", 10, "")
    assert talk.messages() == [["87", "4", "0"]]


def test_a_line_of_news_begins_with_the_latest_and_tells_each_headline_once(talk: Talk) -> None:
    first = line(talk)
    assert [fields[0] for fields in first] == ["81", "58"] + ["84"] * 5
    talk.wait(4 * 3600, step=60.0)
    later = talk.heard("84")
    told = [[fields[3], fields[4], f"{{{fields[6]}}}{fields[5]}"] for fields in [*first[2:], *later]]
    past, _ = headlines(talk, count=300)
    assert told == [row[1:] for row in reversed(past[: len(told)])]
    assert len(later) > 2
    talk.ask("2", "2", 1)
    talk.wait(4 * 3600, step=600.0)
    assert talk.messages() == []


def test_a_line_may_have_prices_and_the_news_of_some_providers(talk: Talk) -> None:
    messages = line(talk, generic="292:BRFG+DJ-N")
    assert {"1", "2", "84"} <= {fields[0] for fields in messages}
    assert {fields[3] for fields in messages if fields[0] == "84"} <= {"BRFG", "DJ-N"}


def tape(talk: Talk, symbol: str = "BRFG:BRFG_ALL", exchange: str = "BRFG") -> list[list[str]]:
    asked = contract(symbol=symbol, sec_type="NEWS", exchange=exchange)
    talk.ask("1", "11", 2, *asked, 0, "mdoff,292", 0, 0, "")
    return talk.messages()


def test_the_broad_tape_has_the_headlines_of_one_provider_about_every_stock(talk: Talk) -> None:
    told = tape(talk)
    assert [fields[0] for fields in told] == ["84"] * 5
    talk.wait(24 * 3600, step=600.0)
    told += talk.messages()
    times = [int(fields[2]) for fields in told]
    assert times == sorted(times)
    assert {fields[3] for fields in told} == {"BRFG"}
    assert len({fields[5].split()[1] for fields in told}) > 5
    talk.ask("2", "2", 2)
    talk.wait(4 * 3600, step=600.0)
    assert talk.messages() == []


def test_a_tape_that_is_not_there_is_refused(talk: Talk) -> None:
    assert [fields[1:3] for fields in tape(talk, "REUTERS:REUTERS_ALL", "REUTERS")] == [["2", "10276"]]
    assert [fields[1:3] for fields in tape(talk, "BRFG:NONSENSE")] == [["2", "200"]]


def test_bulletins_of_the_day_so_far_are_told_on_request(talk: Talk) -> None:
    talk.ask("12", "1", "0")
    assert talk.messages() == []
    talk.ask("12", "1", "1")
    (bulletin,) = talk.messages()
    assert bulletin[0] == "14"
    assert bulletin[3] == "1"
    assert bulletin[4].startswith("[SIMULATED]")
    talk.wait(86400.0, step=3600.0)
    (tomorrow,) = talk.heard("14")
    assert int(tomorrow[2]) == int(bulletin[2]) + 1
    talk.ask("13", "1")
    talk.wait(86400.0, step=3600.0)
    assert talk.messages() == []
