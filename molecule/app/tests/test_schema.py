"""Long migrations: declared timeouts apply, and an index is built while orders are written."""

import os
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest
from locks import wait
from sqlalchemy import Engine, text
from sqlalchemy.exc import DBAPIError
from testinfra.host import Host
from tradefleet.platform import deadline
from tradefleet.platform.postgres import migrator
from tradefleet.platform.postgres.database import make_engine
from tradefleet.platform.settings import DatabaseSettings
from trial import builds, dump, release, wait_for_build
from trial import database as trial_database

WAITS = "waiting for old snapshots"
INDEX = 'kind = "index"\ndef upgrade():\n    build_index("ix_orders_symbol", "orders", ["symbol"])\n'
# The result of a killed controller: a client that vanishes during the build.
CLIENT = """
import sys
from pathlib import Path
from tradefleet.platform.postgres import migrator
from tradefleet.platform.postgres.database import make_engine
from tradefleet.platform.settings import Address, DatabaseSettings
from trial import release
folder, authority, host, port, user, password = sys.argv[1:]
migrator._config = release(Path(folder), Path(folder + ".py").read_text())
migrator.known.cache_clear()
found = DatabaseSettings((Address(host, int(port)),), (), "", "trial", user, authority, password)
migrator.upgrade(make_engine(found, Path(folder), for_migrations=True))
"""


@pytest.fixture
def found(host: Host, tmp_path: Path) -> Iterator[DatabaseSettings]:
    """A database with the schema of this code."""
    with trial_database(host, tmp_path) as found:
        yield found


@pytest.fixture
def engine(found: DatabaseSettings, tmp_path: Path) -> Iterator[Engine]:
    """A client of the database like that of any request."""
    engine = make_engine(found, tmp_path)
    yield engine
    engine.dispose()


def upgrade(found: DatabaseSettings, folder: Path) -> migrator.Migrated:
    """Migrate with a separate connection, as `tradefleet migrate` does."""
    engine = make_engine(found, folder, for_migrations=True)
    try:
        return migrator.upgrade(engine)
    finally:
        engine.dispose()


def become(monkeypatch: pytest.MonkeyPatch, folder: Path, migration: str) -> None:
    """Turn this code into a release with one further migration."""
    monkeypatch.setattr(migrator, "_config", release(folder, migration))
    monkeypatch.setattr(migrator, "known", migrator.known.__wrapped__)


def is_valid(engine: Engine) -> bool | None:
    """Return whether the index is usable; None if it does not exist."""
    query = "SELECT indisvalid FROM pg_index WHERE indexrelid = to_regclass('ix_orders_symbol')"
    with engine.connect() as connection:
        return connection.execute(text(query)).scalar()


def place(engine: Engine) -> None:
    """Write rows that an order's index must contain; more than a second counts as blocked."""
    order = (
        "INSERT INTO orders SELECT gen_random_uuid(), id, gen_random_uuid()::text, '', 'AAPL', 'buy', 'market', 1,"
        " NULL, 'accepted', now() FROM traders LIMIT 1"
    )
    with deadline.budget(1), engine.begin() as connection:
        connection.execute(text("INSERT INTO traders SELECT gen_random_uuid(), gen_random_uuid()::text, now()"))
        connection.execute(text(order))


@pytest.mark.parametrize(("declared", "is_applied"), [("", False), ("statement_seconds = 5", True)])
def test_statement_may_take_what_its_migration_declares(
    found: DatabaseSettings,
    engine: Engine,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    declared: str,
    is_applied: bool,
) -> None:
    """Without a declaration the default applies; the lock timeout is the same in both cases."""
    monkeypatch.setattr(migrator, "STATEMENT_SECONDS", 1)
    slow = f'kind = "expand"\n{declared}\ndef upgrade():\n    op.execute("SELECT pg_sleep(2.2)")\n'
    become(monkeypatch, tmp_path / "n", slow)
    if is_applied:
        assert upgrade(found, tmp_path).after == "n1"
    else:
        with pytest.raises(DBAPIError, match="statement timeout"):
            upgrade(found, tmp_path)
    with engine.connect() as connection:
        assert (migrator.current_revision(connection) == "n1") is is_applied


def test_index_is_built_while_orders_are_written(
    found: DatabaseSettings, engine: Engine, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The build waits for a dump, longer than any lock or statement timeout, and nothing waits for the build."""
    monkeypatch.setattr(migrator, "STATEMENT_SECONDS", 1)
    become(monkeypatch, tmp_path / "n", INDEX)
    with ThreadPoolExecutor(1) as pool:
        with dump(engine):
            running = pool.submit(upgrade, found, tmp_path)
            wait_for_build(engine, WAITS)
            ends_at = time.monotonic() + 3
            while time.monotonic() < ends_at:
                place(engine)
            assert not running.done()
        assert running.result(20).after == "n1"
    assert is_valid(engine)
    with engine.connect() as connection:
        assert migrator.misfit(connection) == ""
    assert upgrade(found, tmp_path) == migrator.Migrated("n1", "n1")


def test_concurrent_migration_of_the_table_ends_in_a_lock_timeout(
    found: DatabaseSettings, engine: Engine, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The usual lock timeout applies, and nothing is left behind."""
    become(monkeypatch, tmp_path / "n", INDEX)
    with engine.begin() as connection:
        connection.execute(text("LOCK TABLE orders IN SHARE UPDATE EXCLUSIVE MODE"))
        began = time.monotonic()
        with pytest.raises(DBAPIError, match="lock timeout"):
            upgrade(found, tmp_path)
        assert time.monotonic() - began < 5
    assert is_valid(engine) is None


def test_killed_build_is_repeated(
    found: DatabaseSettings, engine: Engine, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The server ends it when the client is gone; the remaining index is unusable, and the next run replaces it."""
    (tmp_path / "killed.py").write_text(INDEX)
    (address,) = found.hosts
    argv = [sys.executable, "-c", CLIENT, str(tmp_path / "killed"), found.ca_file, address.host, str(address.port)]
    environment = os.environ | {"PYTHONPATH": os.pathsep.join(sys.path)}
    with dump(engine):
        with subprocess.Popen([*argv, found.user, found.password], env=environment) as process:
            wait_for_build(engine, WAITS)
            process.send_signal(signal.SIGKILL)
        assert is_valid(engine) is False
        wait(lambda: not builds(engine), 15)
    become(monkeypatch, tmp_path / "n", INDEX)
    assert upgrade(found, tmp_path).after == "n1"
    assert is_valid(engine)


def test_index_that_was_completed_before_the_kill_is_kept(
    found: DatabaseSettings, engine: Engine, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Only the record of the migration is missing."""
    with engine.begin() as connection:
        connection.execute(text("CREATE INDEX ix_orders_symbol ON orders (symbol)"))
        identity = connection.execute(text("SELECT 'ix_orders_symbol'::regclass::oid")).scalar()
    become(monkeypatch, tmp_path / "n", INDEX)
    assert upgrade(found, tmp_path).after == "n1"
    with engine.connect() as connection:
        assert connection.execute(text("SELECT 'ix_orders_symbol'::regclass::oid")).scalar() == identity
