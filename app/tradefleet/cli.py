"""The operator's commands: `tradefleet migrate`, `tradefleet events` and `tradefleet api-key`."""

import getpass
import json
import os
import socket
import sys
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import asdict
from pathlib import Path
from typing import TypeVar
from uuid import UUID

import click
from alembic.util import CommandError
from flask import Flask
from sqlalchemy import Engine
from sqlalchemy.exc import SQLAlchemyError
from sqlalchemy.orm import Session

from tradefleet import deadline, failures, schema, settings
from tradefleet.auth import keys
from tradefleet.auth.keys import Change, Changes, InvalidKeyError
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
_SYSLOG = "/dev/log"
# Facility 4, severity 6 (RFC 5424).
_AUTH_INFO = 4 * 8 + 6

T = TypeVar("T")


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


@main.group("api-key")
def api_key() -> None:
    """Add, revoke and list the keys of traders. Keys are read from standard input."""


@api_key.command("add")
@click.option("--trader", required=True, help="The trader's name.")
def api_key_add(trader: str) -> None:
    """Give a trader the key on standard input; prints {"changed"}."""
    key = sys.stdin.read().strip()
    with _keys_errors():
        added = _on_keys(lambda session: keys.add(session, trader, key))
    _audit("api key added", [added] if added else [])
    click.echo(json.dumps({"changed": added is not None}))


@api_key.command("revoke")
@click.option("--trader", help="Revoke every key of this trader.")
@click.option("--id", "key_id", help="Revoke the key with this id, see list.")
def api_key_revoke(trader: str | None, key_id: str | None) -> None:
    """Revoke the key on standard input, or what an option names; prints {"changed", "revoked"}.

    No host accepts the key 1 s later, and it can never be added again.
    """
    if trader is not None and key_id is not None:
        raise click.UsageError("give --trader or --id, not both")
    key = sys.stdin.read().strip() if trader is None and key_id is None else ""

    def work(session: Session) -> list[Change]:
        if trader is not None:
            return keys.revoke_trader(session, trader, _operator())
        if key_id is not None:
            return keys.revoke_id(session, key_id, _operator())
        return keys.revoke_key(session, key, _operator())

    with _keys_errors():
        revoked = _on_keys(work)
    _audit("api key revoked", revoked)
    click.echo(json.dumps({"changed": bool(revoked), "revoked": [asdict(change) for change in revoked]}))


@api_key.command("sync")
def api_key_sync() -> None:
    """Add the keys in the list on standard input, and revoke those that it contained before and no longer contains.

    The list is JSON: [{"trader": NAME, "key": KEY}]. Prints {"changed", "added", "adopted", "revoked"}.
    """
    try:
        wanted = [(str(item["trader"]), str(item["key"])) for item in json.load(sys.stdin)]
    except (ValueError, TypeError, KeyError):
        # The text of these errors may contain a key.
        raise click.ClickException('write the list as [{"trader": NAME, "key": KEY}]') from None
    with _keys_errors():
        changes = _on_keys(lambda session: keys.sync(session, wanted, f"{_operator()} (inventory)"))
    _audit("api key added", changes.added)
    _audit("api key adopted by the inventory", changes.adopted)
    _audit("api key revoked", changes.revoked)
    click.echo(json.dumps({"changed": changes != Changes([], [], []), **asdict(changes)}))


@api_key.command("list")
def api_key_list() -> None:
    """Print a line of JSON for each key, accepted or revoked. Keys themselves are stored nowhere."""
    with _keys_errors():
        for line in _on_keys(keys.listing, commit=False):
            click.echo(json.dumps(line))


@contextmanager
def _keys_errors() -> Iterator[None]:
    try:
        yield
    except InvalidKeyError as error:
        raise click.ClickException(str(error)) from error
    except (DatabaseUnavailableError, OutcomeUnknownError, SQLAlchemyError) as error:
        raise click.ClickException(f"nothing was changed, or nobody knows: {error.__cause__ or error}") from error


def _on_keys(work: Callable[[Session], T], *, commit: bool = True) -> T:
    with deadline.budget(KEY_SECONDS), _engine(for_migrations=False) as engine:
        return run(engine, work, commit=commit)


def _operator() -> str:
    return os.environ.get("SUDO_USER") or getpass.getuser()


def _audit(event: str, changes: Sequence[Change]) -> None:
    """Write to the host's log, whatever becomes of the command's own output."""
    try:
        with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as host_log:
            host_log.connect(_SYSLOG)
            for change in changes:
                line = {"message": event, "trader": change.trader, "key_id": change.id, "operator": _operator()}
                host_log.send(f"<{_AUTH_INFO}>tradefleet: {json.dumps(line)}".encode())
    except OSError as error:
        click.echo(f"not written to the host's log ({_SYSLOG}): {error}", err=True)
