"""After all that: does the fleet match the inventory, and does the operator see it?"""

import json
import re
import time
from collections.abc import Callable
from pathlib import Path

import pytest
from clients import Api
from inside import on
from lab import ADDRESSES, APPS, DATA, EDGES, PROJECT, TRAFFIC, changes, output, play, traffic


def status() -> str:
    """Return the table that `make status` prints."""
    file = PROJECT / ".lab/status.txt"
    play("status", status_file=str(file))
    return file.read_text()


def test_another_run_changes_nothing() -> None:
    """Deploys, cutovers and failovers leave nothing that site.yml would change."""
    assert changes(play("site")) == []


@pytest.mark.parametrize(
    ("playbook", "extra"),
    [
        ("deploy", "deploy_release={release_green}"),
        ("cutover", "cutover_to=blue"),
        ("canary", "percent=0"),
        ("retry_events", ""),
        pytest.param("shadow", "percent=0", marks=pytest.mark.thorough),
        pytest.param("maintenance", "maintenance=off", marks=pytest.mark.thorough),
        pytest.param("finalize", "", marks=pytest.mark.thorough),
    ],
)
def test_playbook_with_nothing_to_do_changes_nothing(playbook: str, extra: str) -> None:
    """Blue is live, without canary, shadow or maintenance, and both colors run one release."""
    now = traffic()
    assert now["traffic_live_color"] == "blue"
    assert changes(play(playbook, "-e", extra.format(**now))) == []


def changeable_state() -> list[str]:
    """Return what a playbook could change on the hosts, in the journal and in the repository."""
    edges = [on(edge, "ls -lR /etc/nginx /var/lib/tradefleet-edge | sort") for edge in EDGES]
    apps = [
        on(app, "systemctl show -p MainPID tradefleet-api; ls -l /opt/tradefleet/* /run/*drain*; true") for app in APPS
    ]
    return [*edges, *apps, on("ops1", "tradefleet-operations journal --last 1"), TRAFFIC.read_text()]


@pytest.mark.parametrize(
    ("playbook", "extra", "expected"),
    [
        pytest.param("site", "", None, marks=pytest.mark.thorough),
        pytest.param("deploy", "deploy_release={release_green}", None, marks=pytest.mark.thorough),
        pytest.param("finalize", "", None, marks=pytest.mark.thorough),
        ("cutover", "", "nginx : Traffic | Activate the set of flags"),
        pytest.param("canary", "percent=7", "nginx : Traffic | Activate the set of flags", marks=pytest.mark.thorough),
        pytest.param("shadow", "percent=7", "nginx : Traffic | Activate the set of flags", marks=pytest.mark.thorough),
        ("rolling", "rolling_release={release_blue}", "app : Drain | Create the drain flag"),
        ("maintenance", "maintenance=on", "nginx : Maintenance | Close the platform"),
        pytest.param(
            "switchover", "", "switchover : Check | Report which member would lead", marks=pytest.mark.thorough
        ),
        pytest.param("redis_switchover", "", "redis : Switchover | Move the primaries", marks=pytest.mark.thorough),
    ],
)
def test_check_mode_reports_changes_without_making_them(playbook: str, extra: str, expected: str | None) -> None:
    """The changes are in the output, and nothing is changed."""
    before = changeable_state()
    done = play(playbook, "--check", "-e", extra.format(**traffic()))
    assert {change.split(": ", 1)[1] for change in changes(done)} >= ({expected} if expected else set())
    assert expected or changes(done) == []
    assert changeable_state() == before


def test_status_shows_every_host_and_warns() -> None:
    """Each host has a line; there is no warning until load balancers differ from traffic.yml."""
    # Units that run once an hour may have failed during a drill.
    for name in DATA:
        on(name, "systemctl start etcd-snapshot redis-backup")
    deadline = time.monotonic() + 30
    # A process that has not connected to Redis yet may report it as down for a moment.
    while "warning:" in (table := status()):
        assert time.monotonic() < deadline, table
    hosts, lock, operations = table.strip().split("\n\n")
    assert {line.split()[0] for line in hosts.splitlines()} == set(ADDRESSES)
    assert lock == "lock: free"
    assert 1 < len(operations.splitlines()) <= 1 + 5
    assert [table.count(what) for what in ("postgresql=leader", "redis=primary", "cache=primary")] == [1, 1, 1]
    on("lb1", "ln -sfn traffic-sets/green /etc/nginx/traffic")
    on("lb2", "mkdir -p /etc/nginx/traffic-sets/blue+green-7; ln -sfn traffic-sets/blue+green-7 /etc/nginx/traffic")
    try:
        table = status()
        assert re.search(r"^warning: lb1 serves green", table, re.MULTILINE)
        assert 'warning: lb2 has the traffic "blue+green-7", traffic.yml states "blue"' in table
    finally:
        for edge in EDGES:
            on(edge, "ln -sfn traffic-sets/blue /etc/nginx/traffic")


@pytest.mark.parametrize("edge", EDGES)
def test_waf_matched_no_legitimate_request(api: Api, edge: str) -> None:
    """No request that the API answered with success, of meters and tests, is logged as an attack. A real attack is."""
    attack = Api(edge, api.key).request("GET", "/?q=1%27%20UNION%20SELECT%20password%20FROM%20users--")
    time.sleep(2)  # nginx writes its log once a second
    ids = on(
        edge, """grep -o 'unique_id "[^"]*"' /var/log/nginx/waf.log | cut -d '"' -f 2 | sort -u | tee /root/waf-ids"""
    )
    assert attack.headers["x-request-id"] in ids.split()
    suspects = map(json.loads, on(edge, "grep -F -f /root/waf-ids /var/log/nginx/access.log").splitlines())
    assert [each for each in suspects if each["uri"].startswith("/v1/") and each["status"] < 300] == []


def test_maintenance_closes_and_opens(api: Api) -> None:
    """Both load balancers respond themselves, `make status` warns, and afterward all is as before."""
    play("maintenance", maintenance="on")
    try:
        for edge in EDGES:
            closed = Api(edge, api.key).request("GET", "/v1/orders")
            assert (closed.status, closed.headers["retry-after"]) == (503, "30")
        assert "warning: lb2 is closed for maintenance" in status()
    finally:
        play("maintenance", maintenance="off")
    assert {Api(edge, api.key).request("GET", "/v1/orders").status for edge in EDGES} == {200}


def test_every_operation_is_in_the_journal() -> None:
    """Each operation of these tests has an end, even killed ones, and the chain is intact."""
    assert on("ops1", "tradefleet-operations verify").endswith(" lines\n")
    table = on("ops1", "tradefleet-operations journal --last 1000")
    assert re.search(r" site .* ok ", table)
    assert " running" not in table
    on("ops1", "tradefleet-operations lock --who=kim@laptop --reason='new switches'")
    try:
        refused = play("cutover", check=False)
        assert refused.returncode != 0
        assert "kim@laptop has held the lock by hand for 0 min" in output(refused)
        assert "lock: kim@laptop" in status()
    finally:
        play("unlock", reason="'the switches are in'")


def test_equal_sources_build_the_same_release(release: Callable[..., Path]) -> None:
    """Another folder, umask and time give the same bytes."""
    first = release("0.3.0", umask=0o022).read_bytes()
    assert release("0.3.0", umask=0o077).read_bytes() == first
