# ruff: noqa: D103  # the name of a test says what it holds
"""The schema, and the commands that manage it and the keys."""

import json
from collections.abc import Iterator
from pathlib import Path

import pytest
from alembic.autogenerate import compare_metadata
from alembic.migration import MigrationContext
from click.testing import CliRunner, Result
from flask import Flask
from sqlalchemy import Engine, text
from tradefleet import schema
from tradefleet.cli import main
from tradefleet.database import Base, make_engine
from tradefleet.settings import DatabaseSettings


@pytest.fixture
def engine(tmp_path: Path) -> Iterator[Engine]:
    """An empty SQLite database."""
    engine = make_engine(DatabaseSettings(), tmp_path)
    yield engine
    engine.dispose()


@pytest.fixture
def _own_folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(Flask, "auto_find_instance_path", lambda _: str(tmp_path))


def run(*arguments: str, standard_input: str = "") -> Result:
    return CliRunner().invoke(main, arguments, input=standard_input)


def test_migrations_make_what_the_models_say(engine: Engine) -> None:
    assert schema.upgrade(engine) == schema.Migrated(None, schema.head_revision())
    with engine.connect() as connection:
        context = MigrationContext.configure(connection, opts={"compare_type": True})
        assert compare_metadata(context, Base.metadata) == []


def test_upgrading_again_changes_nothing(engine: Engine) -> None:
    schema.upgrade(engine)
    assert schema.upgrade(engine) == schema.Migrated(schema.head_revision(), schema.head_revision())


@pytest.mark.usefixtures("_own_folder")
def test_migrate_says_what_it_did() -> None:
    head = schema.head_revision()
    assert json.loads(run("migrate").stdout) == {"from": None, "to": head, "changed": True, "waiting": []}
    assert json.loads(run("migrate").stdout) == {"from": head, "to": head, "changed": False, "waiting": []}


@pytest.mark.usefixtures("_own_folder")
def test_api_key_is_stored_once() -> None:
    run("migrate")
    assert json.loads(run("api-key", "--trader", "alice", standard_input="k" * 32 + "\n").stdout) == {"changed": True}
    assert json.loads(run("api-key", "--trader", "alice", standard_input="k" * 32).stdout) == {"changed": False}
    assert json.loads(run("api-key", "--trader", "alice", standard_input="l" * 32).stdout) == {"changed": True}


@pytest.mark.usefixtures("_own_folder")
@pytest.mark.parametrize(("trader", "key"), [("alice", ""), ("alice", "short"), ("a b", "k" * 32), ("bob", "x" * 32)])
def test_unusable_key_is_refused(trader: str, key: str) -> None:
    run("migrate")
    run("api-key", "--trader", "alice", standard_input="x" * 32)
    result = run("api-key", "--trader", trader, standard_input=key)
    assert (result.exit_code, result.stdout) == (1, "")
    assert result.stderr.startswith("Error: ")


@pytest.mark.parametrize("command", [["migrate"], ["api-key", "--trader", "alice"]])
def test_commands_say_why_they_failed(command: list[str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "database_password").write_text("x")
    monkeypatch.setenv("CREDENTIALS_DIRECTORY", str(tmp_path))
    monkeypatch.setenv("TRADEFLEET_DATABASE_HOSTS", "127.0.0.1:1")
    monkeypatch.setenv("TRADEFLEET_DATABASE_CA_FILE", str(tmp_path / "database_password"))
    result = run(*command, standard_input="k" * 32)
    assert (result.exit_code, result.stdout) == (1, "")
    assert "127.0.0.1:1" in result.stderr
    monkeypatch.delenv("CREDENTIALS_DIRECTORY")
    result = run(*command, standard_input="k" * 32)
    assert result.exit_code == 1
    assert "database_password" in result.stderr


def test_an_older_release_leaves_a_newer_schema_alone(engine: Engine) -> None:
    schema.upgrade(engine)
    with engine.begin() as connection:
        connection.execute(text("UPDATE alembic_version SET version_num = 'newer'"))
    assert schema.upgrade(engine) == schema.Migrated("newer", "newer")
