"""The operator's commands: `tradefleet migrate`, `tradefleet events`, and those of the domains."""

import json
from uuid import UUID

import click
from alembic.util import CommandError
from sqlalchemy.exc import SQLAlchemyError
from sqlalchemy.orm import Session

from tradefleet.domains import registered
from tradefleet.platform.commands import connected, transact
from tradefleet.platform.events import failures
from tradefleet.platform.postgres import migrator
from tradefleet.platform.postgres.database import MIGRATION_LOCK_MILLISECONDS

_LOCK_NOT_AVAILABLE = "55P03"

application = registered()


@click.group()
@click.pass_context
def main(context: click.Context) -> None:
    """Operate TradeFleet's database; the settings are those of the application."""
    context.obj = application


@main.command()
@click.option("--finalize", is_flag=True, help="Apply contract migrations, too: no former release may run.")
def migrate(finalize: bool) -> None:
    """Migrate the database to the newest schema that the live release tolerates.

    Prints {"from", "to", "changed", "waiting"}; "waiting" are contract migrations.
    """
    try:
        with connected(for_migrations=True) as engine:
            done = migrator.upgrade(engine, finalize=finalize)
    except (SQLAlchemyError, CommandError, migrator.SchemaError) as error:
        raise click.ClickException(f"the migration failed: {error}{_advice(error)}") from error
    click.echo(
        json.dumps(
            {"from": done.before, "to": done.after, "changed": done.before != done.after, "waiting": done.waiting}
        )
    )


@main.group()
def events() -> None:
    """Show failed events and retry them."""


@events.command("failed")
def failed() -> None:
    """Print a line of JSON for each event that was set aside, the oldest first."""
    for row in transact(failures.listed, commit=False):
        click.echo(json.dumps(row._asdict(), default=str))


@events.command("retry")
@click.argument("ids", nargs=-1, type=click.UUID)
def retry(ids: tuple[UUID, ...]) -> None:
    """Move the events with these IDS, or all, back to the outbox; a worker processes them within a minute.

    Prints {"retried", "left"}.
    """

    def work(session: Session) -> tuple[int, int]:
        return failures.retry(session, ids), failures.count(session)

    retried, left = transact(work)
    click.echo(json.dumps({"retried": retried, "left": left}))


for _command in application.commands:
    if _command.name in main.commands:
        raise ValueError(f"two commands are named {_command.name}")
    main.add_command(_command)


def _advice(error: Exception) -> str:
    if getattr(getattr(error, "orig", None), "sqlstate", None) != _LOCK_NOT_AVAILABLE:
        return ""
    return (
        f"\nSomebody else holds a lock that it needs, and it waits no longer than {MIGRATION_LOCK_MILLISECONDS} ms:"
        " later queries would wait behind it. This step is rolled back; repeat the playbook at a quieter time"
    )
