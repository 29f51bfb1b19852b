"""What is written, as statements that are made once: SQLAlchemy takes longer to build one for its values than SQLite
takes to run it."""

from __future__ import annotations

from collections.abc import Collection

from sqlalchemy import Table, bindparam, func, insert, update
from sqlalchemy.dialects.sqlite import Insert
from sqlalchemy.dialects.sqlite import insert as upsert

from ibkr_gateway_server.audit import schema


def _upsert(table: Table, *, keeps: Collection[str]) -> Insert:
    """Insert a row, or change the one with its key, all but the columns that it keeps from its first time."""
    statement = upsert(table)
    key = [column.name for column in table.primary_key]
    changed = {column.name: statement.excluded[column.name] for column in table.c if column.name not in {*key, *keeps}}
    return statement.on_conflict_do_update(index_elements=key, set_=changed)


APPEND = insert(schema.events)
SAVE_ORDER = _upsert(schema.orders, keeps={"intent_sequence"})
SAVE_MODIFICATION = _upsert(schema.modifications, keeps=())
SAVE_EXECUTION = _upsert(schema.executions, keeps={"sequence", "is_superseded"})
SUPERSEDE = (
    update(schema.executions)
    .where(func.substr(schema.executions.c.execution_id, 1, func.length(bindparam("stem"))) == bindparam("stem"))
    .where(schema.executions.c.execution_id < bindparam("newest"))
    .values(is_superseded=1)
)
_floor = upsert(schema.floors)
RAISE_FLOOR = _floor.on_conflict_do_update(
    index_elements=["client_id"], set_={"order_id": func.max(schema.floors.c.order_id, _floor.excluded.order_id)}
)
