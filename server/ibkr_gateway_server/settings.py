"""Every setting, with its unit, its default and what it allows.

They are read once, at the start; nothing else reads the environment. A value that is not allowed, and a combination
that is not safe, stop the start before any socket opens.
"""

from __future__ import annotations

from collections.abc import Mapping
from decimal import Decimal
from ipaddress import ip_address
from pathlib import Path
from typing import Annotated, Any, Literal, Self

from pydantic import BeforeValidator, Field, ValidationError, field_validator, model_validator
from pydantic_settings import BaseSettings, SettingsConfigDict

from ibkr_gateway_server.domain.quotes import MarketDataType
from ibkr_gateway_server.domain.restarts import RestartWindows

PAPER_PORTS = frozenset({4002, 7497, 4004})
LIVE_PORTS = frozenset({4001, 7496, 4003})


class SettingsInvalid(ValueError):
    """The settings do not allow a start; one line for each thing that is wrong."""

    def __init__(self, problems: list[str]) -> None:
        super().__init__("\n".join(problems))
        self.problems = problems


def _strict_flag(value: object) -> object:
    """Only true and false: a typo in a safety switch must not read as either."""
    if value in ("true", True):
        return True
    if value in ("false", False):
        return False
    raise ValueError("must be true or false")


Flag = Annotated[bool, BeforeValidator(_strict_flag)]
Port = Annotated[int, Field(ge=0, le=65535)]
Limit = Annotated[Decimal, Field(gt=0, allow_inf_nan=False)]
Seconds = Annotated[float, Field(gt=0, le=3600, allow_inf_nan=False)]


class Settings(BaseSettings):
    """What the operator has set, by environment variable or in `.env`; the environment wins."""

    model_config = SettingsConfigDict(env_file=".env", extra="ignore", frozen=True, hide_input_in_errors=True)

    ibkr_gateway_host: str = "127.0.0.1"
    """Host of TWS or IB Gateway."""
    ibkr_gateway_port: Port | None = None
    """Its API port; unset: 4002 for paper, 4001 for live. In simulation: the simulator's port; unset: a free one."""
    ibkr_client_id: Annotated[int, Field(ge=1, le=2**31 - 1)] = 1
    """Client id at TWS, always the same: order ids belong to it. 0 would take over orders placed by hand."""
    ibkr_account: str = ""
    """The only account that is served and traded; empty: all of the login's."""
    restart_window: str = ""
    """When TWS restarts as planned, as "23:45-00:15 America/New_York", several separated by semicolons: no orders."""
    trading_mode: Literal["paper", "live"] = "paper"
    """Which account orders may reach."""
    ibkr_mode: Literal["paper", "live", "simulation"] | None = None
    """simulation: use the simulator that comes with the gateway; otherwise it must say what TRADING_MODE says."""
    orders_enabled: Flag | None = None
    """Whether orders are sent; unset: false, and true in simulation."""
    live_trading_override_file: Path | None = None
    """Live orders need this file to exist; removing it stops them at once."""
    max_notional: Limit | None = None
    """Largest value of one order, in the contract's currency. Live trading needs it."""
    max_size_per_symbol: Limit | None = None
    """Largest quantity of one order, in units. Live trading needs it."""
    audit_db_path: Path | None = None
    """The record's database, its key beside it; unset: data/audit.db, and data/simulation.db in simulation."""
    log_level: Literal["DEBUG", "INFO", "WARNING", "ERROR"] = "INFO"
    """Least severe line to log."""
    log_format: Literal["json", "text"] = "json"
    """json: one object a line; text: for people."""
    grpc_host: str = "127.0.0.1"
    """Address to listen on. Anything but this machine needs TLS and tokens, which this version does not have yet."""
    grpc_port: Port = 50051
    """Port to listen on; 0: a free one."""
    request_timeout: Seconds = 30.0
    """Seconds after which the server ends a request whose caller set no shorter deadline."""
    market_data_type: Literal["live", "delayed"] = "live"
    """delayed: free prices, 10 to 20 minutes old, where there is no subscription."""
    competing_session: Literal["wait", "delayed"] = "delayed"
    """While another login has the live data: wait for it, or show delayed prices until it is back."""
    metrics_port: Port = 0
    """Port on 127.0.0.1 for Prometheus to read metrics from; 0: none."""
    simulation_seed: int = 7
    """Decides all prices of the simulator."""
    allow_port_mismatch: Flag = False
    """true: accept a port that is usually the other mode's."""

    @property
    def is_simulation(self) -> bool:
        """True when the simulator stands in for IBKR."""
        return self.ibkr_mode == "simulation"

    @property
    def mode(self) -> Literal["paper", "live", "simulation"]:
        """In which world orders are."""
        return "simulation" if self.is_simulation else self.trading_mode

    @property
    def broker_port(self) -> int:
        """The port to connect to; 0 in simulation: a free one."""
        if self.ibkr_gateway_port is not None:
            return self.ibkr_gateway_port
        return {"simulation": 0, "paper": 4002, "live": 4001}[self.mode]

    @property
    def restarts(self) -> RestartWindows:
        """RESTART_WINDOW, read."""
        return RestartWindows.parse(self.restart_window)

    @property
    def record_path(self) -> Path:
        """Where the record is. Simulated orders have one of their own: they must never be mistaken for real ones."""
        return self.audit_db_path or Path("data") / ("simulation.db" if self.is_simulation else "audit.db")

    @property
    def contracts_path(self) -> Path:
        """Where contracts that were asked for today are kept: beside the record."""
        return self.record_path.with_suffix(".contracts")

    @property
    def sends_orders(self) -> bool:
        """ORDERS_ENABLED, with its default."""
        return self.is_simulation if self.orders_enabled is None else self.orders_enabled

    @property
    def data_type(self) -> MarketDataType:
        """MARKET_DATA_TYPE as IBKR's number."""
        return MarketDataType.LIVE if self.market_data_type == "live" else MarketDataType.DELAYED

    @field_validator("ibkr_account")
    @classmethod
    def _account_is_one(cls, value: str) -> str:
        if value and not value.isalnum():
            raise ValueError("must be one account number, like DU1234567")
        return value

    @field_validator("restart_window")
    @classmethod
    def _windows_are_readable(cls, value: str) -> str:
        RestartWindows.parse(value)
        return value

    @model_validator(mode="after")
    def _combinations_are_safe(self) -> Self:
        problems = [*self._mode_problems(), *self._live_problems()]
        if not _is_this_machine(self.grpc_host):
            problems.append("GRPC_HOST: only addresses of this machine are served, until TLS and tokens are there")
        if problems:
            raise ValueError("\n".join(problems))
        return self

    def _mode_problems(self) -> list[str]:
        problems = []
        if self.ibkr_mode not in (None, "simulation", self.trading_mode):
            problems.append("IBKR_MODE: must be simulation, or say what TRADING_MODE says")
        wrong_ports = LIVE_PORTS if self.mode == "paper" else PAPER_PORTS if self.mode == "live" else frozenset()
        if self.broker_port in wrong_ports and not self.allow_port_mismatch:
            problems.append(
                f"IBKR_GATEWAY_PORT: is usually the other mode's port; correct it or TRADING_MODE={self.trading_mode}, "
                "or set ALLOW_PORT_MISMATCH=true"
            )
        return problems

    def _live_problems(self) -> list[str]:
        if self.mode != "live" or not self.sends_orders:
            return []
        problems = []
        if self.live_trading_override_file is None or not self.live_trading_override_file.is_file():
            problems.append("LIVE_TRADING_OVERRIDE_FILE: live orders need it to name an existing file")
        if self.max_notional is None:
            problems.append("MAX_NOTIONAL: live orders need a limit")
        if self.max_size_per_symbol is None:
            problems.append("MAX_SIZE_PER_SYMBOL: live orders need a limit")
        return problems


def load_settings(overrides: Mapping[str, Any] | None = None, *, env_file: str | None = ".env") -> Settings:
    """The settings, with what the command line overrides. Raises SettingsInvalid naming every wrong key, no values."""
    try:
        return Settings(_env_file=env_file, **(overrides or {}))  # type: ignore[call-arg]  # pydantic-settings' own
    except ValidationError as error:
        problems = []
        for problem in error.errors(include_url=False, include_input=False):
            text = problem["msg"].removeprefix("Value error, ")
            key = ".".join(str(part) for part in problem["loc"][:1]).upper()
            problems += [f"{key}: {text}"] if key else text.split("\n")
        raise SettingsInvalid(problems) from None


def _is_this_machine(host: str) -> bool:
    try:
        return ip_address(host).is_loopback
    except ValueError:
        return host == "localhost"
