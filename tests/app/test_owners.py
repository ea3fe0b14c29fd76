# ruff: noqa: D103  # the name of a test states what it asserts
"""Owners of tables and migrations: all domains share one history, and each table has one owner."""

import re
from pathlib import Path
from typing import Any

import pytest
from alembic.script import ScriptDirectory
from sqlalchemy import inspect
from tradefleet.domains import DOMAINS, registered
from tradefleet.platform.postgres import migrator
from tradefleet.platform.postgres.database import Base, make_engine
from tradefleet.platform.settings import DatabaseSettings

from .expansion import tables

SCRIPTS = list(ScriptDirectory.from_config(migrator._config()).walk_revisions())
README = Path(__file__).parents[2] / "app/README.md"
OWNERS = {*DOMAINS, "platform"}


def test_every_table_has_an_owner(tmp_path: Path) -> None:
    owned = registered().tables
    assert set(owned) == set(Base.metadata.tables)
    assert set(owned.values()) <= OWNERS
    engine = make_engine(DatabaseSettings(), tmp_path)
    migrator.upgrade(engine)
    assert set(inspect(engine).get_table_names()) == {*owned, "alembic_version"}
    engine.dispose()


@pytest.mark.parametrize("script", SCRIPTS, ids=lambda script: script.revision)
def test_migration_names_the_owners_of_its_tables(script: Any) -> None:
    named = set(script.module.owners)
    assert named
    assert named <= OWNERS
    found = tables(script.module.upgrade)
    if found is not None:
        # A table that a later migration has dropped has no owner.
        owned = registered().tables
        assert {owned[table] for table in found if table in owned} <= named
        assert len(named) == 1 or named == {owned[table] for table in found if table in owned}


def test_history_is_linear() -> None:
    parents = [script.down_revision for script in SCRIPTS]
    assert len(set(parents)) == len(SCRIPTS)
    assert None in parents


def test_code_map_has_each_domain_and_its_tables() -> None:
    rows = re.findall(r"^\| `(\w+)` \|.*\| (.*?) \|$", README.read_text(), re.MULTILINE)
    listed = {owner: set(re.findall(r"`(\w+)`", found)) for owner, found in rows}
    owned = registered().tables
    assert listed == {owner: {table for table, its in owned.items() if its == owner} for owner in OWNERS}
