"""Does a drill restore the newest backup with all that was archived since, and does it find what is wrong?"""

import time

import pytest
from backups import FOLDER, REPOSITORY, copied, ledger, metric, problems, run, sql, wait

UNITS = {1: "restore-drill", 2: "restore-drill-second"}
DRILL = f"systemctl start {UNITS[1]}"


def drilled(repository: int = 1) -> dict[str, object]:
    """Return the result of the last drill of a repository."""
    found: dict[str, object] = run("report")["results"]["drill" if repository == 1 else "second drill"]
    return found


@pytest.mark.parametrize("repository", UNITS)
def test_drill_restores_every_archived_row_and_removes_its_copy(repository: int) -> None:
    """A row that was written after the last backup is there, because its WAL was archived."""
    ledger()
    sql("INSERT INTO ledger (note) SELECT 'row ' || n FROM generate_series(1, 1000) AS n")
    written = float(sql("SELECT extract(epoch FROM max(written)) FROM ledger"))
    run("check")  # finishes the segment
    copied()
    timeline = sql("SELECT timeline_id FROM pg_control_checkpoint()")
    REPOSITORY.check_output(f"systemctl start {UNITS[repository]}")
    found = drilled(repository)
    assert (found["ok"], found["repository"]) == (True, repository)
    assert found["rows"] == {"trading.public.ledger": int(sql("SELECT count(*) FROM ledger"))}
    assert abs(time.time() - float(str(found["newest_age_seconds"])) - written) < 30
    assert 0 < metric(f'tradefleet_restore_drill_rto_seconds{{repository="{repository}"}}') < 60
    assert REPOSITORY.check_output(f"ls /var/lib/{UNITS[repository]}") == "server.log"
    # The command of the inventory has the figures, whatever began the drill.
    noted = REPOSITORY.check_output("tail -1 /root/drills")
    assert noted.startswith(
        f"--result=ok --reason=repository {repository}, seconds to serve {found['seconds_to_serve']}, newest "
    )
    # The cluster and its archive are as before: a copy that archives would have left another timeline.
    assert sql("SELECT timeline_id FROM pg_control_checkpoint()") == timeline
    assert run("check")["seconds"] < 10
    archived = REPOSITORY.check_output(f"ls -R {FOLDER}/archive/tradefleet")
    assert f"{int(timeline) + 1:08X}.history" not in archived
    assert problems() == []


@pytest.mark.parametrize("unit", UNITS.values())
def test_copy_has_no_network(unit: str) -> None:
    """Its unit has a network namespace of its own."""
    assert "PrivateNetwork=yes" in REPOSITORY.check_output(f"systemctl show {unit} --property=PrivateNetwork")


@pytest.mark.thorough
def test_drills_of_both_repositories_run_one_after_the_other() -> None:
    """Their timers start them at the same time, and the disk has space for one copy."""
    ledger()
    run("check")
    copied()
    REPOSITORY.check_output(f"systemctl start --no-block {' '.join(UNITS.values())}")
    copies = f"ls -d {' '.join(f'/var/lib/{unit}/data' for unit in UNITS.values())} 2> /dev/null | wc -l"
    running = f"systemctl show --property=ActiveState --value {' '.join(UNITS.values())}"
    seen = set()
    while "activating" in REPOSITORY.check_output(running):
        seen.add(REPOSITORY.check_output(copies))
    assert seen <= {"0", "1"}
    assert all(drilled(repository)["ok"] for repository in UNITS)


def test_drill_finds_a_damaged_index() -> None:
    """The index lacks a row that the table has: queries through it would silently return less."""
    ledger()
    sql("UPDATE pg_index SET indisready = false WHERE indexrelid = 'ledger_note'::regclass")
    try:
        sql("INSERT INTO ledger (note) VALUES ('not in the index')")
    finally:
        sql("UPDATE pg_index SET indisready = true WHERE indexrelid = 'ledger_note'::regclass")
    run("check")
    try:
        assert REPOSITORY.run(DRILL).rc != 0
        assert any("drill failed" in each and "ledger_note" in each for each in problems())
        noted = REPOSITORY.check_output("tail -1 /root/drills")
        assert noted.startswith("--result=failed --reason=repository 1: pg_amcheck: ")
        assert metric('tradefleet_backup_last_run_succeeded{command="drill"}') == 0
    finally:
        sql("REINDEX INDEX ledger_note")
        run("check")
    REPOSITORY.check_output(DRILL)
    assert problems() == []


def test_killed_drill_is_repeated() -> None:
    """It leaves its copy, which the next one replaces; the server dies with the unit."""
    ledger()
    run("check")
    REPOSITORY.check_output("systemctl start --no-block restore-drill.service")
    wait(lambda: REPOSITORY.run("test -e /var/lib/restore-drill/data/PG_VERSION").rc == 0, 20)
    REPOSITORY.run("systemctl kill --signal=KILL restore-drill.service")
    time.sleep(1)
    assert REPOSITORY.run("pgrep --full config-file=/run/[r]estore-drill").rc == 1
    REPOSITORY.check_output("systemctl reset-failed restore-drill.service")
    REPOSITORY.check_output(DRILL)
    assert drilled()["ok"] is True
