"""Every setting, with its unit, its default and what it allows.

They are read once, at the start; nothing else reads the environment. A value that is not allowed, and a combination
that is not safe, stop the start before any socket opens.
"""

from __future__ import annotations

import os
import time
from collections.abc import Iterator, Mapping
from decimal import Decimal
from difflib import get_close_matches
from ipaddress import ip_address
from pathlib import Path
from typing import Annotated, Any, Literal, Self

from pydantic import BeforeValidator, Field, PrivateAttr, ValidationError, field_validator, model_validator
from pydantic_settings import BaseSettings, DotEnvSettingsSource, SettingsConfigDict

from ibkr_gateway_server.credentials.files import exposure, override_problem
from ibkr_gateway_server.credentials.tls import ServerTls, TlsUnfit, load_tls
from ibkr_gateway_server.credentials.tokens import Tokens, TokensInvalid, load_tokens
from ibkr_gateway_server.domain.quotes import MarketDataType
from ibkr_gateway_server.domain.restarts import RestartWindows

PAPER_PORTS = frozenset({4002, 7497, 4004})
LIVE_PORTS = frozenset({4001, 7496, 4003})

# A variable that begins so is meant for us; one that is no setting is a mistake, perhaps in a safety switch.
OUR_PREFIXES = (
    "IBKR_",
    "TRADING_MODE",
    "ORDERS_ENABLED",
    "LIVE_TRADING_",
    "LIVE_OVERRIDE_",
    "MAX_NOTIONAL",
    "MAX_SIZE_PER_",
    "AUDIT_DB_",
    "TOKENS_FILE",
)
# These are the clients', which may run in the same environment.
CLIENT_VARIABLES = frozenset(
    {"IBKR_GATEWAY_TOKEN_FILE", "IBKR_GATEWAY_TLS_CA", "IBKR_GATEWAY_TLS_CERT", "IBKR_GATEWAY_TLS_KEY"}
)
# In .env, which is ours alone, a name this like a setting's is one that was misspelt. 0: nothing alike, 1: equal.
MISSPELT = 0.85


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
Hours = Annotated[float, Field(gt=0, le=8760, allow_inf_nan=False)]


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
    """Live orders need this file: its owner's alone (chmod 600), and no link. Removing it stops them at once."""
    live_override_max_age: Hours | None = None
    """Hours after the override file was last touched from which on it no longer counts; unset: it always does."""
    max_notional: Limit | None = None
    """Largest value of one order, in the contract's currency. Live trading needs it."""
    max_size_per_symbol: Limit | None = None
    """Largest quantity of one order, in units. Live trading needs it."""
    max_open_orders: Annotated[int, Field(ge=0)] = 20
    """Open orders of one contract, side and account; IBKR refuses more than some 20. 0: no limit of the gateway's."""
    duplicate_window: Annotated[float, Field(ge=0, le=3600, allow_inf_nan=False)] = 0.0
    """Seconds within which the same order under another client_order_id is refused; 0: it is another order."""
    audit_db_path: Path | None = None
    """The record's database, its key beside it; unset: data/audit.db, and data/simulation.db in simulation."""
    log_level: Literal["DEBUG", "INFO", "WARNING", "ERROR"] = "INFO"
    """Least severe line to log."""
    log_format: Literal["json", "text"] = "json"
    """json: one object a line; text: for people."""
    grpc_host: str = "127.0.0.1"
    """Address to listen on. Anything but this machine needs TLS and tokens."""
    grpc_port: Port = 50051
    """Port to listen on; 0: a free one."""
    tls_cert_file: Path | None = None
    """The server's certificate and those that signed it, PEM; clients then speak TLS. Needs TLS_KEY_FILE."""
    tls_key_file: Path | None = None
    """Its key, PEM without a passphrase; its owner's alone (chmod 600)."""
    tls_client_ca_file: Path | None = None
    """Certificates, PEM, one of which must have signed a client's own; unset: clients need none."""
    tokens_file: Path | None = None
    """Who may call and for what, as `ibkr-gateway token create` prints; chmod 600. Unset: this machine, everything."""
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

    _env_file: Path | None = PrivateAttr(None)
    _tokens: Tokens | None = PrivateAttr(None)
    _tls: ServerTls | None = PrivateAttr(None)

    @property
    def tokens(self) -> Tokens | None:
        """TOKENS_FILE as it was at the start; None: there are no tokens, and every caller may do everything."""
        return self._tokens

    @property
    def tls(self) -> ServerTls | None:
        """The files of TLS as they were at the start; None: callers speak without it."""
        return self._tls

    @property
    def files(self) -> dict[str, Path]:
        """The files that were read for these settings, by the setting that names each; `.env` by its own name."""
        named = {
            "TOKENS_FILE": self.tokens_file,
            "TLS_CERT_FILE": self.tls_cert_file,
            "TLS_KEY_FILE": self.tls_key_file,
            "TLS_CLIENT_CA_FILE": self.tls_client_ca_file,
            ".env": self._env_file,
        }
        return {name: path for name, path in named.items() if path is not None}

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
        problems = [*self._mode_problems(), *self._live_problems(), *self._record_problems()]
        problems += [*self._tls_problems(), *self._tokens_problems(), *self._address_problems()]
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
        if self.live_trading_override_file is None:
            problems.append("LIVE_TRADING_OVERRIDE_FILE: live orders need it to name a file that is there")
        elif found := override_problem(self.live_trading_override_file, self.live_override_max_age, time.time()):
            problems.append(f"LIVE_TRADING_OVERRIDE_FILE: {found}")
        if self.max_notional is None:
            problems.append("MAX_NOTIONAL: live orders need a limit")
        if self.max_size_per_symbol is None:
            problems.append("MAX_SIZE_PER_SYMBOL: live orders need a limit")
        return problems

    def _record_problems(self) -> Iterator[str]:
        for path in (self.record_path, self.record_path.with_suffix(".key")):
            # What is not there yet is made readable by its owner alone.
            if (path.exists() or path.is_symlink()) and (found := exposure(path)):
                yield f"AUDIT_DB_PATH: the record's {path.suffix or 'file'} {found}"

    def _tls_problems(self) -> Iterator[str]:
        if self.tls_cert_file is None and self.tls_key_file is None:
            if self.tls_client_ca_file is not None:
                yield "TLS_CLIENT_CA_FILE: needs TLS_CERT_FILE and TLS_KEY_FILE as well"
            return
        if self.tls_cert_file is None or self.tls_key_file is None:
            yield f"{'TLS_CERT_FILE' if self.tls_cert_file is None else 'TLS_KEY_FILE'}: TLS needs both files"
            return
        if found := exposure(self.tls_key_file):
            yield f"TLS_KEY_FILE: {found}"
            return
        try:
            self._tls = load_tls(self.tls_cert_file, self.tls_key_file, self.tls_client_ca_file)
        except TlsUnfit as unfit:
            yield str(unfit)

    def _tokens_problems(self) -> Iterator[str]:
        if self.tokens_file is None:
            return
        if found := exposure(self.tokens_file):
            yield f"TOKENS_FILE: {found}"
            return
        try:
            self._tokens = load_tokens(self.tokens_file)
        except TokensInvalid as invalid:
            yield from (f"TOKENS_FILE: {problem}" for problem in invalid.problems)
        except OSError:
            yield "TOKENS_FILE: must name a file that can be read"

    def _address_problems(self) -> Iterator[str]:
        needed = {"TLS_CERT_FILE and TLS_KEY_FILE": self.tls_cert_file, "TOKENS_FILE": self.tokens_file}
        missing = [name for name, path in needed.items() if path is None]
        if missing and not _is_this_machine(self.grpc_host):
            yield f"GRPC_HOST: other machines are served only with {' and '.join(missing)}; or listen on 127.0.0.1"


def load_settings(overrides: Mapping[str, Any] | None = None, *, env_file: str | None = ".env") -> Settings:
    """The settings, with what the command line overrides. Raises SettingsInvalid naming every wrong key, no values."""
    strangers = list(_strangers(env_file))
    try:
        settings = Settings(_env_file=env_file, **(overrides or {}))  # type: ignore[call-arg]  # pydantic-settings' own
    except ValidationError as error:
        problems = []
        for problem in error.errors(include_url=False, include_input=False):
            text = problem["msg"].removeprefix("Value error, ")
            key = ".".join(str(part) for part in problem["loc"][:1]).upper()
            problems += [f"{key}: {text}"] if key else text.split("\n")
        raise SettingsInvalid([*strangers, *problems]) from None
    if strangers:
        raise SettingsInvalid(strangers)
    settings._env_file = None if env_file is None else Path(env_file).absolute()
    return settings


def _strangers(env_file: str | None) -> Iterator[str]:
    """Variables that look like settings and are none: a typo must not leave a switch where it was."""
    known = {name.upper() for name in Settings.model_fields}
    in_file = DotEnvSettingsSource(Settings, env_file=env_file).env_vars if env_file is not None else {}
    named_in_file = {name.upper() for name in in_file} - known - CLIENT_VARIABLES
    named = {name.upper() for name in os.environ} - known - CLIENT_VARIABLES
    for name in sorted(named | named_in_file):
        meant = get_close_matches(name, known, n=1, cutoff=MISSPELT)
        if name.startswith(OUR_PREFIXES) or (meant and name in named_in_file):
            yield f"{name}: is not a setting" + (f"; is {meant[0]} meant?" if meant else "; see .env.example")


def _is_this_machine(host: str) -> bool:
    try:
        return ip_address(host).is_loopback
    except ValueError:
        return host == "localhost"
