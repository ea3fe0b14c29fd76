"""Do the operator's playbooks work, and do they refuse unsafe requests?"""

import json
import subprocess
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest
from postgresql_cluster import ADDRESSES, PASSWORDS, leader, local, member, rest, roles, wait_until
from scenario import run_playbook

# Values that the wiring of the fleet would set differently.
POOLER = ("-e", json.dumps({"pgbouncer_databases": ["trading"], "pgbouncer_roles": [{"name": "desk"}]}))
SOME = ADDRESSES["pg1"]


def playbook(name: str, *arguments: str, check: bool = True) -> subprocess.CompletedProcess[str]:
    """Run a playbook of the fleet on the members."""
    return run_playbook(name, *POOLER, *arguments, check=check)


def refusal(name: str, *arguments: str) -> str:
    """Run a playbook, assert that it fails without changing a role, and return its output."""
    before = roles(SOME)
    done = playbook(name, *arguments, check=False)
    assert done.returncode == 2, done.stdout[-4000:]
    assert roles(SOME) == before
    return " ".join(done.stdout.split())


def replica(role: str) -> str:
    """Return the replica with this role."""
    return next(name for name, each in roles(SOME).items() if each == role)


@contextmanager
def open_transaction() -> Iterator[None]:
    """Hold a transaction open through the leader's pooler."""
    connection = f"host={ADDRESSES[leader(SOME)]} port=6432 dbname=trading user=desk password={PASSWORDS['desk']}"
    command = f"(echo 'BEGIN; SELECT 1;'; sleep 60) | psql --no-psqlrc '{connection} sslmode=require'"
    sessions = "FROM pg_stat_activity WHERE usename = 'desk' AND state = 'idle in transaction'"
    primary = member(leader(SOME))
    with subprocess.Popen(["podman", "exec", "tf-pg1", "bash", "-c", command], stdout=subprocess.DEVNULL) as running:
        try:
            wait_until(lambda: local(primary, f"SELECT count(*) {sessions}") == "1", 5)
            yield
        finally:
            local(primary, f"SELECT pg_terminate_backend(pid) {sessions}")
            running.kill()


def test_unsafe_requests_are_refused(tmp_path: Path) -> None:
    """The leader is not reinitialized or retired, and a replica that lacks an acknowledged commit is not promoted."""
    old, behind = leader(SOME), replica("replica")
    assert f"{old} leads, so its data is the current one" in refusal("reinit_replica", "-e", f"member={old}")
    assert f"{behind} (switchover_to) is not the synchronous standby" in refusal(
        "switchover", "-e", f"switchover_to={behind}"
    )
    (tmp_path / "retired.yml").write_text(json.dumps({"postgres_retired": {"hosts": {old: {}}}}))
    # Without the tasks that always run, because not all arguments of other roles are set here.
    only = ("--limit", old, "--tags", "postgresql", "--skip-tags", "always")
    retired = refusal("provision", "-i", str(tmp_path / "retired.yml"), *only)
    assert f"{old} leads: put it back into group postgres" in retired


def test_long_transaction_is_reported_and_not_ended() -> None:
    """Neither an upgrade nor a switchover closes its connection; the pooler resumes at once."""
    old = leader(SOME)
    with open_transaction():
        output = refusal("upgrade_postgresql", "-e", "upgrade_patience_seconds=1")
        assert "Transactions have run for more than 1 s" in output
        assert "(desk," in output
        output = refusal("switchover")
        assert f"{old} keeps leading, and its pooler resumes: transactions do not finish" in output
        assert "(desk," in output
        assert paused(old) == set()


def paused(name: str) -> set[str]:
    """Return the paused databases of a member's pooler, and the timers that would resume them."""
    shown = member(name).check_output("pgbouncer-cli --tuples-only --no-align --command 'SHOW DATABASES'").splitlines()
    waiting = {row.split("|")[0] for row in shown if row.split("|")[-2] == "1"}
    return waiting | set(
        member(name).check_output("systemctl list-units --plain --no-legend 'pgbouncer-resume*'").split()
    )


@pytest.mark.thorough
def test_switchover_completes_after_an_interrupted_one() -> None:
    """The synchronous standby leads, and nothing is left of either run."""
    old, new = leader(SOME), replica("sync_standby")
    member(old).check_output("systemd-run --quiet --collect --unit=pgbouncer-resume --on-active=20s true")
    member(old).check_output("pgbouncer-cli --command 'PAUSE trading'")
    assert paused(old) >= {"trading", "pgbouncer-resume.timer"}
    playbook("switchover", "-e", f"switchover_to={new}")
    assert leader(SOME) == new
    assert paused(old) == set()


def test_replica_is_reinitialized() -> None:
    """Its former data is gone, and it follows."""
    name = replica("replica")
    folder = "/var/lib/postgresql/17/tradefleet"
    member(name).check_output(f"touch {folder}/former")
    playbook("reinit_replica", "-e", f"member={name}")
    assert not member(name).file(f"{folder}/former").exists
    assert rest(ADDRESSES[name], "/patroni")[1]["replication_state"] == "streaming"
