"""A separate database on the scenario's PostgreSQL, on which tests run the application's own code."""

import os
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

from alembic.config import Config
from locks import wait
from sqlalchemy import Connection, Engine, create_engine, text
from testinfra.host import Host
from tradefleet import migrations
from tradefleet.platform.postgres import migrator
from tradefleet.platform.postgres.database import make_engine
from tradefleet.platform.settings import Address, DatabaseSettings

ADDRESS = "10.203.0.108"
OWNER, PASSWORD = "tradefleet_owner", "molecule-owner"


def settings(host: Host, folder: Path) -> DatabaseSettings:
    """Return the settings with which the owner of the tables connects to the database."""
    authority = folder / "ca.crt"
    authority.write_bytes(host.file("/etc/ssl/tradefleet/ca.crt").content)
    return DatabaseSettings(
        hosts=(Address(ADDRESS, 5432),), name="trial", user=OWNER, ca_file=str(authority), password=PASSWORD
    )


@contextmanager
def database(host: Host, folder: Path) -> Iterator[DatabaseSettings]:
    """Create the database with the schema of this code; drop it afterward, even if clients are connected."""
    psql = "runuser -u postgres -- psql -qX"
    drop = f"{psql} -c 'DROP DATABASE IF EXISTS trial WITH (FORCE)'"
    host.check_output(f"{drop} && {psql} -c 'CREATE DATABASE trial OWNER {OWNER}'")
    found = settings(host, folder)
    engine = make_engine(found, folder, for_migrations=True)
    try:
        migrator.upgrade(engine)
        yield found
    finally:
        engine.dispose()
        host.check_output(drop)


@contextmanager
def dump(engine: Engine) -> Iterator[Connection]:
    """Hold a snapshot during the block, as a dump does."""
    other = create_engine(engine.url, creator=engine.pool._creator)
    try:
        with other.connect().execution_options(isolation_level="REPEATABLE READ") as connection:
            connection.execute(text("SELECT count(*) FROM orders"))
            yield connection
    finally:
        other.dispose()


def release(folder: Path, migration: str) -> Callable[[], Config]:
    """Write a release's one further migration, n1; return the replacement of `migrator._config` for that release."""
    folder.mkdir()
    (folder / "n1.py").write_text(
        "from alembic import op\nfrom tradefleet.migrations.online import build_index\n"
        f'revision = "n1"\ndown_revision = "{migrator.head_revision()}"\n{migration}\n'
    )
    config = Config()
    config.set_main_option("script_location", "tradefleet:migrations")
    config.set_main_option("path_separator", "os")
    own = str(Path(migrations.__file__).parent / "versions")
    config.set_main_option("version_locations", os.pathsep.join((own, str(folder))))
    return lambda: config


def builds(engine: Engine) -> bool:
    """Return whether an index is being built."""
    with engine.connect() as connection:
        return bool(connection.execute(text("SELECT count(*) FROM pg_stat_progress_create_index")).scalar())


def wait_for_build(engine: Engine, phase: str) -> None:
    """Wait until the build of an index reaches this phase."""

    def is_there() -> bool:
        with engine.connect() as connection:
            return phase in connection.execute(text("SELECT phase FROM pg_stat_progress_create_index")).scalars().all()

    wait(is_there, 20)
