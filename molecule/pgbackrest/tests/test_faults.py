"""Is each fault of the archive and the repository reported, and does none fill the primary's disk?"""

from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack, contextmanager

import pytest
from backups import CONFIG, FOLDER, REPOSITORY, changed, command, leader, member, metric, problems, run, sql, wait


def newest_file(pattern: str) -> str:
    """Return the newest file of the repository that matches."""
    listed = f"find {FOLDER} -type f -path '{pattern}' -printf '%T@ %p\\n' | sort -n | tail -1 | cut -d ' ' -f 2"
    return str(REPOSITORY.check_output(listed))


@pytest.mark.parametrize("pattern", ["*/backup/*/bundle/*", "*/archive/*/*-*.zst"], ids=["backup", "wal"])
def test_corrupted_file_is_reported_by_the_next_verification(pattern: str) -> None:
    """One byte differs: nobody notices until a restore, unless every file is read."""
    path = newest_file(pattern)
    size = int(REPOSITORY.check_output("stat --format=%%s %s", path))
    with changed(REPOSITORY, path, "1!b"):
        patch = f"printf '\\377\\000\\377' | dd of={path} bs=1 seek={size // 2} conv=notrunc status=none"
        REPOSITORY.check_output(patch)
        assert REPOSITORY.run(command("verify")).rc == 1
        assert any("verify failed" in each for each in problems())
        assert metric('tradefleet_backup_last_run_succeeded{command="verify"}') == 0
    run("verify")
    assert problems() == []


def test_missing_segment_is_reported_until_the_next_full_backup() -> None:
    """Nothing after the gap can be restored from the backup before it."""
    for _ in range(3):
        run("check")
    paths = REPOSITORY.check_output(f"find {FOLDER}/archive -name '*-*.zst' | sort").splitlines()
    REPOSITORY.check_output("mv %s /root/", paths[-2])
    assert any("1 segments of WAL are missing" in each for each in problems())
    run("full")
    assert problems() == []


def test_wrong_passphrase_is_reported() -> None:
    """The repository cannot be read with it, and is not overwritten."""
    with changed(REPOSITORY, CONFIG, "s/^repo1-cipher-pass=.*/repo1-cipher-pass=another/"):
        assert REPOSITORY.run(command("check")).rc == 1
        found = problems()
        assert any("repository cannot be read" in each for each in found)
        assert any("check failed" in each for each in found)
    run("check")
    assert problems() == []


def test_member_that_cannot_archive_is_reported_and_keeps_its_disk() -> None:
    """While the repository is off, WAL is kept up to the limit; beyond it the archive has a gap, which is reported."""
    host = member(leader())
    before = int(sql("SELECT count(*) FROM pg_ls_waldir()"))
    REPOSITORY.check_output("systemctl stop pgbackrest")
    try:
        with ThreadPoolExecutor() as pool:
            checked = pool.submit(REPOSITORY.run, command("check"))
            for _ in range(12):
                sql("CREATE TABLE filler AS SELECT 1; DROP TABLE filler; SELECT pg_switch_wal()")
            log = "grep --count 'dropped WAL' /var/log/pgbackrest/tradefleet-archive-push-async.log"
            wait(lambda: int(host.run(log).stdout or 0) > 5, 120)
            assert checked.result().rc == 1
        assert any("check failed" in each for each in problems())
    finally:
        REPOSITORY.check_output("systemctl start pgbackrest")
    wait(lambda: sql("SELECT count(*) FROM pg_ls_archive_statusdir() WHERE name LIKE '%.ready'") == "0", 60)
    assert int(sql("SELECT count(*) FROM pg_ls_waldir()")) < before + 20
    run("check")
    assert any("segments of WAL are missing" in each for each in problems())
    run("full")
    assert problems() == []


OTHER = """
set -eu
cd /tmp/other-cluster
cat > config <<TEXT
$(grep '^repo1-' /etc/pgbackrest/pgbackrest.conf)
TEXT
sed -i '1i [global]' config
printf '[tradefleet]\\npg1-path=%s/data\\npg1-socket-path=%s\\n' "$PWD" "$PWD" >> config
bin=/usr/lib/postgresql/17/bin
$bin/initdb -D data > log
$bin/pg_ctl start -D data -o "-c listen_addresses='' -c unix_socket_directories=$PWD" -l log --wait
trap '$bin/pg_ctl stop -D data --mode=immediate' EXIT
pgbackrest --config=$PWD/config --stanza=tradefleet --lock-path=$PWD stanza-create
"""


def test_stanza_of_another_cluster_is_refused() -> None:
    """The repository contains a cluster with another identity; its backups stay as they are."""
    contents = (
        f"cd {FOLDER} && sha256sum archive/tradefleet/archive.info backup/tradefleet/backup.info; ls backup/tradefleet"
    )
    before = REPOSITORY.check_output(contents)
    REPOSITORY.check_output("install -d -o postgres -m 0700 /tmp/other-cluster")
    refused = REPOSITORY.run("runuser -u postgres -- sh -c %s", OTHER)
    REPOSITORY.check_output("rm -r /tmp/other-cluster")
    assert refused.rc == 28, refused.stderr
    assert "do not match the database" in refused.stdout + refused.stderr
    assert REPOSITORY.check_output(contents) == before


@contextmanager
def small_disk() -> Iterator[None]:
    """Let the repository be on a file system with 40 MB of space for the length of the block."""
    do = REPOSITORY.check_output
    # A file system with an open file cannot be removed, and files that appear or vanish disturb the copy.
    stop, start = (f"systemctl {verb} pgbackrest tradefleet-backup-copy" for verb in ("stop", "start"))
    size = 40 + int(do(f"du --summarize --block-size=1M {FOLDER}").split()[0])
    with ExitStack() as undo:
        do(stop)
        undo.callback(do, start)
        do(f"mkdir -p /mnt/small && mount -t tmpfs -o size={size}m,uid=postgres,mode=0750 tmpfs /mnt/small")
        undo.callback(do, "umount /mnt/small")
        do(f"cp -a {FOLDER}/. /mnt/small/ && mount --bind /mnt/small {FOLDER}")
        undo.callback(do, f"umount {FOLDER}")
        do(start)
        undo.callback(do, stop)
        yield


@pytest.mark.thorough
def test_full_disk_of_the_repository_is_reported_and_the_primary_keeps_its_disk() -> None:
    """WAL is rejected, and the next check reports it. Once there is space again, WAL arrives."""
    with small_disk():
        run("check")
        REPOSITORY.run(f"runuser -u postgres -- dd if=/dev/zero of={FOLDER}/filler bs=1M")
        assert REPOSITORY.run(command("check")).rc == 1
        found = problems()
        assert any("check failed" in each for each in found)
        assert any("0 % of the repository's disk is free" in each for each in found)
        assert metric("tradefleet_backup_repository_free_ratio") == 0
        REPOSITORY.check_output(f"rm {FOLDER}/filler")
        run("check")  # another segment wakes the archiver, which otherwise pauses for a minute after three failures
        wait(lambda: sql("SELECT count(*) FROM pg_ls_archive_statusdir() WHERE name LIKE '%.ready'") == "0", 30)
    run("full")
    assert problems() == []


@pytest.mark.thorough
def test_single_segment_that_is_rejected_does_not_fill_the_disk_of_the_primary() -> None:
    """pgBackRest archives those that follow, so its own bound counts none. Beyond the queue the segment is dropped."""
    host = member(leader())
    segment = sql("SELECT pg_walfile_name(pg_current_wal_lsn())")
    other = f"{FOLDER}/archive/tradefleet/17-1/{segment[:16]}/{segment}-{'0' * 40}.zst"
    REPOSITORY.check_output("runuser -u postgres -- sh -c %s", f"mkdir -p $(dirname {other}) && echo other > {other}")
    try:
        for _ in range(8):
            sql("CREATE TABLE filler AS SELECT 1; DROP TABLE filler; SELECT pg_switch_wal()")
        assert int(sql("SELECT failed_count FROM pg_stat_archiver")) > 0
        dropped = f"journalctl --unit patroni | grep --quiet 'dropped WAL file {segment}'"
        wait(lambda: host.run(dropped).rc == 0, 90)
        waiting = "SELECT count(*) FROM pg_ls_archive_statusdir() WHERE name LIKE '%.ready'"
        wait(lambda: sql(waiting) == "0", 60)
    finally:
        REPOSITORY.check_output("rm %s", other)
    assert any("1 segments of WAL are missing" in each for each in problems())
    run("full")
    run("check")
    assert problems() == []
