"""Is everything that a former release needs kept until it is gone, and is it refused afterward?"""

from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from clients import meter
from inside import on
from lab import QUIET, leader, output, play, sql, traffic
from tradefleet.platform.postgres import migrator

HEAD = migrator.head_revision()
# In the order of their names, after HEAD.
EXPANSION, CONTRACTION = f"{HEAD}a", f"{HEAD}b"
MIGRATIONS = {
    EXPANSION: ("expand", 'op.execute("CREATE TABLE passing (id int)")'),
    CONTRACTION: ("contract", 'op.execute("DROP TABLE passing")'),
}


@pytest.fixture(name="former")
def _former() -> Iterator[str]:
    """Return the present release; afterward both colors run it again, on the schema that it knows."""
    assert traffic()["traffic_live_color"] == "blue"
    former = traffic()["release_blue"]
    yield former
    sql(
        leader(),
        f"DROP TABLE IF EXISTS passing; UPDATE alembic_version SET version_num = '{HEAD}';"
        f"DELETE FROM applied_migrations WHERE revision > '{HEAD}'",
    )
    if traffic()["traffic_live_color"] == "green":
        play("deploy", deploy_release=former)
        play("cutover", cutover_to="blue")
    play("deploy", deploy_release=former)


def brings_migrations(package: Path) -> None:
    """Add an expansion and a contraction."""
    before = HEAD
    for revision, (kind, action) in MIGRATIONS.items():
        (package / f"migrations/versions/{revision}_{kind}.py").write_text(
            f'"""Passing."""\n\nfrom alembic import op\n\nrevision = "{revision}"\ndown_revision = "{before}"\n'
            f'kind = "{kind}"\n\n\ndef upgrade():\n    {action}\n'
        )
        before = revision


def revision() -> str:
    """Return the database's migration."""
    return sql(leader(), "SELECT version_num FROM alembic_version")


def assert_refused(playbook: str, *words: str, **extra: str) -> None:
    """Run a playbook; assert that it fails with these words, and that neither schema nor traffic.yml has changed."""
    before = revision(), traffic()
    done = play(playbook, check=False, **extra)
    assert done.returncode != 0
    for word in words:
        assert word in output(done)
    assert (revision(), traffic()) == before


def test_contraction_waits_until_the_former_release_is_gone(
    former: str, release: Callable[..., Path], tmp_path: Path
) -> None:
    """Deploy, cut over, deploy to the other color, finalize: no request fails, and the former release is refused."""
    release("0.4.1", brings_migrations)
    with meter(tmp_path, rate=QUIET) as run:
        deployed = play("deploy", deploy_release="0.4.1")
        assert f"Contract migrations are deferred until no former release is needed: {CONTRACTION}" in output(deployed)
        assert revision() == EXPANSION
        play("cutover")
        assert_refused("finalize", f"Color blue still has release {former}")
        play("deploy", deploy_release="0.4.1")
        play("finalize")
        assert revision() == CONTRACTION
        names_it = f"has contract migration {CONTRACTION}, which this release does not know"
        assert_refused("deploy", names_it, deploy_release=former)
        # As if it had been recorded in another way.
        home = "/opt/tradefleet"
        for host in ("blue1", "blue2"):
            on(host, f"ln -sfn {home}/releases/{former} {home}/current && systemctl restart tradefleet-api")
        assert_refused("finalize", f"runs {former}, and the release that serves is 0.4.1")
        for playbook in ("cutover", "rollback"):
            assert_refused(playbook, "Nothing has moved", names_it)
    assert run.report["groups"]["all"]["failed"] == 0, run.report["failures"]
    assert run.report["comparison"]["lost"] == 0
