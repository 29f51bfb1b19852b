"""Versions of the database: what turns each into the next.

A database is brought to this gateway's version when it is opened, all of it in one transaction: it is afterwards of
the new version or, when anything fails, still what it was. The version is SQLite's own number for that, `user_version`.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping

from sqlalchemy import Connection

from ibkr_gateway_server.audit import schema
from ibkr_gateway_server.audit.files import RecordUnusable

Step = Callable[[Connection], None]

# By the version that a step leads to.
STEPS: Mapping[int, Step] = {}


class WrongSchema(RecordUnusable):
    """The database was written by a newer gateway, or by another program."""


def migrate(connection: Connection, *, target: int = schema.VERSION, steps: Mapping[int, Step] = STEPS) -> int:
    """Bring the database to `target`, within the transaction that is open. Returns the version it had; 0: it is new.

    Raises WrongSchema.
    """
    found: int = connection.exec_driver_sql("PRAGMA user_version").scalar_one()
    if found == 0:
        if connection.exec_driver_sql("SELECT count(*) FROM sqlite_master").scalar_one():
            raise WrongSchema("the database is another program's", "let AUDIT_DB_PATH name a file of its own")
        schema.create(connection)
    for version in range(found + 1, target + 1) if found else ():
        if version not in steps:
            raise WrongSchema(f"nothing leads from version {version - 1} of the record to {version}", _ANOTHER)
        steps[version](connection)
    if found > target:
        raise WrongSchema(f"the record has version {found}, and this gateway writes version {target}", _ANOTHER)
    if found != target:
        connection.exec_driver_sql(f"PRAGMA user_version = {target}")
    return found


_ANOTHER = "run the version of the gateway that wrote it, or a newer one"
