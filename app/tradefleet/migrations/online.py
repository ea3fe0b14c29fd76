"""The operation for migrations of kind "index": it builds an index while clients read and write."""

from collections.abc import Sequence

from alembic import op
from sqlalchemy import text


def build_index(name: str, table: str, columns: Sequence[str]) -> None:
    """Build an index without blocking writes. It cannot be part of a transaction, so it has a kind of its own.

    A killed run leaves an invalid index with this name, which is dropped and built again. A valid one stays.
    """
    context = op.get_context()
    if context.as_sql or context.connection is None or context.dialect.name != "postgresql":
        op.create_index(name, table, columns, if_not_exists=True, postgresql_concurrently=True)
        return
    with context.autocommit_block():
        connection = context.connection
        # Another migration or a VACUUM FULL may have locked the table: the short lock_timeout ends the wait for it.
        connection.execute(text(f'DO $$ BEGIN LOCK TABLE "{table}" IN SHARE UPDATE EXCLUSIVE MODE; END $$'))
        # From here on it waits for older transactions, such as a dump, and blocks no other session: both
        # limits would only discard the work.
        connection.execute(text("SET statement_timeout = 0"))
        connection.execute(text("SET lock_timeout = 0"))
        valid = text("SELECT indisvalid FROM pg_index WHERE indexrelid = to_regclass(:name)")
        found = connection.execute(valid, {"name": f'"{name}"'}).scalar()
        if found is False:
            connection.execute(text(f'DROP INDEX CONCURRENTLY "{name}"'))
        if not found:
            op.create_index(name, table, columns, postgresql_concurrently=True)
        connection.execute(text("RESET statement_timeout"))
        connection.execute(text("RESET lock_timeout"))
