"""Requests for what this login does not have: errors as live logins without it get them."""

from __future__ import annotations

import pytest

from tests.server.simulator.conftest import Talk
from tests.server.simulator.requests.test_contracts import contract

AAPL = contract(con_id=265598, exchange="SMART")


@pytest.mark.parametrize(
    ("request_fields", "req_id", "code", "text"),
    [
        (["18", "1", 1], "-1", "321", "FA data operations ignored for non FA customers."),
        (["18", "1", 9], "-1", "321", "Non-existent FA data operation request."),
        (["19", "1", 3, "<xml/>", 7], "-1", "321", "FA data operations ignored for non FA customers."),
        (["52", "2", 7, *AAPL[:3], *AAPL[7:11], "ReportSnapshot", 0, ""], "7", "10358", "not allowed"),
        (["100", 7], "7", "10276", "News feed is not allowed."),
        (["102", 7, 265598, "", 0, 0, 0, "", "", 10], "7", "10276", "News feed is not allowed."),
    ],
)
def test_it_is_refused(talk: Talk, request_fields: list[object], req_id: str, code: str, text: str) -> None:
    talk.ask(*request_fields)
    (refusal,) = talk.messages()
    assert refusal[1:3] == [req_id, code]
    assert refusal[3].endswith(text) or text in refusal[3]


@pytest.mark.parametrize("cancel", [["53", "1", 7], ["101", 7], ["103", 7]])
def test_its_cancel_is_taken(talk: Talk, cancel: list[object]) -> None:
    talk.ask(*cancel)
    assert talk.messages() == []
