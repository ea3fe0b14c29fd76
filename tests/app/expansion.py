"""What a migration does, and which of it an expansion may not do: whatever a statement of older code could trip over.

Only what is known to be harmless passes. Tables that the migration itself creates are its own affair. An index on any
other is built online, by a migration that does nothing else.
"""

import io
import re
from collections.abc import Callable
from typing import Any
from unittest.mock import patch

from alembic.migration import MigrationContext
from alembic.operations import Operations, ops
from alembic.operations.base import AbstractOperations

# Raw SQL: the beginnings that pass. A column may be added with them as well, see _objections_to_sql.
_HARMLESS = re.compile(r"CREATE TABLE|INSERT INTO|UPDATE|COMMENT ON", re.IGNORECASE)
_ADDS_COLUMN = re.compile(r"ALTER TABLE (IF EXISTS )?(ONLY )?[\w.\"]+ ADD (COLUMN )?", re.IGNORECASE)
_TROUBLE = re.compile(r"\b(DROP|RENAME|ALTER|TYPE|CONSTRAINT|UNIQUE|CHECK|PRIMARY|EXCLUDE|ADD|TRUNCATE|DELETE)\b", re.I)


def _asked(upgrade: Callable[[], None]) -> list[ops.MigrateOperation | str]:
    """Return what a migration asks Alembic for, in its words where it is no operation. Nothing is done, nowhere."""
    asked: list[ops.MigrateOperation | str] = []
    options = {"as_sql": True, "output_buffer": io.StringIO()}
    context = MigrationContext.configure(dialect_name="postgresql", opts=options)

    def invoke(_: Operations, operation: ops.MigrateOperation) -> Any:
        asked.append(operation)
        # Rows may be inserted into it.
        return operation.to_table(context) if isinstance(operation, ops.CreateTableOp) else None

    def get_bind(_: Operations) -> None:
        asked.append("uses the connection itself (get_bind), and what it does there cannot be read")

    # Alembic's own base of `op` and of what batch_alter_table gives.
    with (
        patch.multiple(AbstractOperations, invoke=invoke, get_bind=get_bind),
        Operations.context(context),
    ):
        upgrade()
    return asked


def tables(upgrade: Callable[[], None]) -> set[str] | None:
    """Return the tables that a migration names, None where that cannot be read from what it asks Alembic for."""
    found: set[str] = set()
    for one in _asked(upgrade):
        if isinstance(one, str | ops.ExecuteSQLOp):
            return None
        # What inserts rows has the table itself.
        found.add(one.table.name if isinstance(one, ops.BulkInsertOp) else getattr(one, "table_name", ""))
    return found - {""}


def objections(upgrade: Callable[[], None]) -> list[str]:
    """Return what a migration does that an expansion may not do."""
    own: set[str] = set()
    found: list[str] = []
    for one in _asked(upgrade):
        if isinstance(one, str):
            found.append(one)
        elif isinstance(one, ops.CreateTableOp):
            own.add(one.table_name)
        elif getattr(one, "table_name", None) not in own:
            found += _objections_to(one)
    return found


def objections_to_index(upgrade: Callable[[], None]) -> list[str]:
    """Return what a migration does beside building indexes online."""
    return [
        f"does not build an index online: {one if isinstance(one, str) else type(one).__name__}"
        for one in _asked(upgrade)
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
        # False says that it stays as it is, None that it is dropped.
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
            found.append(f"executes «{sql}»")
    return found
