"""The status table: a line for each host, and warnings with what to type."""

import json
from pathlib import Path
from typing import Any

import pytest
from repository import ansible
from status_table import status_table

from inventories import unreachable_lab

GROUPS = {"edge": [], "postgres": [], "ops": ["ops1"]}
STATED: dict[str, Any] = {"live": "blue", "idle": "green", "vip": "10.0.0.10"}
RUNNING = {"stdout": "running"}


def table(name: str, host: dict[str, Any], groups: dict[str, list[str]] | None = None, **stated: Any) -> str:
    """Return the table of a fleet with one host."""
    known = STATED | stated | {"groups": GROUPS | {"all": [name]} | (groups or {})}
    return status_table({name: {"__status_systemd": RUNNING} | host}, known)


def test_host_without_results_is_unreachable() -> None:
    """Its services are not in the table; those of the other hosts are."""
    hosts = {
        "data1": {"group_names": ["etcd", "postgres"], "__status_systemd": {"unreachable": True}},
        "ops-one": {"group_names": ["ops", "preflight_needed"], "__status_systemd": {"stdout": "degraded"}},
    }
    assert status_table(hosts, STATED | {"groups": GROUPS | {"all": list(hosts)}}).splitlines() == [
        "data1    etcd,postgres        unreachable",
        "ops-one  ops                  ",
        "warning: data1 is unreachable over SSH",
        "warning: ops-one: systemd reports degraded (systemctl --failed)",
        "warning: 10.0.0.10 is on no load balancer",
        "warning: PostgreSQL has 0 leaders",
    ]


def test_status_ends_with_the_lock_and_the_last_operations() -> None:
    """A missing or changed journal causes a warning."""

    def operations(**answer: object) -> str:
        return table("ops1", {"group_names": ["ops"], "__status_operations": answer}, lock_host="ops1")

    output = "lock: alex@desk for 0 min 2 s: site\n\ntime  who"
    whole = operations(rc=0, stdout=output, stderr="")
    assert whole.startswith(f"ops1  ops                  \n\n{output}\n\nwarning: ")
    assert "ops1: " not in whole
    broken = operations(rc=1, stdout=output, stderr="The journal is broken: line 4 does not follow the one before it.")
    assert output in broken
    assert "\nwarning: ops1: The journal is broken: line 4" in broken
    assert "\nwarning: ops1: no lock and no journal\n" in operations(rc=2, stdout="", stderr="", msg="No such file")
    assert "\nwarning: ops1: no lock and no journal\n" in table("ops1", {"group_names": ["ops"]}, lock_host="ops1")


def edge(traffic: str, canary: int = 0, acme: bool = False, **answer: Any) -> str:
    """Return the table of one load balancer; blue is live."""
    host = {
        "group_names": ["edge"],
        "__status_edge": {"json": {"color": "blue", "release": "0.1.0"}, "certificate_days": 390} | answer,
        "nginx_status_traffic": {"stdout": f"traffic-sets/{traffic}" if traffic else ""},
        "nginx_status_waf": {"stdout": "On"},
        "nginx_status_maintenance": {"stat": {"exists": answer.get("closed", False)}},
        "__status_vip": {"stdout": "eth0 UP 10.0.0.10/32"},
    }
    return table("lb1", host, {"edge": ["lb1"]}, canary=canary, acme=acme)


def test_traffic_of_each_load_balancer_is_compared_with_traffic_yml() -> None:
    """This covers live color, canary share and shadow share; equal values cause no warning."""
    assert "warning: lb1" not in edge("blue")
    same = edge("blue+green-10", canary=10)
    assert "lb1  edge                 live=blue release=0.1.0 blue+green-10 certificate=390d waf=block vip\n" in same
    assert "warning: lb1" not in same
    for traffic, canary, stated in (
        ("blue+green-10", 0, "blue"),
        ("blue", 10, "blue+green-10"),
        ("blue+green-50", 10, "blue+green-10"),
        ("blue+shadow-green-5", 0, "blue"),
        ("green", 0, "blue"),
        ("", 0, "blue"),
    ):
        warned = (
            f'warning: lb1 has the traffic "{traffic}", traffic.yml states "{stated}": unless a playbook is running, '
        )
        assert f"{warned}`make site` repairs it" in edge(traffic, canary)


def test_load_balancer_that_serves_another_color_is_reported() -> None:
    """One that serves no client is reported as well."""
    output = edge("blue", json={"color": "green", "release": "0.1.0"})
    assert "warning: lb1 serves green, traffic.yml states blue: `make cutover TO=…` or `make site`\n" in output
    assert "warning: lb1 is closed for maintenance: `make maintenance STATE=off` opens it\n" in edge(
        "blue", closed=True
    )


def test_certificate_that_expires_soon_is_reported() -> None:
    """The warning comes early; an expired certificate is reported with its load balancer."""
    assert "certificate that is valid" not in edge("blue", certificate_days=14)
    assert (
        "warning: lb1 serves a certificate that is valid for another 13 days: `make site` renews the fleet's own; "
        "one of yours in nginx_tls_certificate_file is yours to renew\n"
    ) in edge("blue", certificate_days=13)
    assert "`journalctl --unit acme-renew` on ops1 tells why it was not renewed\n" in edge(
        "blue", acme=True, certificate_days=-1
    )
    ended = edge("blue", json={}, certificate_days="none", msg="10.0.0.11: certificate has expired")
    assert "live=none release=none certificate=none" in ended
    assert "warning: lb1 serves nothing, traffic.yml states blue" in ended
    assert "(10.0.0.11: certificate has expired)" in ended


def test_virtual_ip_on_two_or_no_load_balancers_is_reported() -> None:
    """Exactly one load balancer must have it."""
    answer = {
        "group_names": ["edge"],
        "__status_systemd": RUNNING,
        "__status_edge": {"json": {"color": "blue", "release": "0.1.0"}},
        "nginx_status_traffic": {"stdout": "traffic-sets/blue"},
        "__status_vip": {"stdout": "eth0"},
    }
    hosts = {"lb1": answer, "lb2": answer}
    two = status_table(hosts, STATED | {"groups": GROUPS | {"all": list(hosts), "edge": list(hosts)}})
    assert "warning: 10.0.0.10 is on lb1 and lb2\n" in two
    assert "10.0.0.10" not in edge("blue")


def app(
    release: str = "0.1.0",
    color: str = "blue",
    worker: str = "active",
    written: str = "1",
    wanted: str = "0.1.0",
    **ready: Any,
) -> str:
    """Return the table of one application host; blue is live."""
    readiness = {"status": "ready", "dependencies": {}, "outbox_seconds": 0, "outbox_failed": 0} | ready
    host = {
        "group_names": ["app", f"app_{color}"],
        "app_color": color,
        "app_status": {"results": [{"json": {"release": release, "commit": "abc"}}, {"json": readiness}]},
        "app_status_settings": {"results": [{"stat": {"checksum": "1"}}, {"stat": {"checksum": written}}]},
        "app_status_worker": {"stdout": worker},
    }
    return table("app1", host, releases={"blue": wanted, "green": wanted})


def test_host_that_a_roll_skipped_is_reported() -> None:
    """The warning states what to type if a live host runs another release than traffic.yml names."""
    left = app(release="0.2.0", status="draining")
    assert "app1  app_blue             release=0.2.0 commit=abc draining worker=running\n" in left
    sentence = "is out of service (draining): a roll was interrupted, `make rolling VERSION=…` finishes it"
    assert f"warning: app1 {sentence}\n" in left
    assert "warning: app1 runs 0.2.0, traffic.yml states 0.1.0: `make rolling VERSION=0.1.0`\n" in left
    assert "warning: app1" not in app()
    idle = app(release="0.2.0", color="green", worker="inactive")
    assert "warning: app1 runs 0.2.0, traffic.yml states 0.1.0: `make site`\n" in idle


def test_dependencies_of_an_unready_host_are_reported() -> None:
    """Each has its state; a color without a release need not be ready."""
    output = app(status="not ready", dependencies={"redis": "down", "Postgres": "ok"})
    assert "warning: app1 is not ready: Postgres ok, redis down\n" in output
    nothing = app(status="down", wanted="", color="green", worker="inactive")
    assert "app1 is down" not in nothing
    assert "warning: app1 runs 0.1.0, traffic.yml states nothing: `make site`\n" in nothing


def test_worker_that_does_not_follow_its_color_is_reported() -> None:
    """This covers a stopped worker, one that should not run, and events that no worker processes."""
    for color, state, word in (("blue", "active", "running"), ("green", "inactive", "idle")):
        assert f" ready worker={word}\n" in app(color=color, worker=state)
        assert "warning: app1" not in app(color=color, worker=state, outbox_seconds=60)
    assert "warning: app1: its worker is down, and its color serves: `make site`" in app(worker="failed")
    assert "warning: app1: its worker is running, and its color does not serve" in app(color="green")
    assert "warning: app1 finds that events have been waiting in the outbox for 61 s" in app(outbox_seconds=61)
    assert "warning: app1 finds that 3 events failed and were set aside" in app(outbox_failed=3)
    assert "warning: app1" not in app(outbox_failed=None)


def test_settings_that_need_a_restart_are_reported() -> None:
    """The application runs with older settings than those on disk."""
    assert "warning: app1 runs with settings older than those on its disk" in app(written="2")


def test_postgresql_has_a_role_a_state_and_one_leader() -> None:
    """Scripts can search for the words, such as `postgresql=leader`."""
    leader = {"name": "data1", "role": "leader", "state": "running"}
    replica = {"name": "data2", "role": "replica", "state": "streaming", "lag": 0}

    def cluster(*members: dict[str, Any]) -> str:
        own = {
            "group_names": ["postgres"],
            "__status_systemd": RUNNING,
            "postgresql_status": {"json": {"members": members}},
        }
        down = {"group_names": ["postgres"], "__status_systemd": RUNNING, "postgresql_status": {"status": -1}}
        hosts = {"data1": own, "data2": own, "data3": down}
        return status_table(hosts, STATED | {"groups": GROUPS | {"all": list(hosts), "postgres": list(hosts)}})

    good = cluster(leader, replica)
    assert good.splitlines()[:3] == [
        "data1  postgres             postgresql=leader running",
        "data2  postgres             postgresql=replica streaming lag=0",
        "data3  postgres             postgresql=down ",
    ]
    assert "warning: data3: PostgreSQL is down\n" in good
    assert "leaders" not in good
    assert "warning: PostgreSQL has 2 leaders\n" in cluster(leader, replica | {"role": "leader"})
    assert "warning: data2: PostgreSQL is stopped\n" in cluster(leader, replica | {"state": "stopped"})


@pytest.mark.parametrize(
    ("answers", "cells", "down"),
    [
        ((["master", "1"], ["slave", "x"]), "redis=primary  cache=replica", []),
        (([], ["slave"]), "redis=down  cache=replica", ["state"]),
        ((["master"], []), "redis=primary  cache=down", ["cache"]),
    ],
)
def test_each_redis_service_has_a_role(answers: tuple[list[str], ...], cells: str, down: list[str]) -> None:
    """Sentinel's service `state` is shown as redis."""
    results = [{"item": name, "stdout_lines": lines} for name, lines in zip(("state", "cache"), answers, strict=True)]
    output = table("data1", {"group_names": ["redis"], "redis_status": {"results": results}})
    assert output.startswith(f"data1  redis                {cells}\n")
    assert [name for name in ("state", "cache") if f"warning: data1: Redis ({name}) is down\n" in output] == down


def test_playbook_passes_values_of_the_inventory(tmp_path: Path) -> None:
    """The real ansible-playbook runs without its queries: no host has returned anything."""
    copy, file = unreachable_lab(tmp_path), tmp_path / "status.txt"
    given = ["-i", str(copy), "--start-at-task", "Show | Write the table", f"-estatus_file={file}"]
    done = ansible("ansible-playbook", *given, "playbooks/status.yml")
    assert done.returncode == 0, done.stdout + done.stderr
    lines = file.read_text().splitlines()
    assert "lb1     edge                 unreachable" in lines
    assert "warning: 10.203.0.10 is on no load balancer" in lines
    assert lines[-1] == "warning: ops1: no lock and no journal"


BACKUPS = {"now": 1_000_000, "newest": 992_800, "full": 395_200, "wal": 999_988, "drill": 0, "problems": []}

ARCHIVES: dict[str, Any] = {
    "now": 1_000_000,
    "stored": 998_200,
    "arrived": {"redis": 992_800, "controller": 0},
    "problems": [],
}


def reported(**state: Any) -> str:
    """Return the table of a host with backups that report this state."""
    host = {"group_names": ["ops"], "pgbackrest_status": {"stdout": json.dumps(BACKUPS | state)}}
    return table("ops1", host | {"archive_status": {"stdout": json.dumps(ARCHIVES)}}, backup_host="ops1")


def test_ages_of_backups_and_of_the_drill_are_in_the_table() -> None:
    """Each in the largest unit of which at least two have passed."""
    plain = "ops1  ops                  backup=2h full=7d wal=12s drill=none"
    archives = "archive=30m  redis-archive=2h  controller-archive=none"
    assert reported().splitlines()[0] == f"{plain}  {archives}"
    second = {"newest": 820_000, "full": 395_200, "wal": 999_000, "drill": 989_200}
    running = f"{plain} second=2d second-drill=3h running=42%  {archives}"
    assert reported(second=second, running_percent=41.6).splitlines()[0] == running


def test_problem_of_the_backups_is_a_warning() -> None:
    """So is a report that cannot be read; another host of the group reports nothing."""
    problem = "check failed: no WAL"
    assert "warning: ops1: backups of PostgreSQL: check failed: no WAL (docs/backups.md)" in reported(
        problems=[problem]
    )
    host = {"group_names": ["ops"], "pgbackrest_status": {"stdout": "", "stderr": "command not found"}}
    assert "warning: ops1 cannot report its backups: command not found" in table("ops1", host, backup_host="ops1")
    assert "backup" not in table("ops1", host, backup_host="ops2").splitlines()[0]


def test_archives_of_a_host_are_in_the_table_and_their_problems_are_warnings() -> None:
    """A fleet without a host for backups has none."""
    state = ARCHIVES | {"arrived": {}, "copied": 996_400, "problems": ["store failed: refused"]}
    host = {"group_names": ["redis"], "archive_status": {"stdout": json.dumps(state)}}
    output = table("data1", host, backup_host="ops1")
    assert output.startswith("data1  redis                archive=30m  archive-copy=60m\n")
    assert "warning: data1: archives: store failed: refused (docs/backups.md)" in output
    assert "archive" not in table("data1", host)
    silent = {"group_names": ["redis"], "archive_status": {"stdout": "", "stderr": "not found"}}
    assert "warning: data1 cannot report its archives: not found" in table("data1", silent, backup_host="ops1")
