"""Is PostgreSQL restored to a moment, with every order that was acknowledged before it and none after?"""

import itertools
import time
import uuid

import pytest
from clients import Api
from health import ready
from inside import on
from lab import DATA, MOMENT, changes, leader, measured, output, play, play_until, playing, sql, wait
from ordering import ordering
from verdicts import FILLER


def timelines() -> set[str]:
    """Return the timelines of all members."""
    query = "SELECT CASE WHEN pg_is_in_recovery() THEN received_tli ELSE timeline_id END"
    tables = "FROM pg_control_checkpoint() LEFT JOIN pg_stat_wal_receiver ON true"
    return {sql(host, f"{query} {tables}") for host in DATA}


def test_target_that_the_archive_does_not_contain_is_refused() -> None:
    """Nothing is stopped."""
    before = leader()
    for target, reason in (
        ("2020-01-01T00:00:00+00:00", "the end of the oldest backup"),
        ("2099-01-01T00:00:00+00:00", "cannot be restored"),
        ("2026-11-30T06:00:00", "is no target"),
        ("lsn:FF/0", "is not in the archive"),
    ):
        refused = play("restore", check=False, overwrite="postgresql", target=target)
        assert refused.returncode != 0
        assert reason in output(refused)
    unconfirmed = play("restore", check=False, target="latest")
    assert "confirm it with `-e overwrite=postgresql`" in output(unconfirmed)
    assert leader() == before


def test_cluster_is_restored_to_the_moment_before_a_delete(api: Api) -> None:
    """The deletion happens under load. Afterward all members are on one timeline, and the platform takes orders."""
    with ordering(api) as (acknowledged, _):
        wait(lambda: len(acknowledged) > 20, 30, "orders are placed")
        time.sleep(1)
        moment = sql(leader(), MOMENT)
        target = time.time()
        time.sleep(1)
        sql(leader(), "DELETE FROM orders")
        wait(lambda: sum(sent > target for sent, _ in acknowledged) > 20, 30, "more orders are placed")
    start = time.monotonic()
    play("restore", overwrite="postgresql", target=moment)
    print(f"restored and backed up in {time.monotonic() - start:.0f} s")
    present = set(sql(leader(), "SELECT id FROM orders").split())
    # A request that was under way at that moment may be on either side.
    assert {order for sent, order in acknowledged if sent < target - 1} - present == set()
    assert {order for sent, order in acknowledged if sent > target} & present == set()
    assert len(timelines()) == 1
    wait(lambda: all(ready(host) for host in ("blue1", "blue2")), 30, "the application is ready")
    assert api.order(uuid.uuid4().hex).status == 201
    assert on("ops1", "runuser -u postgres -- tradefleet-backups check")


@pytest.mark.thorough
def test_target_that_is_not_reached_leaves_the_cluster_as_it_is(api: Api) -> None:
    """Nobody knows before the replay whether a named point exists. The replica is copied from the leader again."""
    before, known = leader(), api.order(uuid.uuid4().hex).json()["id"]
    failed = play("restore", check=False, overwrite="postgresql", target="name:nowhere")
    assert failed.returncode != 0
    assert "nowhere was not reached" in output(failed)
    assert "recovery ended before configured recovery target was reached" in output(failed)
    assert leader() == before
    assert known in sql(before, "SELECT id FROM orders").split()
    # The copy that is being made streams, too, so each member is queried itself.
    query = "su postgres -c \"psql -Atc 'SELECT 1'\""
    wait(lambda: {on(host, query, check=False).strip() for host in DATA} == {"1"}, 60, "all members respond")
    assert len(timelines()) == 1
    assert changes(play("site")) == []


@pytest.mark.thorough
@pytest.mark.parametrize(
    "task",
    [
        "Reach | Stop the member",
        "Recover | Run the step reach",
        "Switch | Stop the leader",
        "Recover | Run the step promote",
        "Switch | Wait until it leads",
        "Recover | Run the step clear",
        "Recover | Run the step finish",
    ],
)
def test_killed_restore_is_continued(api: Api, task: str) -> None:
    """Wherever it is killed, the next run with the same target reaches it."""
    order = api.order(uuid.uuid4().hex).json()["id"]
    moment = sql(leader(), MOMENT)
    later = api.order(uuid.uuid4().hex).json()["id"]
    play_until(
        f"TASK [{'pgbackrest' if 'Recover' in task else 'recovery'} : {task}",
        "restore",
        overwrite="postgresql",
        target=moment,
    )
    play("restore", overwrite="postgresql", target=moment)
    present = set(sql(leader(), "SELECT id FROM orders").split())
    assert order in present
    assert later not in present
    assert len(timelines()) == 1
    wait(lambda: all(ready(host) for host in ("blue1", "blue2")), 30, "the application is ready")


@pytest.mark.thorough
def test_gigabyte_is_restored_as_fast_as_its_files_are_copied(api: Api) -> None:
    """The peer is rsync of the same files on the same host. Clients wait for less than the restore takes."""
    sql(leader(), FILLER, seconds=300)
    play("backup", type="full")
    before = api.order(uuid.uuid4().hex).json()["id"]
    moment = sql(leader(), MOMENT)
    sql(leader(), "DELETE FROM orders")
    host = leader()
    size = int(on(host, "du -sm /var/lib/postgresql/17/tradefleet").split()[0])
    on(host, "apt-get -qq install rsync > /dev/null")
    start = time.monotonic()
    on(host, "rsync --archive /var/lib/postgresql/17/tradefleet/ /var/lib/postgresql/copy")
    copied = time.monotonic() - start
    on(host, "rm -r /var/lib/postgresql/copy; apt-get -qq purge rsync > /dev/null")
    began = time.time()
    with ordering(api) as (acknowledged, _):
        plays = [
            (line, time.time() - began)
            for line in playing("restore", overwrite="postgresql", target=moment)
            if line.startswith("PLAY [")
        ]
    together = next(took for line, took in plays if "Back up the restored cluster" in line)
    times = [sent for sent, _ in acknowledged]
    waited, writable = max((later - earlier, later - began) for earlier, later in itertools.pairwise(times))
    measured(
        f"{size} MB: rsync {copied:.1f} s; clients waited {waited:.1f} s, until {writable:.1f} s after the start; "
        f"all members {together:.1f} s, with full backup {time.time() - began:.1f} s"
    )
    assert before in sql(leader(), "SELECT id FROM orders").split()
    assert waited < 1.5 * copied
    sql(leader(), "DROP TABLE filler")


@pytest.mark.thorough
def test_lost_cluster_is_restored(api: Api) -> None:
    """All three data directories are gone; what was archived, at most a minute ago, is there again."""
    orders = {api.order(uuid.uuid4().hex).json()["id"] for _ in range(20)}
    on("ops1", "runuser -u postgres -- tradefleet-backups check")
    for host in DATA:
        on(
            host,
            "systemctl kill --signal=KILL patroni; rm -r /var/lib/postgresql/17/tradefleet; systemctl stop patroni",
        )
    play("restore", overwrite="postgresql", target="latest")
    assert orders - set(sql(leader(), "SELECT id FROM orders").split()) == set()
    assert len(timelines()) == 1
    wait(lambda: all(ready(host) for host in ("blue1", "blue2")), 30, "the application is ready")
    assert changes(play("site")) == []
