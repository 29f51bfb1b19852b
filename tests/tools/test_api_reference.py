"""The reference of the contract is the contract's."""

from __future__ import annotations

import re

import pytest
from ibkr_gateway_server.rpc.scopes import SCOPES

from tools import api_reference, generate_stubs

TEXT = api_reference.PAGE.read_text()


def test_the_page_is_what_the_contract_says_today() -> None:
    assert api_reference.main(["--check"]) == 0, "run `make docs`"


def test_a_page_that_is_out_of_date_is_told(monkeypatch: pytest.MonkeyPatch) -> None:
    files = generate_stubs.described()
    method = files[0].service[0].method[0]
    monkeypatch.setattr(api_reference, "described", lambda: files)
    method.server_streaming = not method.server_streaming
    assert api_reference.main(["--check"]) == 1


@pytest.mark.parametrize("endpoint", SCOPES)
def test_every_rpc_has_its_kind_and_scope(endpoint: str) -> None:
    name, scope = endpoint.rpartition("/")[2], SCOPES[endpoint]
    (line,) = re.findall(rf"^### {name}\n\n(.*)$", TEXT, re.MULTILINE)
    assert re.search(r": (unary|server stream|bidirectional stream), ", line)
    assert (f"scope `{scope}`" if scope else "needs no token") in line


def test_links_lead_to_headings_of_the_page() -> None:
    headings = {heading.lower() for heading in re.findall(r"^#+ (\w+)$", TEXT, re.MULTILINE)}
    assert set(re.findall(r"\]\(#([^)]+)\)", TEXT)) <= headings


def test_safety_comes_before_the_first_service() -> None:
    head = TEXT.partition("## ")[0]
    assert all(word in head for word in ("SIMULATED", "PreviewOrder", "PlaceOrder", "ORDERS_ENABLED=false"))
