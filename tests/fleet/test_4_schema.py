"""Is everything that a former release needs kept until it is gone, and is it refused afterward?"""

from collections.abc import Callable, Iterable
from pathlib import Path

from clients import meter
from health import ready
from inside import on
from lab import QUIET, leader, output, play, sql, traffic, wait
from tradefleet.platform.postgres import migrator

HEAD = migrator.head_revision()
BLUE = ("blue1", "blue2")
# In the order of their names, after HEAD.
EXPANSION, CONTRACTION = f"{HEAD}a", f"{HEAD}b"
MIGRATIONS = {
    EXPANSION: ("expand", 'op.execute("CREATE TABLE passing (id int)")'),
    CONTRACTION: ("contract", 'op.execute("DROP TABLE passing")'),
}


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


def run_release(hosts: Iterable[str], release: str) -> None:
    """Run a release on hosts without a playbook, which does not record it."""
    home = "/opt/tradefleet"
    for host in hosts:
        on(host, f"ln -sfn {home}/releases/{release} {home}/current && systemctl restart tradefleet-api")


def test_contraction_waits_until_the_former_release_is_gone(release: Callable[..., Path], tmp_path: Path) -> None:
    """Deploy, cut over, deploy to the other color, finalize: no request fails, and the former release is refused.

    No test afterward needs the former release: the schema stays as the new one needs it.
    """
    release("0.6.0", brings_migrations)
    assert traffic()["traffic_live_color"] == "blue"
    former = traffic()["release_blue"]
    with meter(tmp_path, rate=QUIET) as run:
        deployed = play("deploy", deploy_release="0.6.0")
        assert f"Contract migrations are deferred until no former release is needed: {CONTRACTION}" in output(deployed)
        assert revision() == EXPANSION
        play("cutover")
        assert_refused("finalize", f"Color blue still has release {former}")
        play("deploy", deploy_release="0.6.0")
        play("finalize")
        assert revision() == CONTRACTION
        names_it = f"has contract migration {CONTRACTION}, which this release does not know"
        assert_refused("deploy", names_it, deploy_release=former)
        run_release(BLUE, former)
        assert_refused("finalize", f"runs {former}, and the release that serves is 0.6.0")
        for playbook in ("cutover", "rollback"):
            assert_refused(playbook, "Nothing has moved", names_it)
        run_release(BLUE, "0.6.0")
        for host in BLUE:
            wait(lambda host=host: ready(host), 30, f"{host} is ready")
        play("cutover", cutover_to="blue")
    assert run.report["groups"]["all"]["failed"] == 0, run.report["failures"]
    assert run.report["comparison"]["lost"] == 0
