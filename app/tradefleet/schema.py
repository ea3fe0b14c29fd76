"""The database's schema: which revision it has, and how it gets to the newest one."""

from dataclasses import dataclass
from functools import cache

from alembic import command
from alembic.config import Config
from alembic.migration import MigrationContext
from alembic.script import ScriptDirectory
from sqlalchemy import Connection, Engine, text

# An arbitrary number that every run of this application's migrations agrees on.
_LOCK = 7_233_011_946


@dataclass(frozen=True)
class Migrated:
    """The revisions before and after; None before the first."""

    before: str | None
    after: str


def _config() -> Config:
    config = Config()
    config.set_main_option("script_location", "tradefleet:migrations")
    return config


@cache
def head_revision() -> str:
    """Return the newest revision that this code knows."""
    head = ScriptDirectory.from_config(_config()).get_current_head()
    if head is None:
        raise RuntimeError("the package holds no migrations")
    return head


def _known(revision: str) -> bool:
    scripts = ScriptDirectory.from_config(_config())
    return revision in {script.revision for script in scripts.walk_revisions()}


def current_revision(connection: Connection) -> str | None:
    """Return the database's revision, or None where nothing was migrated yet."""
    return MigrationContext.configure(connection).get_current_revision()


def upgrade(engine: Engine) -> Migrated:
    """Bring the database to the newest revision, one transaction for each step.

    Two runs never overlap: the second waits for the first as long as the engine's lock_timeout allows.
    A database that a newer release has migrated stays as it is: this release runs on it, or it was never an expansion.

    Raises:
        sqlalchemy.exc.DBAPIError: no connection, no lock, or a step failed; finished steps stay.

    """
    with engine.connect() as connection:
        if engine.dialect.name == "postgresql":
            # It belongs to the session, so it outlives each step's transaction and ends with the connection.
            connection.execute(text("SELECT pg_advisory_lock(:id)"), {"id": _LOCK})
            connection.commit()
        before = current_revision(connection)
        connection.commit()
        if before is None or _known(before):
            config = _config()
            config.attributes["connection"] = connection
            command.upgrade(config, "head")
        after = current_revision(connection) or head_revision()
        connection.commit()
        connection.detach()  # never back to a pool with the lock still held
    return Migrated(before, after)
