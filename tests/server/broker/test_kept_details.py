"""Details on disk: a start in the same day asks nothing twice, and what is not as it was written is not believed."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from datetime import date
from pathlib import Path
from zlib import crc32

import pytest
from ibkr_gateway_server.broker.contracts import Contracts
from ibkr_gateway_server.broker.kept_details import KeptDetails
from ibkr_gateway_server.broker.pacing import Pacer
from ibkr_gateway_server.domain.errors import ContractNotFound
from ibkr_gateway_server.domain.instruments import Instrument, SecurityType

from tests.server.broker.conftest import Broker

AAPL = Instrument(symbol="AAPL", security_type=SecurityType.STK)
ASKED_FOR = (
    AAPL,
    Instrument(symbol="MES", security_type=SecurityType.FUT),
    Instrument(symbol="AAPL", security_type=SecurityType.OPT),
    Instrument(symbol="SAP", security_type=SecurityType.STK, currency="EUR"),
)
Spoil = Callable[[bytes], bytes]
MONDAY, TUESDAY = date(2026, 11, 23), date(2026, 11, 24)
ASKED = 9


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "audit.contracts"


def started(broker: Broker, path: Path, day: date = MONDAY) -> Contracts:
    """Contracts as a server that starts now has them."""
    return Contracts(broker.session, Pacer(asyncio.get_running_loop().time), lambda: day, KeptDetails(path))


async def test_after_a_start_in_the_same_day_the_same_is_known_and_nothing_is_asked(broker: Broker, path: Path) -> None:
    first = started(broker, path)
    before = [await first.details(wanted) for wanted in ASKED_FOR]
    asked = broker.simulator.frames_received(ASKED)
    second = started(broker, path)
    assert [await second.details(wanted) for wanted in ASKED_FOR] == before
    assert broker.simulator.frames_received(ASKED) == asked


async def test_of_another_day_nothing_is_known_and_nothing_stays(broker: Broker, path: Path) -> None:
    await started(broker, path).resolve(AAPL)
    tuesday = started(broker, path, TUESDAY)
    assert path.read_bytes() == b""
    await tuesday.resolve(AAPL)
    assert broker.simulator.frames_received(ASKED) == 2


async def test_a_new_day_of_a_running_server_begins_the_file_anew(broker: Broker, path: Path) -> None:
    day = MONDAY
    contracts = Contracts(broker.session, Pacer(asyncio.get_running_loop().time), lambda: day, KeptDetails(path))
    await contracts.resolve(AAPL)
    await contracts.resolve(Instrument(con_id=272093))
    day = TUESDAY
    await contracts.resolve(AAPL)
    assert len(path.read_bytes().splitlines()) == 1


@pytest.mark.parametrize(
    "spoil",
    [
        lambda written: written[:-20],
        lambda written: written.replace(b"265598", b"265599"),
        lambda written: b"\xff\n" + written[1:],
    ],
    ids=["torn", "altered", "other bytes"],
)
async def test_what_is_not_as_it_was_written_is_asked_again(broker: Broker, path: Path, spoil: Spoil) -> None:
    await started(broker, path).resolve(AAPL)
    path.write_bytes(spoil(path.read_bytes()))
    assert (await started(broker, path).resolve(AAPL)).con_id == 265598
    assert broker.simulator.frames_received(ASKED) == 2
    # And is kept again, without what was spoiled.
    await started(broker, path).resolve(AAPL)
    assert broker.simulator.frames_received(ASKED) == 2


async def test_a_line_of_another_version_with_a_right_checksum_is_left_out(path: Path) -> None:
    path.write_bytes(b"%08x {}\n" % crc32(b"{}"))
    assert KeptDetails(path).read(MONDAY) == {}


async def test_what_is_not_found_is_not_kept(broker: Broker, path: Path) -> None:
    for _ in range(2):
        with pytest.raises(ContractNotFound):
            await started(broker, path).resolve(Instrument(symbol="AAPLL", security_type=SecurityType.STK))
    assert broker.simulator.frames_received(ASKED) == 2


async def test_where_nothing_can_be_written_contracts_are_found_all_the_same(broker: Broker, tmp_path: Path) -> None:
    for path in (tmp_path / "missing" / "audit.contracts", tmp_path):
        contracts = started(broker, path)
        assert (await contracts.resolve(AAPL)).con_id == 265598
        assert (await contracts.resolve(Instrument(con_id=272093))).symbol == "MSFT"
