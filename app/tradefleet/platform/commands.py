"""Helpers of the operator's commands: the database from the settings, and transactions with a time limit."""

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TypeVar

import click
from flask import Flask
from sqlalchemy import Engine
from sqlalchemy.exc import SQLAlchemyError
from sqlalchemy.orm import Session

from tradefleet.platform import deadline, settings
from tradefleet.platform.application import Application
from tradefleet.platform.postgres.database import DatabaseUnavailableError, OutcomeUnknownError, make_engine, run
from tradefleet.platform.settings import SettingsError

SECONDS = 10.0

T = TypeVar("T")


@contextmanager
def connected(*, for_migrations: bool = False) -> Iterator[Engine]:
    """Yield an engine of the database that the settings name.

    Raises:
        click.ClickException: the settings are not usable; the message states the reason.

    """
    application = click.get_current_context().find_object(Application)
    try:
        chosen = settings.load(application.settings if application else ())
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


def transact(work: Callable[[Session], T], *, commit: bool = True) -> T:
    """Run `work` in one transaction within SECONDS; commit it, or roll it back if it only reads.

    Raises:
        click.ClickException: the settings are not usable, or the database failed.

    """
    try:
        with deadline.budget(SECONDS), connected() as engine:
            return run(engine, work, commit=commit)
    except (DatabaseUnavailableError, OutcomeUnknownError, SQLAlchemyError) as error:
        raise click.ClickException(
            f"nothing was changed, or the outcome is unknown: {error.__cause__ or error}"
        ) from error
