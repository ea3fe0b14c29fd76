"""Do the commands of the runbook restore the database if the repository and all data directories are lost together?"""

import re
import shlex
import time

import pytest
from backups import FOLDER, LOCK, MEMBERS, REPOSITORY, copied, ledger, member, problems, run, sql, wait
from scenario import PROJECT, converge, run_playbook

DATA = "/var/lib/postgresql/17/tradefleet"


def commands() -> list[list[str]]:
    """Return the playbooks of the runbook with their arguments."""
    text = (PROJECT / "docs/runbooks/backups.md").read_text().partition("## ops1 and the database are lost")[2]
    (block,) = re.findall(r"```sh\n(.*?)```", text, re.DOTALL)
    return [shlex.split(line)[3:] for line in block.splitlines()]


def lose(etcd: bool) -> None:
    """Remove what the hosts would not have after they were rebuilt; etcd may have survived on the data hosts."""
    for name in MEMBERS:
        member(name).check_output(f"systemctl kill --signal=KILL patroni; rm -r {DATA}; systemctl stop patroni")
    if etcd:
        member("bk1").check_output("systemctl stop etcd && find /var/lib/etcd -mindepth 1 -delete")
    else:
        for name in MEMBERS:
            member(name).check_output("systemctl start patroni")
    REPOSITORY.check_output(
        "systemctl stop pgbackrest 'tradefleet-backup*' 'restore-drill*';"
        f"rm -r {FOLDER} /var/lib/tradefleet-backups /etc/pgbackrest"
    )


@pytest.mark.thorough
@pytest.mark.parametrize("etcd", [False, True], ids=["etcd-survived", "etcd-lost"])
def test_database_and_repository_are_restored_from_the_second_one(etcd: bool) -> None:
    """All that was copied is there, on all members, and both repositories can be restored afterward."""
    ledger()
    sql("DROP TABLE IF EXISTS survivors; CREATE TABLE survivors AS SELECT n FROM generate_series(1, 1000) AS n")
    run("check")
    copied()
    identity = sql("SELECT system_identifier FROM pg_control_system()")
    lose(etcd)
    first, restore, last = commands()
    assert first == last == ["playbooks/site.yml"]
    assert restore[0] == "playbooks/restore.yml"
    refused = converge(*([] if etcd else ["--limit", "repo1"]), check=False)
    said = " ".join(refused.stdout.split())
    assert refused.returncode != 0
    assert ("The second repository was not attached" if etcd else "The stanza was not created") in said
    assert f"`{' '.join(restore)}`" in said
    start = time.monotonic()
    run_playbook("restore", *LOCK, *restore[1:], "-e", '{"confirm": "restore postgresql"}')
    print(f"restored from the second repository and backed up in {time.monotonic() - start:.0f} s")
    assert sql("SELECT count(*), sum(n) FROM survivors") == "1000|500500"
    assert sql("SELECT system_identifier FROM pg_control_system()") == identity
    converge()
    wait(lambda: sql("SELECT count(*) FROM pg_stat_replication WHERE state = 'streaming'") == "1", 60)
    timelines = f"/usr/lib/postgresql/17/bin/pg_controldata {DATA} | grep TimeLineID"
    assert len({member(name).check_output(timelines) for name in MEMBERS}) == 1
    run("check")
    copied()
    for repository in ("1", "2"):
        run_playbook("restore_drill", *LOCK, "-e", f"repository={repository}")
    run("check")
    assert problems() == []
