"""`python -m ibkr_gateway_server`: the server. Flags override the environment; exit codes are those of sysexits.h."""

from __future__ import annotations

import argparse
import asyncio
import sys
from typing import Any

from ibkr_gateway_server.logs import configure_logs
from ibkr_gateway_server.settings import Settings, SettingsInvalid, load_settings

EX_DATAERR = 65
EX_UNAVAILABLE = 69
EX_CONFIG = 78
INTERRUPTED = 130


def main(argv: list[str] | None = None) -> int:
    """Start, serve, stop. Returns the exit code."""
    overrides = {name: value for name, value in vars(_parser().parse_args(argv)).items() if value is not None}
    if overrides.pop("mode", None) is not None:
        overrides |= _mode(argv)
    try:
        settings = load_settings(overrides)
    except SettingsInvalid as error:
        return _fail("the settings do not allow a start:\n  " + "\n  ".join(error.problems), EX_CONFIG)
    end_of_logs = configure_logs(settings.log_level, settings.log_format)
    try:
        return _serve(settings)
    finally:
        end_of_logs()


def _serve(settings: Settings) -> int:
    # Whoever asks for help, or has a setting to correct, does not wait for the whole server to be imported.
    from ibkr_gateway_server.app import PortTaken, serve
    from ibkr_gateway_server.audit.files import RecordUnusable

    try:
        with asyncio.Runner(loop_factory=_loop_factory()) as runner:
            runner.run(serve(settings))
    except PortTaken as error:
        return _fail(str(error), EX_UNAVAILABLE)
    except (RecordUnusable, OSError) as error:
        # Never made anew by itself: the record is evidence.
        return _fail(f"AUDIT_DB_PATH: the record cannot be opened: {error}", EX_DATAERR)
    except asyncio.CancelledError:
        return INTERRUPTED
    return 0


def _mode(argv: list[str] | None) -> dict[str, Any]:
    """--mode says both what IBKR_MODE and TRADING_MODE say."""
    mode = _parser().parse_args(argv).mode
    return {"ibkr_mode": mode} if mode == "simulation" else {"ibkr_mode": mode, "trading_mode": mode}


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="ibkr-gateway serve",
        description="The ibkr-gateway server. Safe by default: paper account, orders off.",
        epilog="Every setting can be given in the environment or in .env; see the README's table. Flags win.",
    )
    parser.add_argument(
        "--mode", choices=("paper", "live", "simulation"), help="account to use (IBKR_MODE and TRADING_MODE)"
    )
    parser.add_argument("--host", dest="grpc_host", help="address to listen on (GRPC_HOST)")
    parser.add_argument("--port", dest="grpc_port", help="port to listen on, 0 for a free one (GRPC_PORT)")
    parser.add_argument("--broker-host", dest="ibkr_gateway_host", help="host of TWS or IB Gateway (IBKR_GATEWAY_HOST)")
    parser.add_argument("--broker-port", dest="ibkr_gateway_port", help="its API port (IBKR_GATEWAY_PORT)")
    parser.add_argument("--client-id", dest="ibkr_client_id", help="client id at TWS (IBKR_CLIENT_ID)")
    parser.add_argument("--audit-db", dest="audit_db_path", help="the record's database (AUDIT_DB_PATH)")
    parser.add_argument("--log-format", choices=("json", "text"), help="form of log lines (LOG_FORMAT)")
    parser.add_argument(
        "--log-level", choices=("DEBUG", "INFO", "WARNING", "ERROR"), help="least severe line (LOG_LEVEL)"
    )
    return parser


def _loop_factory() -> Any:
    """uvloop where it is installed. ib_insync makes an event loop of its own at import and cannot run on it."""
    from ibkr_gateway_server.broker.ib import LIBRARY_NAME

    if LIBRARY_NAME == "ib_insync":
        return None
    try:
        import uvloop
    except ImportError:
        return None
    return uvloop.new_event_loop


def _fail(message: str, code: int) -> int:
    print(message, file=sys.stderr)
    return code


if __name__ == "__main__":
    sys.exit(main())
