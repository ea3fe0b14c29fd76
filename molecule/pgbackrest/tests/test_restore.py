"""Is a restore refused before it stops anything, and do the commands of the document copy a lost row back?"""

import re
import shlex
import subprocess
from collections.abc import Iterator

import pytest
from backups import REPOSITORY, command, leader, member, run, sql
from scenario import PROJECT


def test_too_little_space_is_refused() -> None:
    """The files of the restored cluster would not fit on a file system of this size; the present data are replaced."""
    host = member("bk1")
    fits = "runuser -u postgres -- tradefleet-recover fits"
    assert host.run(f"{fits} 10000000").rc == 0
    # The program in a namespace of its own, whose data directory is on a file system of 20 MB.
    small = "mount -t tmpfs -o size=20m,mode=0755 tmpfs /var/lib/postgresql/17"
    refused = host.run("unshare --mount sh -c %s", f"{small} && {fits} 40000000")
    assert refused.rc == 1
    assert re.search(r"/var/lib/postgresql/17 has 20 MB for the data, and the backup needs 41 MB", refused.stderr)
    assert host.run("unshare --mount sh -c %s", f"{small} && {fits} 10000000").rc == 0


def test_target_that_no_backup_contains_is_refused() -> None:
    """The message has the remedy."""
    for target, reason in (
        ("2020-01-01T00:00:00+00:00", "the end of the oldest backup"),
        ("lsn:FF/0", "name an LSN from"),
        ("yesterday", "is no target"),
    ):
        refused = REPOSITORY.run(f"{command('restorable')} %s", target)
        assert refused.rc == 1
        assert reason in refused.stderr


@pytest.fixture
def lost() -> Iterator[str]:
    """A row that was deleted after the moment that the server on the repository host serves."""
    sql("DROP TABLE IF EXISTS orders; CREATE TABLE orders (id text PRIMARY KEY, note text)")
    sql("INSERT INTO orders VALUES ('lost-order', 'worth a lot'), ('kept-order', 'stays')")
    sql("SELECT pg_create_restore_point('before-loss')")
    sql("DELETE FROM orders WHERE id = 'lost-order'")
    run("check")
    REPOSITORY.check_output("install -d -o postgres -g postgres -m 0700 /var/lib/restore-scratch")
    plan = REPOSITORY.check_output(command("restorable name:before-loss"))
    REPOSITORY.check_output("runuser -u postgres -- sh -c %s", f"echo '{plan}' > /var/lib/restore-scratch/target.json")
    REPOSITORY.check_output("systemctl start restore-scratch")
    yield "lost-order"
    REPOSITORY.check_output("systemctl stop restore-scratch")
    sql("DROP TABLE orders")


def test_commands_of_the_document_copy_a_lost_row_back(lost: str) -> None:
    """They are run as they are in docs/backups.md, with this scenario's hosts, database and identity of the row."""
    text = (PROJECT / "docs/backups.md").read_text().partition("## A row is lost")[2].partition("\n## ")[0]
    look, copy = re.findall(r"```sh\n(.*?)```", text, re.DOTALL)
    hosts = f"ops1) host=tf-repo1;; data1) host=tf-{leader()};;"
    # ssh joins its arguments, and a shell of the host reads them.
    ssh = f'ssh() {{ case "$1" in {hosts} esac; shift; podman exec -i "$host" sh -c "$*"; }}; set -euo pipefail\n'

    def shell(lines: str) -> str:
        script = ssh + lines.replace("…", lost).replace("-d tradefleet", "-d trading").replace(
            "dbname tradefleet", "dbname trading"
        )
        return subprocess.run(["bash", "-c", script], capture_output=True, text=True, check=True).stdout

    assert "worth a lot" in shell(f"ssh ops1 {shlex.quote(look)}")
    assert sql("SELECT count(*) FROM orders WHERE id = 'lost-order'") == "0"
    assert shell(copy).strip() == "COPY 1"
    assert sql("SELECT note FROM orders ORDER BY id") == "stays\nworth a lot"
    again = subprocess.run(
        ["bash", "-c", ssh + copy.replace("…", lost).replace("-d tradefleet", "-d trading")],
        capture_output=True,
        check=False,
    )
    assert again.returncode != 0
    assert sql("SELECT count(*) FROM orders") == "2"
