"""A long history's slices tile its range, and a token names a place in it."""

from __future__ import annotations

import base64
import itertools
import json
from datetime import UTC, datetime, timedelta
from zoneinfo import ZoneInfo

import pytest
from hypothesis import given
from hypothesis import strategies as st
from ibkr_gateway_server.broker.slices import MAX_SLICES, place_of, slices_of, token
from ibkr_gateway_server.domain.bars import BarSize, LongHistoryRequest
from ibkr_gateway_server.domain.errors import FieldsInvalid
from ibkr_gateway_server.domain.instruments import Instrument

NEW_YORK = ZoneInfo("America/New_York")
START = datetime(2025, 11, 24, tzinfo=UTC)
REQUEST = LongHistoryRequest(Instrument(symbol="AAPL"), BarSize.MINS_5, START)


@given(
    size=st.sampled_from([size for size in BarSize if not size.is_daily]),
    start=st.datetimes(datetime(2020, 1, 1), datetime(2026, 1, 1), timezones=st.just(UTC)),
    length=st.timedeltas(timedelta(seconds=1), timedelta(days=60)),
)
def test_slices_of_moments_tile_the_range(size: BarSize, start: datetime, length: timedelta) -> None:
    slices = slices_of(size, start, start + length, NEW_YORK)
    assert (slices[0].start, slices[-1].end) == (start, start + length)
    assert all(before.end == after.start for before, after in itertools.pairwise(slices))
    assert all(each.start < each.end < each.ask_until for each in slices)


@given(
    size=st.sampled_from([size for size in BarSize if size.is_daily]),
    start=st.datetimes(datetime(2010, 1, 1), datetime(2026, 1, 1), timezones=st.just(UTC)),
    length=st.timedeltas(timedelta(seconds=1), timedelta(days=3000)),
)
def test_slices_of_days_tile_the_exchanges_days(size: BarSize, start: datetime, length: timedelta) -> None:
    end = start + length
    slices = slices_of(size, start, end, NEW_YORK)
    assert slices[0].start == start.astimezone(NEW_YORK).date()
    assert slices[-1].end == (end - timedelta(microseconds=1)).astimezone(NEW_YORK).date() + timedelta(days=1)
    assert all(before.end == after.start for before, after in itertools.pairwise(slices))
    # Whole days are asked for: until midnight at the exchange and further.
    assert all(each.ask_until > datetime.combine(each.end, datetime.min.time(), NEW_YORK) for each in slices)


def test_too_many_slices_are_refused_with_how_many_days_there_may_be() -> None:
    with pytest.raises(FieldsInvalid, match="1 secs at most 173 days"):
        slices_of(BarSize.SEC_1, START, START + timedelta(minutes=25) * (MAX_SLICES + 1), NEW_YORK)


def test_a_token_names_its_place_in_the_same_request_alone() -> None:
    made = token(REQUEST, 265598, START + timedelta(days=9), 2)
    assert place_of(made, REQUEST, 265598) == (START + timedelta(days=9), 2)
    other = LongHistoryRequest(Instrument(symbol="AAPL"), BarSize.MINS_10, START)
    for request, con_id in ((other, 265598), (REQUEST, 1)):
        with pytest.raises(FieldsInvalid, match="another request"):
            place_of(made, request, con_id)


def test_a_token_that_was_changed_is_none() -> None:
    made = token(REQUEST, 265598, START + timedelta(days=9), 2)
    version, of, end, _, checksum = json.loads(base64.urlsafe_b64decode(made + "=" * (-len(made) % 4)))
    forged = base64.urlsafe_b64encode(json.dumps([version, of, end, 0, checksum]).encode()).decode()
    for wrong in (forged, made[:-4], "x", "aGVsbG8", "bnVsbA", "ä"):
        with pytest.raises(FieldsInvalid, match="none of this gateway's"):
            place_of(wrong, REQUEST, 265598)
