"""What a migration of kind "index" consists of: an index that is built while everybody reads and writes."""

from collections.abc import Sequence

from alembic import op
from sqlalchemy import text


def build_index(name: str, table: str, columns: Sequence[str]) -> None:
    """Build an index without blocking writes, in a class of its own because it cannot be part of a transaction.

    A run that was killed leaves an invalid index of this name behind; it is dropped and built again. A valid one stays.
    """
    context = op.get_context()
    if context.as_sql or context.connection is None or context.dialect.name != "postgresql":
        op.create_index(name, table, columns, if_not_exists=True, postgresql_concurrently=True)
        return
    with context.autocommit_block():
        connection = context.connection
        # Another migration or a VACUUM FULL may have the table: the short lock_timeout ends the wait for it.
        connection.execute(text(f'DO $$ BEGIN LOCK TABLE "{table}" IN SHARE UPDATE EXCLUSIVE MODE; END $$'))
        # From here on it waits for transactions that are older than it, a dump for example, and blocks nobody: both
        # limits would only throw the work away.
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
