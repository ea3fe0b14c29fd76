"""Does a setting that needs a restart reach every member while rows are written?"""

import itertools

from postgresql_cluster import ADDRESSES, leader, local, member, psql, roles, wait_until
from postgresql_writer import acknowledged, rows, start_writer
from scenario import converge, would_change

# One setting must be lowered on the leader before it is on replicas, and one is in each member's own file.
CHANGED = ("--tags", "postgresql", "-e", '{"postgresql_max_connections": 50, "postgresql_shared_buffers": "80MB"}')


def test_check_mode_reports_changes_without_making_them() -> None:
    """The settings in etcd and in each member's own file would change, but nothing does."""
    query = "sha256sum /etc/patroni/config.yml; patronictl -c /etc/patroni/config.yml show-config"
    before = {name: member(name).check_output(query) for name in ADDRESSES}
    assert {
        "postgresql : Configure | Configure Patroni",
        "postgresql : Dynamic | Query the settings in etcd",
    } <= would_change(*CHANGED)
    assert {name: member(name).check_output(query) for name in ADDRESSES} == before


def test_changed_setting_is_rolled_through_the_cluster() -> None:
    """The leader has switched over, no restart is pending, no row is lost, and another run changes nothing."""
    old = leader(ADDRESSES["pg1"])
    assert psql(member(old), "trading_owner", "DROP TABLE IF EXISTS ledger; CREATE TABLE ledger (id int)").rc == 0
    member(old).check_output("truncate --size=0 /tmp/acknowledged")
    writer = start_writer(old)
    try:
        converge(*CHANGED)
    finally:
        member(old).check_output("touch /tmp/stop")
        writer.wait(timeout=15)

    query = "SELECT current_setting('max_connections'), current_setting('shared_buffers'), count(*) FROM pg_settings"
    for name in ADDRESSES:
        assert local(member(name), f"{query} WHERE pending_restart") == "50|80MB|0"
    assert leader(ADDRESSES["pg1"]) != old
    assert sorted(roles(ADDRESSES["pg1"]).values()) == ["leader", "replica", "sync_standby"]

    times = sorted(acknowledged(old).values())
    print(f"{len(times)} rows, none for {max(later - earlier for earlier, later in itertools.pairwise(times)):.1f} s")
    wait_until(lambda: all(set(acknowledged(old)) <= rows(name) for name in ADDRESSES), 10)
    assert converge(*CHANGED, "--limit", old).stdout.count("changed=0 ") == 1
