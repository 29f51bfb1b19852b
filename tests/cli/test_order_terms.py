"""`ibkr-gateway order`: every term of an order as an option, and what is shown of its legs."""

from __future__ import annotations

import re
import subprocess
from typing import Any

import pytest
from ibkr_gateway.v1 import common_pb2
from ibkr_gateway.v1 import orders_service_pb2 as pb
from ibkr_gateway_cli.__main__ import app
from ibkr_gateway_cli.order_terms import EXAMPLES, terms
from typer.testing import CliRunner

from tests.cli.conftest import Run, lines


def spec(*typed: str, **options: Any) -> pb.OrderSpec:
    """The order that these words make."""
    side, quantity, instrument = typed or ("buy", "10", "AAPL")
    return terms(side, quantity, instrument, **options)


def set_fields(order: pb.OrderSpec) -> dict[str, Any]:
    """What is said beside side, quantity, instrument and DAY."""
    usual = {"instrument", "side", "quantity", "time_in_force"}
    return {field.name: value for field, value in order.ListFields() if field.name not in usual}


@pytest.mark.parametrize(
    ("options", "order_type"),
    [
        ({}, "MKT"),
        ({"limit": "187.30"}, "LMT"),
        ({"stop": "180"}, "STP"),
        ({"stop": "180", "limit": "179"}, "STP_LMT"),
        ({"trail": "5"}, "TRAIL"),
        ({"trail_percent": "2.5", "trail_stop": "180"}, "TRAIL"),
        ({"trail": "5", "offset": "0.10"}, "TRAIL_LIMIT"),
        ({"take_profit": "195", "stop_loss": "180", "limit": "187"}, "BRACKET"),
        ({"order_type": "moc"}, "MOC"),
        ({"order_type": "stp-lmt", "stop": "1", "limit": "1"}, "STP_LMT"),
        ({"order_type": "LIT", "stop": "1", "limit": "1"}, "LIT"),
    ],
    ids=str,
)
def test_the_prices_say_which_type_it_is_unless_it_is_named(options: dict[str, str], order_type: str) -> None:
    assert spec(**options).order_type == pb.OrderType.Value(f"ORDER_TYPE_{order_type}")


def test_every_term_of_the_contract_has_an_option() -> None:
    order = spec(
        order_type="bracket",
        **dict.fromkeys(
            (
                *("limit", "stop", "trail", "trail_percent", "trail_stop", "offset", "take_profit", "stop_loss"),
                "stop_loss_limit",
            ),
            "1.50",
        ),
        stage=True,
        good_till="2026-11-27T20:00Z",
        good_after="2026-11-27T15:00:00+00:00",
        outside_hours=True,
        oca_group="exits",
        oca_type="reduce",
        all_or_none=True,
        hidden=True,
        display=5,
        account_id="DU1",
        strategy="s",
        note="n",
    )
    fields = {field.name for field in pb.OrderSpec.DESCRIPTOR.fields} - {"cash_quantity"}
    said = {field.name for field, _ in order.ListFields()} | {"bracket_transmit"}
    assert said == fields
    assert order.HasField("bracket_transmit")
    assert not order.bracket_transmit
    assert order.oca_type == pb.OCA_TYPE_REDUCE_WITH_BLOCK
    assert (order.time_in_force, order.good_till_time.ToJsonString()) == (
        pb.TIME_IN_FORCE_GTD,
        "2026-11-27T20:00:00Z",
    )


def test_what_is_not_said_is_not_set() -> None:
    assert set_fields(spec()) == {"order_type": pb.ORDER_TYPE_MKT}
    assert spec().time_in_force == pb.TIME_IN_FORCE_DAY
    assert spec("SELL", "0.5", "EUR.USD").side == common_pb2.SIDE_SELL


@pytest.mark.parametrize(
    ("options", "said"),
    [
        ({"order_type": "LIMIT"}, "--type 'LIMIT' is not one of MKT, LMT"),
        ({"tif": "forever"}, "--tif 'forever' is not one of DAY, GTC"),
        ({"limit": "12,5"}, "limit price '12,5' is not a decimal number"),
        ({"trail": "NaN"}, "trailing amount 'NaN' is not a decimal number"),
        ({"good_till": "tomorrow"}, "--good-till 'tomorrow' is not a time like"),
        ({"oca_group": "g", "oca_type": "all"}, "--oca-type 'all' is not one of cancel"),
    ],
)
def test_what_is_not_even_a_term_is_told_with_what_would_be(options: dict[str, str], said: str) -> None:
    with pytest.raises(ValueError, match=re.escape(said)):
        spec(**options)


@pytest.mark.parametrize("command", ["preview", "place", "bracket"])
def test_the_help_teaches_with_examples(command: str) -> None:
    shown = CliRunner().invoke(app, ["order", command, "--help"]).stdout
    assert "--take-profit" in shown
    assert "Units, as a decimal." in shown
    assert "--trail-percent 2.5          a stop 2.5 % behind the market" in shown
    assert ("--type" in shown.split("Examples:")[0]) is (command != "bracket")


@pytest.mark.parametrize("example", re.findall(r"^ +((?:buy|sell) .*?)(?: {3}.*)?$", EXAMPLES, re.MULTILINE))
def test_every_example_of_the_help_works(run: Run, example: str) -> None:
    """As it is printed."""
    words = example.split()
    if "2026-11-27T20:00Z" in words:
        words[words.index("2026-11-27T20:00Z")] = "2099-11-27T20:00Z"
    done = run("order", "preview", *words)
    assert done.returncode == 0, done.stderr
    assert "Preview (nothing is sent)" in done.stdout


def test_a_brackets_legs_are_shown_and_all_of_it_is_placed_and_cancelled(run: Run) -> None:
    order = ("BUY", "10", "AAPL", "--limit", "10.00", "--take-profit", "500", "--stop-loss", "5.5")
    shown = run("order", "preview", *order).stdout
    for part in ("ENTRY", "TAKE_PROFIT", "STOP_LOSS", "5.5", "5,000.00", "the entry's alone"):
        assert part in shown
    (placed,) = lines(run("order", "bracket", *order, "--yes", "--json"))
    key = str(placed["client_order_id"])
    assert len(placed["order_ids"]) == 3  # type: ignore[arg-type]
    legs = lines(run("order", "status", key, "--json"))
    assert [leg["leg_role"] for leg in legs] == ["LEG_ROLE_ENTRY", "LEG_ROLE_TAKE_PROFIT", "LEG_ROLE_STOP_LOSS"]
    assert run("order", "cancel", key).stdout.count("CANCELLED") == 3


def test_a_trailing_order_is_placed_and_shown_with_what_it_trails_by(run: Run) -> None:
    done = run("order", "place", "sell", "10", "AAPL", "--trail-percent", "12.5", "--yes")
    assert done.returncode == 0, done.stderr
    assert "trails 12.5 %" in done.stdout


def test_everything_that_the_server_finds_wrong_is_told_and_nothing_is_placed(run: Run) -> None:
    done: subprocess.CompletedProcess[str] = run(
        "order", "bracket", "buy", "10", "AAPL", "--limit", "10", "--take-profit", "9", "--stop-loss", "11", "--yes"
    )
    assert done.returncode == 2
    assert "9 is not above limit_price 10" in done.stderr
    assert "11 is not below limit_price 10" in done.stderr


def test_a_preview_token_places_exactly_what_was_previewed(run: Run) -> None:
    (shown,) = lines(run("order", "preview", "buy", "1", "AAPL", "--limit", "10", "--json"))
    token = str(shown["preview_token"])
    other = run("order", "place", "buy", "2", "AAPL", "--limit", "10", "--yes", "--preview-token", token)
    assert other.returncode == 4
    assert "another order" in other.stderr
    same = run("order", "place", "buy", "1", "AAPL", "--limit", "10", "--yes", "--preview-token", token)
    assert same.returncode == 0, same.stderr
