"""Does the playbook show how far a backup is while it runs, outlive a kill, and state why a backup was not taken?"""

import os
import re
import signal
import subprocess
import time
from collections.abc import Iterator

import pytest
from backups import LOCK, REPOSITORY, run, sql
from scenario import FLEET, PROJECT, command, run_playbook

LINE = re.compile(r"\(item=(\d+) %: ([\d.]+) of ([\d.]+) MB read for repository ([12]), ([\d.]+) MB/s\)")
TABLES = range(12)  # pgBackRest counts a file when it has read all of it


@pytest.fixture
def large() -> Iterator[None]:
    """A database of more than 150 MB."""
    rows = "SELECT md5((n * {0})::text) FROM generate_series(1, 200000) AS n"
    sql("; ".join(f"CREATE TABLE large{number} AS {rows.format(number)}" for number in TABLES))
    yield
    sql("; ".join(f"DROP TABLE large{number}" for number in TABLES))
    run("full")


@pytest.mark.thorough
@pytest.mark.usefixtures("large")
def test_killed_run_is_continued_and_shows_how_far_the_backup_is() -> None:
    """Each tenth is a line as it happens. The backup outlives the run, and the next run waits for the same one."""
    begun = REPOSITORY.check_output("date '+%F %T'")
    argv = command(PROJECT / "playbooks/backup.yml", *FLEET, *LOCK, "-e", "type=full")
    shown, moments = [], []
    with subprocess.Popen(argv, cwd=PROJECT, stdout=subprocess.PIPE, text=True, start_new_session=True) as killed:
        assert killed.stdout
        for line in killed.stdout:
            if found := LINE.search(line):
                shown.append(found.groups())
                break
        os.killpg(killed.pid, signal.SIGKILL)
    with subprocess.Popen(argv, cwd=PROJECT, stdout=subprocess.PIPE, text=True) as again:
        assert again.stdout
        output = ""
        for line in again.stdout:
            output += line
            if found := LINE.search(line):
                shown.append(found.groups())
                moments.append(time.monotonic())
    assert again.returncode == 0, output
    percents = [int(each[0]) for each in shown]
    assert percents == sorted(percents)
    assert {each[3] for each in shown} == {"1", "2"}
    for _, read, size, _, speed in shown:
        assert 0 < float(read) <= float(size)
        assert float(size) > 150
        assert float(speed) > 0
    # Printed as it happened, and not when all was done.
    assert moments[-1] - moments[0] > 1
    label = run("report")["results"]["full"]["label"]
    text = " ".join(output.split())
    assert re.search(rf"{label} in repository 1: read [\d.]+ MB in \d+ s \([\d.]+ MB/s\), stored [\d.]+ MB\. \d", text)
    assert re.search(r"F in repository 2: read [\d.]+ MB", text)
    started = REPOSITORY.check_output("journalctl --unit tradefleet-backup@full --output=cat --since %s", begun)
    assert started.count("Starting tradefleet-backup@full") == 1


def test_reason_of_a_backup_that_was_not_taken_is_in_the_message() -> None:
    """Here another one is running."""
    REPOSITORY.check_output("systemd-run --unit=other-backup flock /var/lib/tradefleet-backups/.backing-up sleep 600")
    try:
        refused = run_playbook("backup", *LOCK, check=False)
    finally:
        REPOSITORY.check_output("systemctl stop other-backup")
    assert refused.returncode != 0
    reason = "The backup was not taken (exit-code): unable to acquire the lock: another backup is running"
    assert reason in " ".join(refused.stdout.split())
