"""The operator's commands: `tradefleet migrate`, `tradefleet events` and `tradefleet api-key`."""

import json
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from uuid import UUID

import click
from alembic.util import CommandError
from flask import Flask
from sqlalchemy import Engine
from sqlalchemy.exc import SQLAlchemyError

from tradefleet import deadline, failures, schema, settings
from tradefleet.auth.services import InvalidKeyError, ensure_key
from tradefleet.database import (
    MIGRATION_LOCK_MILLISECONDS,
    DatabaseUnavailableError,
    OutcomeUnknownError,
    make_engine,
    run,
)
from tradefleet.settings import SettingsError

KEY_SECONDS = 10.0
EVENTS_SECONDS = 10.0
_LOCK_NOT_AVAILABLE = "55P03"


@click.group()
def main() -> None:
    """Operate TradeFleet's database; the settings are those of the application."""


@contextmanager
def _engine(*, for_migrations: bool) -> Iterator[Engine]:
    try:
        chosen = settings.load()
    except SettingsError as error:
        raise click.ClickException(str(error)) from error
    folder = Path(Flask("tradefleet").instance_path)
    if not chosen.database.hosts:
        folder.mkdir(parents=True, exist_ok=True)
    engine = make_engine(chosen.database, folder, for_migrations=for_migrations)
    try:
        yield engine
    finally:
        engine.dispose()


@main.command()
@click.option("--finalize", is_flag=True, help="Apply contract migrations too: no former release may run any more.")
def migrate(finalize: bool) -> None:
    """Bring the database to the newest schema that the release which serves runs on.

    Prints {"from", "to", "changed", "waiting"}: what waits are contract migrations.
    """
    try:
        with _engine(for_migrations=True) as engine:
            done = schema.upgrade(engine, finalize=finalize)
    except (SQLAlchemyError, CommandError, schema.SchemaError) as error:
        raise click.ClickException(f"the migration failed: {error}{_advice(error)}") from error
    click.echo(
        json.dumps(
            {"from": done.before, "to": done.after, "changed": done.before != done.after, "waiting": done.waiting}
        )
    )


@main.group()
def events() -> None:
    """Show events whose effect failed, and try them again."""


@contextmanager
def _events_engine() -> Iterator[Engine]:
    try:
        with deadline.budget(EVENTS_SECONDS), _engine(for_migrations=False) as engine:
            yield engine
    except (DatabaseUnavailableError, OutcomeUnknownError, SQLAlchemyError) as error:
        raise click.ClickException(f"nothing was done, or nobody knows: {error.__cause__ or error}") from error


@events.command("failed")
def failed() -> None:
    """Print a line of JSON for each event that was set aside, the oldest first."""
    with _events_engine() as engine:
        for row in run(engine, failures.listed, commit=False):
            click.echo(json.dumps(row._asdict(), default=str))


@events.command("retry")
@click.argument("ids", nargs=-1, type=click.UUID)
def retry(ids: tuple[UUID, ...]) -> None:
    """Move the events with these IDS, or all, back to the outbox; a worker takes them within a minute.

    Prints {"retried", "left"}.
    """
    with _events_engine() as engine:
        moved = run(engine, lambda session: failures.retry(session, ids), commit=True)
        left = run(engine, failures.count, commit=False)
    click.echo(json.dumps({"retried": moved, "left": left}))


def _advice(error: Exception) -> str:
    if getattr(getattr(error, "orig", None), "sqlstate", None) != _LOCK_NOT_AVAILABLE:
        return ""
    return (
        f"\nSomebody else holds a lock that it needs, and it waits no longer than {MIGRATION_LOCK_MILLISECONDS} ms:"
        " whoever comes after it would wait too. This step is undone; type the verb again, at a quieter time"
    )


@main.command("api-key")
@click.option("--trader", required=True, help="The trader's name.")
def api_key(trader: str) -> None:
    """Give a trader the key that stands on standard input; prints {"changed"}."""
    key = sys.stdin.read().strip()
    try:
        with deadline.budget(KEY_SECONDS), _engine(for_migrations=False) as engine:
            changed = run(engine, lambda session: ensure_key(session, trader, key), commit=True)
    except InvalidKeyError as error:
        raise click.ClickException(str(error)) from error
    except (DatabaseUnavailableError, OutcomeUnknownError, SQLAlchemyError) as error:
        raise click.ClickException(f"the key was not stored, or nobody knows: {error.__cause__ or error}") from error
    click.echo(json.dumps({"changed": changed}))
