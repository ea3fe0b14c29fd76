# ruff: noqa: D103  # the name of a test states what it asserts
"""What a migration declares, what a deploy applies, and which releases run on a schema."""

import os
import re
import shutil
from collections.abc import Callable, Iterator
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
import sqlalchemy as sa
from alembic import op
from alembic.config import Config
from alembic.script import ScriptDirectory
from click.testing import CliRunner
from flask import Flask
from flask.testing import FlaskClient
from sqlalchemy import Engine, inspect
from sqlalchemy.exc import OperationalError, ProgrammingError
from tradefleet import migrations
from tradefleet.entrypoints import cli
from tradefleet.migrations.online import build_index
from tradefleet.platform.postgres import migrator
from tradefleet.platform.postgres.database import make_engine
from tradefleet.platform.settings import DatabaseSettings

from .expansion import objections, objections_to_index

SCRIPTS = list(ScriptDirectory.from_config(migrator._config()).walk_revisions())
HEAD = migrator.head_revision()
VERSIONS = Path(migrations.__file__).parent / "versions"
# The kinds of a release's further migrations.
Release = Callable[..., None]


@pytest.mark.parametrize("script", SCRIPTS, ids=lambda script: script.revision)
def test_expansion_does_nothing_on_which_older_code_would_fail(script: Any) -> None:
    assert script.module.kind in migrator.KINDS
    if script.module.kind == migrator.EXPAND:
        assert objections(script.module.upgrade) == []
    if script.module.kind == migrator.INDEX:
        assert objections_to_index(script.module.upgrade) == []
    assert migrator.statement_seconds(script.revision) <= migrator.MIGRATION_SECONDS


def execute(sql: str) -> Callable[[], None]:
    return lambda: op.execute(sql)


def add(*arguments: Any, **options: Any) -> Callable[[], None]:
    return lambda: op.add_column("orders", sa.Column("venue", sa.String(8), *arguments, **options))


def batch() -> None:
    with op.batch_alter_table("orders") as orders:
        orders.drop_column("side")


def replace() -> None:
    op.drop_table("orders")
    op.create_table("orders", sa.Column("id", sa.Uuid()))


def own_table() -> None:
    venues = op.create_table("venues", sa.Column("name", sa.String(8), nullable=False))
    op.create_unique_constraint("uq_venues_name", "venues", ["name"])
    op.bulk_insert(venues, [{"name": "XNAS"}])


@pytest.mark.parametrize(
    "upgrade",
    [
        add(),
        add(nullable=False, server_default="XNAS"),
        own_table,
        lambda: op.alter_column("orders", "limit_price", nullable=True),
        lambda: op.alter_column("orders", "status", server_default="new"),
        execute("ALTER TABLE orders ADD COLUMN fee numeric(20, 8) NOT NULL DEFAULT 0"),
        execute("COMMENT ON TABLE orders IS 'all of them'; -- DROP\nUPDATE orders SET side = 'buy'"),
    ],
)
def test_operation_is_permitted_in_an_expansion(upgrade: Callable[[], None]) -> None:
    assert objections(upgrade) == []


@pytest.mark.parametrize(
    ("upgrade", "word"),
    [
        (add(nullable=False), "NOT NULL"),
        (add(nullable=False, default="XNAS"), "NOT NULL"),
        (add(unique=True), "unique"),
        (lambda: op.drop_column("orders", "side"), "DropColumn"),
        (lambda: op.drop_table("api_keys"), "DropTable"),
        (lambda: op.drop_index("ix_orders_side", "orders"), "DropIndex"),
        (lambda: op.drop_constraint("ck_orders_side", "orders"), "DropConstraint"),
        (lambda: op.rename_table("orders", "trades"), "RenameTable"),
        (lambda: op.alter_column("orders", "side", new_column_name="direction"), "AlterColumn"),
        (lambda: op.alter_column("orders", "side", type_=sa.Text()), "AlterColumn"),
        (lambda: op.alter_column("orders", "limit_price", nullable=False), "AlterColumn"),
        (lambda: op.alter_column("orders", "status", server_default=None), "AlterColumn"),
        (lambda: op.create_index("uq_orders_side", "orders", ["side"], unique=True), "unique"),
        (lambda: op.create_index("ix_orders_side", "orders", ["side"]), 'blocks writes to orders .* kind = "index"'),
        (lambda: build_index("ix_orders_side", "orders", ["side"]), 'blocks writes to orders .* kind = "index"'),
        (execute("CREATE INDEX CONCURRENTLY one ON orders (side)"), "CREATE INDEX"),
        (lambda: op.create_unique_constraint("uq_orders_side", "orders", ["side"]), "CreateUniqueConstraint"),
        (lambda: op.create_check_constraint("ck_orders_fee", "orders", "side = 'buy'"), "CreateCheckConstraint"),
        (lambda: op.create_foreign_key("fk_orders", "orders", "api_keys", ["id"], ["id"]), "CreateForeignKey"),
        (batch, "DropColumn"),
        (replace, "DropTable"),
        (lambda: op.get_bind(), "get_bind"),
        (execute("ALTER TABLE orders DROP COLUMN side"), "DROP"),
        (execute("UPDATE orders SET side = 'buy';\n drop table api_keys"), "drop table"),
        (execute("ALTER TABLE orders RENAME TO trades"), "RENAME"),
        (execute("ALTER TABLE orders ALTER COLUMN side TYPE text"), "TYPE"),
        (execute("ALTER TABLE orders ADD COLUMN fee int NOT NULL"), "NOT NULL"),
        (execute("ALTER TABLE orders ADD a int DEFAULT 0, ADD b int NOT NULL"), "ADD"),
        (execute("ALTER TABLE orders ADD CONSTRAINT one UNIQUE (side)"), "UNIQUE"),
        (execute("CREATE UNIQUE INDEX one ON orders (side)"), "UNIQUE"),
        (execute("DELETE FROM orders"), "DELETE"),
        (execute("DO $$ BEGIN END $$"), "DO"),
        (execute("SELECT 1/0"), "SELECT"),
    ],
)
def test_operation_is_refused_in_an_expansion(upgrade: Callable[[], None], word: str) -> None:
    (found,) = objections(upgrade)
    assert re.search(word, found)


def test_operation_is_permitted_in_an_index_migration() -> None:
    assert objections_to_index(lambda: build_index("ix_orders_side", "orders", ["side"])) == []


@pytest.mark.parametrize(
    "upgrade",
    [
        add(),
        own_table,
        lambda: op.create_index("ix_orders_side", "orders", ["side"]),
        lambda: op.create_index("ix_orders_side", "orders", ["side"], postgresql_concurrently=True),
        execute("CREATE INDEX CONCURRENTLY ix_orders_side ON orders (side)"),
        lambda: op.get_bind(),
    ],
)
def test_operation_is_refused_in_an_index_migration(upgrade: Callable[[], None]) -> None:
    assert objections_to_index(upgrade)


@pytest.fixture
def engine(tmp_path: Path, schema: Path) -> Iterator[Engine]:
    """A SQLite database with the schema of this code."""
    shutil.copy(schema, tmp_path)
    engine = make_engine(DatabaseSettings(), tmp_path)
    yield engine
    engine.dispose()


@pytest.fixture
def release(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Release]:
    """Turn the code into a release with further migrations n1, n2, … of these kinds: each a table or an index."""

    def become(*kinds: str, more: str = "") -> None:
        folder = tmp_path / "-".join(("versions", *kinds, more))
        folder.mkdir(exist_ok=True)
        for number, kind in enumerate(kinds, start=1):
            before = f"n{number - 1}" if number > 1 else HEAD
            does = f'op.create_table("t{number}", sa.Column("id", sa.Integer()))'
            if kind == migrator.INDEX:
                does = f'build_index("i{number}", "orders", ["symbol"])'
            (folder / f"n{number}.py").write_text(
                "import sqlalchemy as sa\nfrom alembic import op\n"
                "from tradefleet.migrations.online import build_index\n"
                f'revision = "n{number}"\ndown_revision = "{before}"\nkind = "{kind}"\n{more}\n'
                f"def upgrade():\n    {does}\n"
            )
        config = Config()
        config.set_main_option("script_location", "tradefleet:migrations")
        config.set_main_option("path_separator", "os")
        own = str(VERSIONS)
        config.set_main_option("version_locations", os.pathsep.join((own, str(folder))))
        monkeypatch.setattr(migrator, "_config", lambda: config)
        migrator.known.cache_clear()

    yield become
    migrator.known.cache_clear()


def misfit(engine: Engine) -> str:
    with engine.connect() as connection:
        return migrator.misfit(connection)


def test_deploy_leaves_contractions_to_finalize(engine: Engine, release: Release) -> None:
    release("expand", "contract", "contract")
    assert migrator.upgrade(engine) == migrator.Migrated(HEAD, "n1", ("n2", "n3"))
    assert misfit(engine) == ""
    assert migrator.upgrade(engine) == migrator.Migrated("n1", "n1", ("n2", "n3"))
    assert migrator.upgrade(engine, finalize=True) == migrator.Migrated("n1", "n3")
    assert migrator.upgrade(engine, finalize=True) == migrator.Migrated("n3", "n3")
    assert misfit(engine) == ""


def test_expansion_does_not_overtake_a_contraction(engine: Engine, release: Release) -> None:
    release("expand", "contract", "expand")
    with pytest.raises(migrator.SchemaError, match=r"migration n3 comes after contract migration n2.*make finalize"):
        migrator.upgrade(engine)
    assert not inspect(engine).has_table("t1")
    assert misfit(engine) == "lacks migration n1, n3"
    release("expand", "contract")
    migrator.upgrade(engine, finalize=True)
    release("expand", "contract", "expand")
    assert migrator.upgrade(engine) == migrator.Migrated("n2", "n3")


def test_index_is_a_separate_expansion(engine: Engine, release: Release) -> None:
    release("index", "expand", "contract", "index")
    with pytest.raises(migrator.SchemaError, match="migration n4 comes after contract migration n3"):
        migrator.upgrade(engine)
    assert misfit(engine) == "lacks migration n1, n2, n4"
    release("index", "expand")
    assert migrator.upgrade(engine) == migrator.Migrated(HEAD, "n2")
    assert "i1" in {index["name"] for index in inspect(engine).get_indexes("orders")}
    release()
    assert misfit(engine) == ""


@pytest.mark.parametrize("declared", ["0", "-1", "'600'", "1.5", "86401", "None"])
def test_migration_declares_whole_seconds(release: Release, declared: str) -> None:
    release("expand", more=f"statement_seconds = {declared}")
    with pytest.raises(migrator.SchemaError, match="n1: write statement_seconds = 1 to 86400"):
        migrator.statement_seconds("n1")
    release("expand", more="statement_seconds = 600")
    assert (migrator.statement_seconds("n1"), migrator.statement_seconds(HEAD)) == (600, migrator.STATEMENT_SECONDS)


def test_without_a_running_release_everything_is_applied(tmp_path: Path, release: Release) -> None:
    release("contract", "expand", "contract")
    engine = make_engine(DatabaseSettings(), tmp_path)
    assert migrator.upgrade(engine) == migrator.Migrated(None, "n3")
    engine.dispose()


def test_former_release_runs_only_with_newer_expansions(engine: Engine, release: Release) -> None:
    release("expand", "contract")
    migrator.upgrade(engine)
    release()
    assert misfit(engine) == ""
    assert migrator.upgrade(engine) == migrator.Migrated("n1", "n1")
    release("expand", "contract")
    migrator.upgrade(engine, finalize=True)
    release()
    assert misfit(engine) == "has contract migration n2, which this release does not know"
    for finalize in (False, True):
        with pytest.raises(
            migrator.SchemaError, match="at migration n2 and does not carry this release: it has contract"
        ):
            migrator.upgrade(engine, finalize=finalize)


def test_release_from_another_branch_gets_the_missing_migrations(engine: Engine, release: Release) -> None:
    release("expand", "expand")
    migrator.upgrade(engine)
    with engine.begin() as connection:
        connection.execute(sa.text("UPDATE alembic_version SET version_num = 'other'"))
        connection.execute(sa.text("UPDATE applied_migrations SET revision = 'other' WHERE revision = 'n2'"))
    with pytest.raises(migrator.SchemaError, match="it lacks migration n2"):
        migrator.upgrade(engine)


def test_migration_must_declare_its_kind(engine: Engine, release: Release) -> None:
    release("expand", "expnad")
    with pytest.raises(migrator.SchemaError, match="migration n2 has no kind: write kind ="):
        migrator.upgrade(engine)


def test_migrate_reports_pending_migrations_and_refusals(
    engine: Engine, release: Release, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(Flask, "auto_find_instance_path", lambda _: str(tmp_path))
    release("contract")
    done = CliRunner().invoke(cli.main, ["migrate"])
    assert f'"to": "{HEAD}", "changed": false, "waiting": ["n1"]' in done.stdout
    done = CliRunner().invoke(cli.main, ["migrate", "--finalize"])
    assert '"to": "n1", "changed": true, "waiting": []' in done.stdout
    release()
    done = CliRunner().invoke(cli.main, ["migrate"])
    assert done.exit_code == 1
    assert "Error: the migration failed: the database is at migration n1" in done.stderr


def ready(client: FlaskClient) -> tuple[int, str, str]:
    answer = client.get("/readyz")
    document = answer.get_json()
    return answer.status_code, document["status"], document["dependencies"]["schema"]


def test_readyz_names_the_missing_or_unknown_migration(app: Flask, release: Release) -> None:
    client = app.test_client()
    assert ready(client) == (200, "ready", "ok")
    release("contract")
    assert ready(client) == (200, "ready", "ok")
    release("expand", "contract")
    assert ready(client) == (503, "unavailable", "lacks migration n1")
    migrator.upgrade(app.extensions["database"], finalize=True)
    assert ready(client) == (200, "ready", "ok")
    release()
    assert ready(client) == (503, "unavailable", "has contract migration n2, which this release does not know")


@pytest.mark.parametrize(("state", "expected"), [("42P01", "lacks migration 0002"), ("42501", None)])
def test_database_without_the_migrations_table_is_reported(state: str, expected: str | None) -> None:
    def fail(_: Any) -> None:
        raise ProgrammingError("SELECT", {}, SimpleNamespace(sqlstate=state))  # type: ignore[arg-type]  # enough of one

    connection: Any = SimpleNamespace(execute=fail)
    if expected:
        assert migrator.misfit(connection) == expected
    else:
        with pytest.raises(ProgrammingError):
            migrator.misfit(connection)


@pytest.mark.parametrize(("state", "advises"), [("55P03", True), ("57014", False)])
def test_lock_timeout_is_reported_with_advice(state: str, advises: bool) -> None:
    class OriginalError(Exception):
        sqlstate = state

    advice = cli._advice(OperationalError("ALTER TABLE orders", {}, OriginalError("canceling statement")))
    assert ("repeat the playbook" in advice) is advises
