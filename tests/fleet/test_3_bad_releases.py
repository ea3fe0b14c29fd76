"""Does any bad release stop at the idle color?"""

import subprocess
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from clients import Meter, meter
from inside import on
from lab import ADDRESSES, QUIET, leader, output, play, play_until, sql, sql_command, traffic
from tradefleet.platform.postgres import migrator

GREEN = ("green1", "green2")
# Migrations of bad releases follow this one.
HEAD = migrator.head_revision()


@pytest.fixture(scope="module")
def traffic_meter(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Meter]:
    """Send traffic during all tests of this module; no request may fail."""
    with meter(tmp_path_factory.mktemp("meter"), rate=QUIET) as run:
        yield run
    assert run.report["groups"]["all"]["failed"] == 0, run.report["failures"]
    assert run.report["comparison"]["lost"] == 0


def assert_refused(version: str, *words: str) -> None:
    """Assert that a deploy is refused, and that its hosts, the schema and traffic.yml stay the same."""
    before = running_releases(), sql(leader(), "SELECT version_num FROM alembic_version"), traffic()
    # This is half the default: a longer wait would not change the result.
    refused = play("deploy", check=False, deploy_release=version, app_start_timeout_seconds="15")
    assert refused.returncode != 0
    for word in words:
        assert word in output(refused)
    assert (running_releases(), sql(leader(), "SELECT version_num FROM alembic_version"), traffic()) == before


def running_releases() -> list[str]:
    """Return the linked release of each idle host, and the one that its process reports."""
    query = "readlink /opt/tradefleet/current; curl -sS --max-time 9 --cacert /etc/ssl/tradefleet/ca.crt https://{}:8443/version"
    return [on(host, query.format(ADDRESSES[host]), check=False) for host in GREEN]


@pytest.mark.usefixtures("traffic_meter")
def test_release_that_never_becomes_ready_is_refused(release: Callable[..., Path]) -> None:
    """It starts, and /readyz fails: its log is in the output, and every host returns to the former release."""

    def change(package: Path) -> None:
        views = package / "platform/system/views.py"
        views.write_text(
            views.read_text()
            + '\n\n@blueprint.before_request\ndef _broken() -> None:\n    raise RuntimeError("never ready")\n'
        )

    release("0.2.5", change)
    assert_refused("0.2.5", "did not become ready", "never ready", "Traffic was not changed")


@pytest.mark.usefixtures("traffic_meter")
@pytest.mark.thorough
def test_release_that_does_not_start_is_refused(release: Callable[..., Path]) -> None:
    """It fails before it serves anything."""

    def change(package: Path) -> None:
        entry = package / "entrypoints/wsgi.py"
        entry.write_text(entry.read_text() + '\n\ndef create_app():\n    raise RuntimeError("never starts")\n')

    release("0.2.1", change)
    assert_refused("0.2.1", "did not become ready", "never starts")


@pytest.mark.thorough
@pytest.mark.usefixtures("traffic_meter")
def test_release_with_a_corrupted_wheel_is_refused(release: Callable[..., Path], tmp_path: Path) -> None:
    """One byte of one wheel differs from the manifest: it is refused before anything is installed."""
    tarball = release("0.2.2")
    subprocess.run(["tar", "-xzf", tarball, "-C", tmp_path], check=True)
    wheel = next((tmp_path / "wheels").glob("sqlalchemy*.whl"))
    content = bytearray(wheel.read_bytes())
    content[len(content) // 2] ^= 1
    wheel.write_bytes(content)
    subprocess.run(["tar", "-czf", tarball, "-C", tmp_path, *(path.name for path in tmp_path.iterdir())], check=True)
    assert_refused("0.2.2", wheel.name, "FAILED")


@pytest.mark.thorough
@pytest.mark.usefixtures("traffic_meter")
def test_release_with_a_failing_migration_is_refused(release: Callable[..., Path]) -> None:
    """The migration fails in the middle: its first half is undone, too."""

    def change(package: Path) -> None:
        (package / "migrations/versions/broken.py").write_text(
            f'"""Broken half-way."""\n\nfrom alembic import op\n\nrevision = "broken"\ndown_revision = "{HEAD}"\n'
            'kind = "expand"\n\n\n'
            'def upgrade() -> None:\n    op.execute("CREATE TABLE half (id int)")\n    op.execute("SELECT 1/0")\n'
        )

    release("0.2.3", change)
    assert_refused("0.2.3", "division by zero")
    assert sql(leader(), "SELECT to_regclass('half')") == ""


@pytest.mark.usefixtures("traffic_meter")
def test_migration_that_does_not_get_its_lock_is_refused(release: Callable[..., Path]) -> None:
    """Another session reads the orders and does not end: the migration times out before requests behind it fail."""

    def change(package: Path) -> None:
        (package / "migrations/versions/waits.py").write_text(
            f'"""Waits."""\n\nfrom alembic import op\n\nrevision = "waits"\ndown_revision = "{HEAD}"\n'
            'kind = "expand"\n\n\ndef upgrade():\n    op.execute("CREATE TABLE half (id int)")\n'
            '    op.execute("ALTER TABLE orders ADD COLUMN venue text")\n'
        )

    release("0.2.4", change)
    reader = subprocess.Popen(sql_command(leader()), stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)
    assert reader.stdin
    assert reader.stdout
    try:
        reader.stdin.write("BEGIN; LOCK TABLE orders IN ACCESS SHARE MODE; SELECT 'locked';\n")
        reader.stdin.flush()
        assert [reader.stdout.readline() for _ in range(3)][-1] == "locked\n"
        assert_refused("0.2.4", "lock timeout", "at a quieter time")
    finally:
        reader.communicate("ROLLBACK;\n", timeout=60)
    assert sql(leader(), "SELECT to_regclass('half')") == ""


@pytest.mark.usefixtures("traffic_meter")
@pytest.mark.thorough
def test_killed_deploy_is_completed_by_another_run(release: Callable[..., Path]) -> None:
    """It is killed while it unpacks, installs and starts; the next run completes it."""
    release("0.1.3")
    for marker in (
        "TASK [app : Stage | Verify each",
        "TASK [app : Stage | Install the wheels",
        "TASK [app : Activate | Start the release",
    ):
        play_until(marker, "deploy", deploy_release="0.1.3")
    play("deploy", deploy_release="0.1.3")
    for answer in running_releases():
        assert answer.startswith("/opt/tradefleet/releases/0.1.3\n")
        assert '"release":"0.1.3"' in answer
    assert traffic()["release_green"] == "0.1.3"
