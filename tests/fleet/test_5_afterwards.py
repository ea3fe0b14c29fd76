"""After all that: is the fleet what the inventory says, and does the operator see it?"""

import json
import re
import time
from collections.abc import Callable
from pathlib import Path

import pytest
from lab import ADDRESSES, EDGES, PROJECT, Api, changes, on, play


def status() -> str:
    """Return the table that `make status` prints."""
    file = PROJECT / ".lab/status.txt"
    play("status", status_file=str(file))
    return file.read_text()


def test_a_further_run_changes_nothing() -> None:
    """Deploys, cutovers and failovers leave nothing that site.yml would want otherwise."""
    assert changes(play("site")) == []


def test_status_shows_every_host_and_warns() -> None:
    """One line for each host; no warning now, and one as soon as a load balancer does what traffic.yml does not say."""
    table = status()
    assert "warning:" not in table
    hosts, lock, operations = table.strip().split("\n\n")
    assert {line.split()[0] for line in hosts.splitlines()} == set(ADDRESSES)
    assert lock == "lock: free"
    assert 1 < len(operations.splitlines()) <= 1 + 5
    assert [table.count(what) for what in ("postgresql=leader", "redis=primary", "cache=primary")] == [1, 1, 1]
    on("lb1", "ln -sfn traffic-sets/green /etc/nginx/traffic")
    try:
        assert re.search(r"^warning: lb1 serves green", status(), re.MULTILINE)
    finally:
        on("lb1", "ln -sfn traffic-sets/blue /etc/nginx/traffic")


@pytest.mark.parametrize("edge", EDGES)
def test_the_waf_spoke_of_no_honest_request(api: Api, edge: str) -> None:
    """Whatever the meters and these tests have sent: what the API answered with success is no attack. One attack is."""
    attack = Api(edge, api.key).request("GET", "/?q=1%27%20UNION%20SELECT%20password%20FROM%20users--")
    time.sleep(2)  # nginx writes its log once a second
    ids = on(edge, """grep -o '"unique_id":"[^"]*"' /var/log/nginx/waf.json | cut -d '"' -f 4 | tee /root/waf-ids""")
    assert attack.headers["x-request-id"] in ids.split()
    suspects = map(json.loads, on(edge, "grep -F -f /root/waf-ids /var/log/nginx/access.log").splitlines())
    assert [each for each in suspects if each["uri"].startswith("/v1/") and each["status"] < 300] == []


def test_maintenance_closes_and_opens(api: Api) -> None:
    """Both load balancers answer themselves, `make status` warns, and afterwards all is as before."""
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
    """Of all that these tests have done: each has an end, those that were killed too, and the chain is whole."""
    assert on("ops1", "tradefleet-operations verify").endswith(" lines\n")
    table = on("ops1", "tradefleet-operations journal --last 1000")
    assert re.search(r" site .* ok ", table)
    assert " running" not in table
    on("ops1", "tradefleet-operations lock --who=kim@laptop --reason='new switches'")
    try:
        refused = play("cutover", check=False)
        assert refused.returncode != 0
        assert "kim@laptop has held the lock for 0 min" in " ".join(refused.stdout.split())
        assert "lock: kim@laptop" in status()
    finally:
        play("unlock", reason="'the switches are in'")


def test_the_same_sources_make_the_same_release(release: Callable[..., Path]) -> None:
    """Built in another folder, under another umask, at another time: the same bytes."""
    first = release("0.3.0", umask=0o022).read_bytes()
    assert release("0.3.0", umask=0o077).read_bytes() == first
