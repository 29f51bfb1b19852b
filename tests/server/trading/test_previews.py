"""Preview tokens: good for one order, exactly as previewed, for a short time."""

from __future__ import annotations

from datetime import timedelta

import pytest
from ibkr_gateway_server.domain.errors import PreviewExpired
from ibkr_gateway_server.trading.previews import PreviewTokens

from tests.server.trading.conftest import KEY, NOW

OTHER = KEY[::-1]


class Clock:
    """A clock that is moved by hand."""

    def __init__(self) -> None:
        self.now = NOW

    def pass_s(self, seconds: float) -> None:
        self.now += timedelta(seconds=seconds)


@pytest.fixture
def clock() -> Clock:
    return Clock()


@pytest.fixture
def tokens(clock: Clock) -> PreviewTokens:
    return PreviewTokens(lambda: clock.now, lifetime_s=60, max_tokens=3)


def test_a_token_is_good_for_the_order_that_was_previewed(tokens: PreviewTokens) -> None:
    token, expire_time = tokens.issue("plan")
    assert expire_time == NOW + timedelta(seconds=60)
    tokens.redeem(token, "plan", KEY)


def test_a_token_is_good_for_one_order_which_may_be_tried_again(tokens: PreviewTokens) -> None:
    token, _ = tokens.issue("plan")
    tokens.redeem(token, "plan", KEY)
    tokens.redeem(token, "plan", KEY)
    with pytest.raises(PreviewExpired, match="used for another order"):
        tokens.redeem(token, "plan", OTHER)


def test_another_plan_is_refused_and_leaves_the_token_unused(tokens: PreviewTokens) -> None:
    token, _ = tokens.issue("plan")
    with pytest.raises(PreviewExpired, match="another order than this"):
        tokens.redeem(token, "another plan", OTHER)
    tokens.redeem(token, "plan", KEY)


def test_a_token_ends(tokens: PreviewTokens, clock: Clock) -> None:
    token, _ = tokens.issue("plan")
    clock.pass_s(59.9)
    tokens.redeem(token, "plan", KEY)
    clock.pass_s(0.1)
    with pytest.raises(PreviewExpired, match="good for 60 s"):
        tokens.redeem(token, "plan", KEY)


@pytest.mark.parametrize("token", ["", "nonsense", "x" * 5000])
def test_a_token_that_was_never_issued_is_refused(tokens: PreviewTokens, token: str) -> None:
    tokens.issue("plan")
    with pytest.raises(PreviewExpired, match="not known"):
        tokens.redeem(token, "plan", KEY)


def test_tokens_do_not_survive_a_restart(tokens: PreviewTokens, clock: Clock) -> None:
    token, _ = tokens.issue("plan")
    with pytest.raises(PreviewExpired):
        PreviewTokens(lambda: clock.now).redeem(token, "plan", KEY)


def test_the_oldest_is_forgotten_where_there_are_too_many(tokens: PreviewTokens) -> None:
    issued = [tokens.issue("plan")[0] for _ in range(4)]
    assert len(tokens) == 3
    with pytest.raises(PreviewExpired):
        tokens.redeem(issued[0], "plan", KEY)
    tokens.redeem(issued[1], "plan", KEY)


def test_what_has_ended_takes_no_room(tokens: PreviewTokens, clock: Clock) -> None:
    for _ in range(2):
        tokens.issue("plan")
    clock.pass_s(60)
    tokens.issue("plan")
    assert len(tokens) == 1


def test_tokens_are_all_different_and_too_long_to_guess(clock: Clock) -> None:
    tokens = PreviewTokens(lambda: clock.now)
    issued = {tokens.issue("plan")[0] for _ in range(500)}
    assert len(issued) == 500
    assert min(map(len, issued)) >= 32
