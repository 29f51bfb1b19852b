"""Errors at the edge: every reason has one status, and nothing secret leaves."""

from __future__ import annotations

import json
from dataclasses import fields
from importlib.resources import files
from typing import Any

import grpc
import pytest
from google.rpc import error_details_pb2
from google.rpc.status_pb2 import Status
from ibkr_gateway.errors import from_rpc_error
from ibkr_gateway.v1 import error_reason_pb2
from ibkr_gateway_server.domain import errors
from ibkr_gateway_server.domain.errors import DomainError, FieldViolation, Reason, Violations
from ibkr_gateway_server.rpc.status import CODES, bug, rpc_error

REASONS: list[dict[str, Any]] = json.loads(files("ibkr_gateway").joinpath("errors.json").read_text())


class Failed(grpc.RpcError):
    """A call's error as a client has it."""

    def __init__(self, status: Any) -> None:
        self._status = status

    def code(self) -> grpc.StatusCode:
        return self._status.code

    def details(self) -> str:
        return self._status.details

    def trailing_metadata(self) -> Any:
        return self._status.trailing_metadata


def details_of(error: DomainError) -> Status:
    ((_, packed),) = rpc_error(error, "call-1").trailing_metadata
    return Status.FromString(packed)


def test_the_contract_the_domain_and_the_table_have_the_same_reasons() -> None:
    contract = {name.removeprefix("ERROR_REASON_") for name, number in error_reason_pb2.ErrorReason.items() if number}
    assert contract == set(Reason) == set(CODES) == {reason["reason"] for reason in REASONS}


@pytest.mark.parametrize("reason", REASONS, ids=lambda reason: reason["reason"])
def test_a_reason_has_the_status_and_an_example_that_its_comment_says(reason: dict[str, Any]) -> None:
    assert CODES[Reason(reason["reason"])].name == reason["status"]
    assert reason["example"]["reason"] == reason["reason"]
    assert reason["example"]["domain"] == "ibkr-gateway"
    assert reason["description"].endswith(".")


def examples() -> list[DomainError]:
    """One of every error of the domain."""
    found: list[DomainError] = []
    for kind in vars(errors).values():
        if isinstance(kind, type) and issubclass(kind, DomainError) and "text" in vars(kind):
            values = {"int": 7, "float": 1.5, "tuple[FieldViolation, ...]": (FieldViolation("field", "is wrong"),)}
            found.append(kind(**{field.name: values.get(str(field.type), "word") for field in fields(kind)}))
    return found


@pytest.mark.parametrize("error", examples(), ids=lambda error: type(error).__name__)
def test_an_error_reaches_a_client_with_its_reason_its_words_and_its_values(error: DomainError) -> None:
    received = from_rpc_error(Failed(rpc_error(error, "call-1")))
    assert received.code is CODES[error.reason]
    assert received.reason == error.reason
    assert received.message == error.message
    assert received.details == {**error.metadata, "correlation_id": "call-1"}
    assert received.retry_after_s == getattr(error, "retry_after_s", None)


def test_every_wrong_field_is_in_the_details() -> None:
    found = Violations()
    found.add("order.quantity", "-1 is not positive")
    found.add("order.limit_price", "is not taken by a MKT order")
    with pytest.raises(errors.FieldsInvalid) as refused:
        found.raise_if_any()
    received = from_rpc_error(Failed(rpc_error(refused.value, "call-1")))
    assert list(received.fields) == ["order.quantity", "order.limit_price"]


def test_details_stay_below_what_clients_accept() -> None:
    found = Violations()
    for number in range(100):
        found.add(f"instruments[{number}].symbol", "x" * 1000)
    with pytest.raises(errors.FieldsInvalid) as refused:
        found.raise_if_any()
    status = rpc_error(refused.value, "call-1")
    assert len(status.trailing_metadata[0][1]) * 4 / 3 + len(status.details) < 8 * 1024


def test_there_is_exactly_one_error_info_and_the_flat_shape_says_the_same() -> None:
    status = details_of(errors.ContractNotFound("AAPLL", "STK"))
    infos = [detail for detail in status.details if detail.Is(error_details_pb2.ErrorInfo.DESCRIPTOR)]
    assert len(infos) == 1
    flat = error_reason_pb2.GatewayError()
    (packed,) = [detail for detail in status.details if detail.Is(error_reason_pb2.GatewayError.DESCRIPTOR)]
    assert packed.Unpack(flat)
    assert flat.error_code == "CONTRACT_NOT_FOUND"
    assert flat.details["symbol"] == "AAPLL"


def test_a_defect_leaves_nothing_but_its_correlation_id() -> None:
    secret = "password=hunter2 DU1234567 /home/me"
    error = bug(RuntimeError(secret))
    status = rpc_error(error, "call-1")
    assert status.code is grpc.StatusCode.INTERNAL
    assert "hunter2" not in str(details_of(error)) + status.details


def test_account_numbers_are_cut_in_what_leaves() -> None:
    assert "DU1234567" not in str(details_of(errors.OrderNotFound("DU1234567")))
