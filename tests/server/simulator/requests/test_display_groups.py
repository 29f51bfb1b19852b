"""Requests about display groups, and the verification of programs."""

from __future__ import annotations

from tests.server.simulator.conftest import Talk


def test_a_group_tells_its_followers_what_it_shows_until_they_leave(talk: Talk) -> None:
    talk.ask("67", "1", 5)
    assert talk.messages() == [["67", "1", "5", "1|2|3|4|5|6|7"]]
    for req_id, group in ((5, 1), (6, 1), (7, 2)):
        talk.ask("68", "1", req_id, group)
    assert talk.messages() == [["68", "1", req_id, "none"] for req_id in ("5", "6", "7")]
    talk.ask("69", "1", 5, "265598@SMART")
    assert talk.messages() == [["68", "1", req_id, "265598@SMART"] for req_id in ("5", "6")]
    talk.ask("70", "1", 5)
    talk.ask("69", "1", 6, "")
    assert talk.messages() == [["68", "1", "6", "none"]]
    talk.ask("69", "1", 5, "265598@SMART")
    talk.ask("68", "1", 8, 12)
    assert [fields[1:3] for fields in talk.messages()] == [["5", "321"], ["8", "321"]]


def test_a_program_that_wants_to_be_verified_is_told_that_it_is_not(talk: Talk) -> None:
    talk.ask("65", "1", "name", "1.0")
    talk.ask("66", "1", "data")
    talk.ask("72", "1", "name", "1.0", "key")
    talk.ask("73", "1", "data", "response")
    assert [fields[:3] for fields in talk.messages()] == [[number, "1", "false"] for number in ("66", "66", "70", "70")]
