# ruff: noqa: D103  # the name of a test states what it asserts
"""The schema, and the commands that manage it and the keys."""

import json
import socket
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from alembic.autogenerate import compare_metadata
from alembic.migration import MigrationContext
from click.testing import CliRunner, Result
from flask import Flask
from sqlalchemy import Engine, text
from tradefleet.domains.identity import commands
from tradefleet.domains.identity.services import digest
from tradefleet.entrypoints.cli import main
from tradefleet.platform.postgres import migrator
from tradefleet.platform.postgres.database import Base, make_engine
from tradefleet.platform.settings import DatabaseSettings


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


def test_migrations_create_the_tables_of_the_models(engine: Engine) -> None:
    assert migrator.upgrade(engine) == migrator.Migrated(None, migrator.head_revision())
    with engine.connect() as connection:
        context = MigrationContext.configure(connection, opts={"compare_type": True})
        assert compare_metadata(context, Base.metadata) == []


def test_second_upgrade_changes_nothing(engine: Engine) -> None:
    migrator.upgrade(engine)
    assert migrator.upgrade(engine) == migrator.Migrated(migrator.head_revision(), migrator.head_revision())


@pytest.mark.usefixtures("_own_folder")
def test_migrate_reports_what_it_changed() -> None:
    head = migrator.head_revision()
    assert json.loads(run("migrate").stdout) == {"from": None, "to": head, "changed": True, "waiting": []}
    assert json.loads(run("migrate").stdout) == {"from": head, "to": head, "changed": False, "waiting": []}


K, L, M = "k" * 32, "l" * 32, "m" * 32


@pytest.fixture
def _migrated(_own_folder: None) -> None:
    run("migrate")


def key(*arguments: str, standard_input: str = "") -> dict[str, Any]:
    """Run an api-key command that succeeds; return its output."""
    result = run("api-key", *arguments, standard_input=standard_input)
    assert result.exit_code == 0, result.stderr
    printed: dict[str, Any] = json.loads(result.stdout)
    return printed


def sync(*wanted: tuple[str, str]) -> Result:
    """Run `api-key sync` with these pairs of trader and key."""
    content = json.dumps([{"trader": trader, "key": key} for trader, key in wanted])
    return run("api-key", "sync", standard_input=content)


def synced(*wanted: tuple[str, str]) -> dict[str, list[str]]:
    """Run `api-key sync`; return the traders whose keys changed, with the change."""
    result = sync(*wanted)
    assert result.exit_code == 0, result.stderr
    done = json.loads(result.stdout)
    assert done.pop("changed") is any(done.values())
    return {what: [change["trader"] for change in changes] for what, changes in done.items() if changes}


def accepted() -> set[tuple[str, str]]:
    """Return trader and ID of each accepted key."""
    lines = [json.loads(line) for line in run("api-key", "list").stdout.splitlines()]
    return {(line["trader"], line["id"]) for line in lines if "revoked_at" not in line}


def of(trader: str, *keys: str) -> set[tuple[str, str]]:
    return {(trader, digest(key)[:12]) for key in keys}


@pytest.mark.usefixtures("_migrated")
def test_api_key_is_stored_once() -> None:
    assert key("add", "--trader", "alice", standard_input=K + "\n") == {"changed": True}
    assert key("add", "--trader", "alice", standard_input=K) == {"changed": False}
    assert key("add", "--trader", "alice", standard_input=L) == {"changed": True}


@pytest.mark.usefixtures("_migrated")
@pytest.mark.parametrize(
    ("trader", "unusable"), [("alice", ""), ("alice", "short"), ("a b", K), ("bob", "x" * 32), ("alice", "k=" * 20)]
)
def test_unusable_key_is_rejected(trader: str, unusable: str) -> None:
    key("add", "--trader", "alice", standard_input="x" * 32)
    result = run("api-key", "add", "--trader", trader, standard_input=unusable)
    assert (result.exit_code, result.stdout) == (1, "")
    assert result.stderr.startswith("Error: ")


@pytest.mark.usefixtures("_migrated")
@pytest.mark.parametrize(
    ("selector", "standard_input", "left"),
    [
        ([], K + "\n", of("alice", L) | of("bob", M)),
        (["--id", digest(K)[:12]], "", of("alice", L) | of("bob", M)),
        (["--trader", "alice"], "", of("bob", M)),
    ],
)
def test_revoked_key_cannot_be_added_again(
    selector: list[str], standard_input: str, left: set[tuple[str, str]]
) -> None:
    for trader, each in (("alice", K), ("alice", L), ("bob", M)):
        key("add", "--trader", trader, standard_input=each)
    done = key("revoke", *selector, standard_input=standard_input)
    assert done["changed"] is True
    assert {"trader": "alice", "id": digest(K)[:12]} in done["revoked"]
    assert accepted() == left
    assert key("revoke", *selector, standard_input=standard_input) == {"changed": False, "revoked": []}
    again = run("api-key", "add", "--trader", "alice", standard_input=K)
    assert again.exit_code == 1
    assert "this key was revoked at " in again.stderr
    assert accepted() == left


@pytest.mark.usefixtures("_migrated")
@pytest.mark.parametrize(
    ("selector", "status", "words"),
    [
        ([], 1, "no such key"),
        (["--id", "0" * 12], 1, "no such key"),
        (["--id", "%"], 1, "12 hexadecimal digits"),
        (["--trader", "nobody"], 1, "no such key"),
        (["--trader", "alice", "--id", "0" * 12], 2, "not both"),
    ],
)
def test_revoking_an_unknown_key_fails(selector: list[str], status: int, words: str) -> None:
    key("add", "--trader", "alice", standard_input=K)
    result = run("api-key", "revoke", *selector, standard_input=L)
    assert (result.exit_code, result.stdout) == (status, "")
    assert words in result.stderr
    assert accepted() == of("alice", K)


@pytest.mark.usefixtures("_migrated")
def test_list_shows_who_revoked_a_key(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("SUDO_USER", "sasha")
    key("add", "--trader", "alice", standard_input=K)
    key("add", "--trader", "alice", standard_input=L)
    key("revoke", standard_input=L)
    printed = run("api-key", "list").stdout
    first, second = (json.loads(line) for line in printed.splitlines())
    assert set(first) == {"trader", "id", "from_inventory", "created_at"}
    assert (second["id"], second["revoked_by"]) == (digest(L)[:12], "sasha")
    assert K not in printed


@pytest.mark.usefixtures("_migrated")
def test_keys_follow_the_inventory() -> None:
    assert synced(("alice", K), ("bob", M)) == {"added": ["alice", "bob"]}
    assert synced(("alice", K), ("bob", M)) == {}
    # Rotation: both keys of alice are accepted until the inventory no longer lists the first.
    assert synced(("alice", K), ("alice", L), ("bob", M)) == {"added": ["alice"]}
    assert accepted() == of("alice", K, L) | of("bob", M)
    assert synced(("alice", L), ("bob", M)) == {"revoked": ["alice"]}
    assert synced(("alice", L)) == {"revoked": ["bob"]}
    assert accepted() == of("alice", L)
    (line,) = [line for line in run("api-key", "list").stdout.splitlines() if digest(M)[:12] in line]
    assert json.loads(line)["revoked_by"].endswith(" (inventory)")


@pytest.mark.usefixtures("_migrated")
def test_keys_of_the_command_line_stay_until_the_inventory_lists_them() -> None:
    key("add", "--trader", "alice", standard_input=K)
    assert synced(("bob", M)) == {"added": ["bob"]}
    assert accepted() == of("alice", K) | of("bob", M)
    assert synced(("bob", M), ("alice", K)) == {"adopted": ["alice"]}
    assert synced(("bob", M), ("alice", K)) == {}
    assert synced(("bob", M)) == {"revoked": ["alice"]}


@pytest.mark.usefixtures("_migrated")
@pytest.mark.parametrize(
    ("wanted", "words"),
    [
        ([("alice", K), ("carol", L)], "entry 2 (trader carol): this key was revoked at "),
        ([("alice", K), ("bob", K)], "entry 2 (trader bob): this key belongs to another trader"),
        ([("alice", K), ("alice", K)], "entry 2 (trader alice): entry 1 has the same key"),
        ([("alice", K), ("alice", M), ("alice", M)], "entry 3 (trader alice): entry 2 has the same key"),
        ([("alice", "short")], "entry 1 (trader alice): a key is 32 to 256 characters"),
        ([], "the list is empty, and all 1 keys of the inventory would be revoked"),
    ],
)
def test_invalid_inventory_changes_nothing(wanted: list[tuple[str, str]], words: str) -> None:
    synced(("alice", K))
    key("add", "--trader", "carol", standard_input=L)
    key("revoke", standard_input=L)
    result = sync(*wanted)
    assert (result.exit_code, result.stdout) == (1, "")
    assert words in result.stderr
    assert not [each for each in (K, L, M, "short") if each in result.stderr]
    assert accepted() == of("alice", K)


@pytest.mark.usefixtures("_migrated")
def test_empty_inventory_is_accepted_if_it_has_no_keys() -> None:
    key("add", "--trader", "alice", standard_input=K)
    assert synced() == {}
    assert accepted() == of("alice", K)


@pytest.mark.usefixtures("_migrated")
@pytest.mark.parametrize("junk", ["", "[", "{}x", '["k"]', '[{"trader": "alice"}]', f'"{K}"', f'[{{"key": "{K}"}}]'])
def test_malformed_list_of_keys_is_rejected(junk: str) -> None:
    result = run("api-key", "sync", standard_input=junk)
    assert result.exit_code == 1
    assert "write the list as" in result.stderr
    assert K not in result.stderr


@pytest.mark.usefixtures("_migrated")
def test_each_change_of_a_key_is_in_the_log_of_the_host(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("SUDO_USER", "sasha")
    monkeypatch.setattr(commands, "_SYSLOG", str(tmp_path / "log"))
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as log:
        log.bind(str(tmp_path / "log"))
        log.setblocking(False)

        def logged() -> tuple[str, str, str, str]:
            line = log.recv(4096).decode()
            assert K not in line
            content = json.loads(line[line.index("tradefleet: ") + len("tradefleet: ") :])
            return content["message"], content["trader"], content["key_id"], content["operator"]

        key("add", "--trader", "alice", standard_input=K)
        assert logged() == ("api key added", "alice", digest(K)[:12], "sasha")
        synced(("alice", K), ("bob", M))
        assert logged()[:2] == ("api key added", "bob")
        assert logged()[:2] == ("api key adopted by the inventory", "alice")
        synced(("bob", M))
        assert logged() == ("api key revoked", "alice", digest(K)[:12], "sasha")
        key("revoke", standard_input=M)
        assert logged() == ("api key revoked", "bob", digest(M)[:12], "sasha")
        key("revoke", standard_input=M)
        with pytest.raises(BlockingIOError):
            log.recv(4096)


@pytest.mark.usefixtures("_migrated")
def test_key_is_revoked_even_without_a_log_of_the_host(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(commands, "_SYSLOG", str(tmp_path / "nothing"))
    key("add", "--trader", "alice", standard_input=K)
    result = run("api-key", "revoke", standard_input=K)
    assert result.exit_code == 0
    assert "not written to the host's log" in result.stderr
    assert accepted() == set()


@pytest.mark.parametrize("command", [["migrate"], ["api-key", "add", "--trader", "alice"]])
def test_failed_command_reports_why(command: list[str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
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


def test_older_release_leaves_a_newer_schema_unchanged(engine: Engine) -> None:
    migrator.upgrade(engine)
    with engine.begin() as connection:
        connection.execute(text("UPDATE alembic_version SET version_num = 'newer'"))
    assert migrator.upgrade(engine) == migrator.Migrated("newer", "newer")
