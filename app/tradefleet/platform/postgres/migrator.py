"""The database's schema: which migrations are applied, whether this code can use them, and how to apply more.

A migration is an expansion, which the running code tolerates; an index, which is an expansion that is built online; or
a contraction, which removes what a former release needs, and so waits until no former release runs. The database
records the applied migrations and their kinds, so that a release can judge migrations that it does not know.
"""

from collections.abc import Collection, Mapping
from contextlib import ExitStack
from dataclasses import dataclass
from functools import cache
from typing import Any

from alembic import command
from alembic.config import Config
from alembic.migration import MigrationContext
from alembic.runtime.migration import MigrationInfo
from alembic.script import ScriptDirectory
from sqlalchemy import Column, Connection, Engine, String, Table, insert, select, text
from sqlalchemy.exc import ProgrammingError

from tradefleet.platform import deadline
from tradefleet.platform.postgres.database import Base

EXPAND, CONTRACT, INDEX = KINDS = ("expand", "contract", "index")
APPLIED = Table(
    "applied_migrations",
    Base.metadata,
    Column("revision", String(32), primary_key=True),
    Column("kind", String(8), nullable=False),
)
# The migration that creates the table. It records itself, as later ones do, and the earlier ones.
_KEPT_SINCE = "0002"
_UNDEFINED_TABLE = "42P01"
# An arbitrary number, the same for every run of this application's migrations.
_LOCK = 7_233_011_946
# For a statement of a migration that does not declare `statement_seconds`.
STATEMENT_SECONDS = 60
# The client waits longer than the server: for a migration with all its statements, and for an index.
MIGRATION_SECONDS = 1800
INDEX_SECONDS = 86_400
# For finding the pending migrations, including the wait for another run.
PLAN_SECONDS = 30


class SchemaError(Exception):
    """The migrations of this code and of the database are incompatible; the message names one and the reason."""


@dataclass(frozen=True)
class Migrated:
    """The revisions before and after (None before the first), and the contract migrations that wait."""

    before: str | None
    after: str
    waiting: tuple[str, ...] = ()


def _config() -> Config:
    config = Config()
    config.set_main_option("script_location", "tradefleet:migrations")
    return config


@cache
def known() -> dict[str, str]:
    """Return the migrations of this code, the oldest first: revision -> kind.

    Raises:
        SchemaError: one of them declares no kind.

    """
    scripts = reversed(list(ScriptDirectory.from_config(_config()).walk_revisions()))
    kinds: dict[str, str] = {}
    for script in scripts:
        kind = getattr(script.module, "kind", "")
        if kind not in KINDS:
            expected = ", ".join(f'"{each}"' for each in KINDS)
            raise SchemaError(f"migration {script.revision} has no kind: write kind = one of {expected} in it")
        kinds[script.revision] = kind
    return kinds


def head_revision() -> str:
    """Return the newest revision of this code."""
    return list(known())[-1]


def current_revision(connection: Connection) -> str | None:
    """Return the database's revision, or None before the first migration."""
    return MigrationContext.configure(connection).get_current_revision()


def misfit(connection: Connection) -> str:
    """Return why this code cannot run on the database's schema, with the migration, or "". This is one query."""
    try:
        rows = connection.execute(select(APPLIED.c.revision, APPLIED.c.kind)).all()
    except ProgrammingError as error:
        if getattr(error.orig, "sqlstate", None) != _UNDEFINED_TABLE:
            raise
        return f"lacks migration {_KEPT_SINCE}"
    return _judge({row.revision: row.kind for row in rows})


def _judge(applied: Mapping[str, str]) -> str:
    lacking = [revision for revision, kind in known().items() if kind != CONTRACT and revision not in applied]
    if lacking:
        return f"lacks migration {', '.join(lacking)}"
    foreign = [revision for revision, kind in sorted(applied.items()) if kind == CONTRACT and revision not in known()]
    if foreign:
        return f"has contract migration {', '.join(foreign)}, which this release does not know"
    return ""


def upgrade(engine: Engine, *, finalize: bool = False) -> Migrated:
    """Migrate to the newest revision before the first contract migration, with one transaction for each step.

    A step may take as long as it declares; an index, which is built outside of transactions, has no such limit.

    With `finalize`, and in an empty database, contract migrations are applied, too. Two runs never overlap: the second
    waits for the first as long as the engine's lock_timeout allows. A database that a newer release has migrated stays
    unchanged.

    Raises:
        SchemaError: this code cannot use the schema, or an expansion comes after a contraction that has to wait;
            nothing was changed.
        sqlalchemy.exc.DBAPIError: no connection, no lock, or a step failed; finished steps stay.

    """
    with ExitStack() as stack:
        with deadline.budget(PLAN_SECONDS):
            connection = stack.enter_context(engine.connect())
            stack.callback(connection.invalidate)  # never back to the pool with the lock still held
            if engine.dialect.name == "postgresql":
                # The lock belongs to the session: it lasts beyond each step's transaction, until the connection ends.
                connection.execute(text("SELECT pg_advisory_lock(:id)"), {"id": _LOCK})
                connection.commit()
            before = current_revision(connection)
            if before is not None and before not in known():
                if reason := misfit(connection):
                    raise SchemaError(
                        f"the database is at migration {before} and does not carry this release: it {reason}"
                    )
                plan = Migrated(before, before)
            else:
                plan = _plan(before, finalize=finalize or before is None)
            connection.commit()
        if plan.after != before:
            _apply(connection, plan)
    return plan


def _apply(connection: Connection, plan: Migrated) -> None:
    config = _config()
    config.attributes["connection"] = connection
    if connection.dialect.name != "postgresql":
        command.upgrade(config, plan.after)
        return
    revisions = list(known())
    begin = 0 if plan.before is None else revisions.index(plan.before) + 1
    for revision in revisions[begin : revisions.index(plan.after) + 1]:
        seconds = statement_seconds(revision)
        with deadline.budget(INDEX_SECONDS if known()[revision] == INDEX else max(MIGRATION_SECONDS, 2 * seconds)):
            connection.execute(text(f"SET statement_timeout = '{seconds}s'"))
            connection.commit()
            command.upgrade(config, revision)


def statement_seconds(revision: str) -> int:
    """Return the seconds that a statement of the migration may take.

    Raises:
        SchemaError: the migration declares something that is not a number of seconds.

    """
    script = ScriptDirectory.from_config(_config()).get_revision(revision)
    seconds = getattr(script.module, "statement_seconds", STATEMENT_SECONDS)
    if not isinstance(seconds, int) or not 0 < seconds <= INDEX_SECONDS:
        raise SchemaError(f"migration {revision}: write statement_seconds = 1 to {INDEX_SECONDS}, not {seconds!r}")
    return seconds


def _plan(before: str | None, *, finalize: bool) -> Migrated:
    revisions = list(known())
    begin = 0 if before is None else revisions.index(before) + 1
    pending = revisions[begin:]
    waiting = tuple(revision for revision in pending if known()[revision] == CONTRACT)
    if finalize or not waiting:
        return Migrated(before, revisions[-1])
    free = pending[: pending.index(waiting[0])]
    behind = [revision for revision in pending[len(free) :] if known()[revision] != CONTRACT]
    if behind:
        raise SchemaError(
            f"migration {behind[0]} comes after contract migration {waiting[0]}, which is not applied. Finalize the"
            f" release that brought {waiting[0]} first (`make finalize`), then deploy this one again; if this release"
            f" brings both, leave {behind[0]} to the next one. Nothing was changed"
        )
    return Migrated(before, free[-1] if free else revisions[begin - 1], waiting)


def note_applied(
    ctx: MigrationContext, step: MigrationInfo, heads: Collection[Any], run_args: Mapping[str, Any]
) -> None:
    """Record the migration that was just applied. Alembic calls this in the migration's own transaction."""
    revision = str(step.up_revision_id)
    if list(known()).index(revision) >= list(known()).index(_KEPT_SINCE):
        if ctx.connection is None:
            raise RuntimeError("migrations are applied on a connection")
        ctx.connection.execute(insert(APPLIED).values(revision=revision, kind=known()[revision]))
