"""Versions of the database: what turns each into the next.

A database is brought to this gateway's version when it is opened, all of it in one transaction: it is afterwards of
the new version or, when anything fails, still what it was. The version is SQLite's own number for that, `user_version`.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping

from sqlalchemy import Connection, insert

from ibkr_gateway_server.audit import schema
from ibkr_gateway_server.audit.files import RecordUnusable

Step = Callable[[Connection], None]

# What the terms of a leg were in version 1.
_TERMS = ("order_type", "side", "quantity", "time_in_force", "limit_price", "stop_price")


def _legs(connection: Connection) -> None:
    """To 2: an order is a leg of an intent, with terms of its own. What was one order is an intent of one leg."""
    rows = connection.exec_driver_sql("SELECT * FROM orders").mappings().all()
    connection.exec_driver_sql("DROP TABLE orders")
    schema.create(connection)
    for row in rows:
        spec, status = json.loads(row["spec_json"]), json.loads(row["status_json"])
        terms = {name: spec.get(name) for name in _TERMS} | {"role": "ENTRY"}
        status["leg_role"] = "ENTRY"
        added = {
            "leg_role": "ENTRY",
            "principal": "",
            "account_id": status["account_id"],
            "terms_json": json.dumps(terms),
            "status_json": json.dumps(status),
        }
        connection.execute(insert(schema.orders).values({**row, **added}))


# By the version that a step leads to.
STEPS: Mapping[int, Step] = {2: _legs}


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
