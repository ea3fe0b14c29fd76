# ruff: noqa: D103  # the name of a test states what it asserts
"""Adding a domain takes its folder, a line in the registry and a migration: a throw-away one is added to a copy."""

import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest
from tradefleet.platform.postgres import migrator

HERE = Path(__file__).parent
PROJECT = HERE.parents[1]
MIGRATION = '''"""Quotes."""

import sqlalchemy as sa
from alembic import op

revision = "quotes"
down_revision = "{head}"
branch_labels = None
depends_on = None
kind = "expand"
owners = ("quotes",)


def upgrade() -> None:
    """Create the table."""
    op.create_table(
        "quotes", sa.Column("id", sa.Uuid(), nullable=False), sa.PrimaryKeyConstraint("id", name="pk_quotes")
    )
'''


@pytest.fixture
def copy(tmp_path: Path) -> Path:
    """The application's folder, with a domain added as in CONTRIBUTING.md."""
    folder = tmp_path / "app"
    package = folder / "tradefleet"
    shutil.copytree(PROJECT / "app/tradefleet", package, ignore=shutil.ignore_patterns("__pycache__"))
    shutil.copytree(HERE / "throwaway/quotes", package / "domains/quotes", ignore=shutil.ignore_patterns("__pycache__"))
    registry = package / "domains/__init__.py"
    registry.write_text(registry.read_text().replace("DOMAINS = (\n", 'DOMAINS = (\n    "quotes",\n'))
    (package / "migrations/versions/quotes.py").write_text(MIGRATION.format(head=migrator.head_revision()))
    return folder


def lint(folder: Path) -> subprocess.CompletedProcess[str]:
    """Check the imports of the application in this folder."""
    program, contracts = Path(sys.executable).with_name("lint-imports"), PROJECT / "pyproject.toml"
    command = [str(program), "--no-cache", "--no-logo", str(contracts)]
    return subprocess.run(
        command, env=os.environ | {"PYTHONPATH": str(folder)}, cwd=folder, capture_output=True, text=True, check=False
    )


def test_domain_is_wired_by_its_folder_and_one_line(copy: Path) -> None:
    command = [sys.executable, "-m", "pytest", "-q", "-p", "no:cacheprovider", "-o", f"pythonpath={copy}"]
    done = subprocess.run(
        [*command, str(HERE / "throwaway/wired.py")], cwd=PROJECT, capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stdout + done.stderr
    assert lint(copy).returncode == 0


@pytest.mark.parametrize(
    ("file", "statement", "contract"),
    [
        ("domains/quotes/services.py", "from tradefleet.domains.orders.models import Order", "services only BROKEN"),
        ("domains/quotes/views.py", "from tradefleet.domains.orders import register", "services only BROKEN"),
        ("domains/quotes/views.py", "import tradefleet.entrypoints.cli", "use the platform BROKEN"),
        ("platform/paging.py", "from tradefleet.domains.orders import services", "use the platform BROKEN"),
        ("platform/paging.py", "from tradefleet import create_app", "use the platform BROKEN"),
    ],
)
def test_lint_rejects_an_import_across_the_layers(copy: Path, file: str, statement: str, contract: str) -> None:
    path = copy / "tradefleet" / file
    path.write_text(f"{path.read_text()}\n{statement}\n")
    done = lint(copy)
    assert done.returncode == 1
    assert contract in done.stdout
