"""The operations of a migration, and those that an expansion may not perform, because older code could fail on them.

Only operations that are known to be harmless pass. Tables that the migration itself creates are exempt. An index on
another table is built online, by a migration that does nothing else.
"""

import io
import re
from collections.abc import Callable
from typing import Any
from unittest.mock import patch

from alembic.migration import MigrationContext
from alembic.operations import Operations, ops
from alembic.operations.base import AbstractOperations

# Permitted beginnings of raw SQL. It may also add a column, see _objections_to_sql.
_HARMLESS = re.compile(r"CREATE TABLE|INSERT INTO|UPDATE|COMMENT ON", re.IGNORECASE)
_ADDS_COLUMN = re.compile(r"ALTER TABLE (IF EXISTS )?(ONLY )?[\w.\"]+ ADD (COLUMN )?", re.IGNORECASE)
_TROUBLE = re.compile(r"\b(DROP|RENAME|ALTER|TYPE|CONSTRAINT|UNIQUE|CHECK|PRIMARY|EXCLUDE|ADD|TRUNCATE|DELETE)\b", re.I)


def _operations(upgrade: Callable[[], None]) -> list[ops.MigrateOperation | str]:
    """Return the operations that a migration requests from Alembic, or a description of others. Nothing is executed."""
    found: list[ops.MigrateOperation | str] = []
    options = {"as_sql": True, "output_buffer": io.StringIO()}
    context = MigrationContext.configure(dialect_name="postgresql", opts=options)

    def invoke(_: Operations, operation: ops.MigrateOperation) -> Any:
        found.append(operation)
        # Rows may be inserted into it.
        return operation.to_table(context) if isinstance(operation, ops.CreateTableOp) else None

    def get_bind(_: Operations) -> None:
        found.append("uses the connection itself (get_bind), and what it does there cannot be read")

    # Alembic's own base class of `op` and of the result of batch_alter_table.
    with (
        patch.multiple(AbstractOperations, invoke=invoke, get_bind=get_bind),
        Operations.context(context),
    ):
        upgrade()
    return found


def tables(upgrade: Callable[[], None]) -> set[str] | None:
    """Return the tables that a migration names; None if an operation does not show its table."""
    found: set[str] = set()
    for one in _operations(upgrade):
        if isinstance(one, str | ops.ExecuteSQLOp):
            return None
        # A bulk insert contains the table itself.
        found.add(one.table.name if isinstance(one, ops.BulkInsertOp) else getattr(one, "table_name", ""))
    return found - {""}


def objections(upgrade: Callable[[], None]) -> list[str]:
    """Return the operations of a migration that an expansion may not perform."""
    own: set[str] = set()
    found: list[str] = []
    for one in _operations(upgrade):
        if isinstance(one, str):
            found.append(one)
        elif isinstance(one, ops.CreateTableOp):
            own.add(one.table_name)
        elif getattr(one, "table_name", None) not in own:
            found += _objections_to(one)
    return found


def objections_to_index(upgrade: Callable[[], None]) -> list[str]:
    """Return the operations of a migration that are not online builds of indexes."""
    return [
        f"does not build an index online: {one if isinstance(one, str) else type(one).__name__}"
        for one in _operations(upgrade)
        if not (
            isinstance(one, ops.CreateIndexOp)
            and one.if_not_exists
            and one.kw.get("postgresql_concurrently")
            and not one.unique
        )
    ]


def _objections_to(one: ops.MigrateOperation) -> list[str]:
    if isinstance(one, ops.BulkInsertOp | ops.CreateTableCommentOp | ops.DropTableCommentOp):
        return []
    if isinstance(one, ops.ExecuteSQLOp):
        return _objections_to_sql(str(one.sqltext))
    if isinstance(one, ops.CreateIndexOp):
        if one.unique:
            return [f"makes {one.table_name} unique by {one.index_name}"]
        return [
            f'blocks writes to {one.table_name} while {one.index_name} is built: write kind = "index", build_index()'
        ]
    if isinstance(one, ops.AddColumnOp):
        name = f"{one.table_name}.{one.column.name}"
        if not one.column.nullable and one.column.server_default is None:
            return [f"adds {name}, NOT NULL without server_default"]
        return [f"adds {name}, unique"] if one.column.unique else []
    if isinstance(one, ops.AlterColumnOp):
        keeps = one.modify_type is None and one.modify_name is None and one.modify_nullable is not False
        # False means that it stays unchanged, None that it is dropped.
        if keeps and one.modify_server_default is not None:
            return []
    return [f"{type(one).__name__.removesuffix('Op')} on {getattr(one, 'table_name', 'something')}"]


def _objections_to_sql(text: str) -> list[str]:
    found = []
    for statement in re.sub(r"--[^\n]*|/\*.*?\*/", " ", text, flags=re.DOTALL).split(";"):
        sql = " ".join(statement.split())
        adds = _ADDS_COLUMN.match(sql)
        rest = sql[adds.end() :] if adds else ""
        needs_default = "NOT NULL" in rest.upper() and "DEFAULT" not in rest.upper()
        harmless = bool(_HARMLESS.match(sql)) or bool(adds and not _TROUBLE.search(rest) and not needs_default)
        if sql and not harmless:
            found.append(f"executes `{sql}`")
    return found
