"""What dr_status.yml prints, and what it reads of the other site's inventory."""

from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pytest
from ansible.errors import AnsibleFilterError
from inventory_addresses import inventory_addresses
from site_report import site_report

NOW = datetime(2026, 11, 30, 6, 0, 10, tzinfo=UTC)
PRIMARY = {"role": "primary", "timeline": 2, "xlog": {"location": 5000}}
STANDBY = {
    "role": "standby_leader",
    "timeline": 2,
    "replication_state": "streaming",
    "xlog": {"received_location": 4000, "replayed_timestamp": "2026-11-30 06:00:00.5+00:00"},
}
FACTS: dict[str, Any] = {
    "name": "dr",
    "peer": "lab",
    "standby": True,
    "release": "1.0.0",
    "own": [STANDBY],
    "others": [{"role": "replica"}, PRIMARY],
    "versions": {"10.0.0.11": {"release": "1.0.0"}},
    "addresses": ["10.1.0.11"],
}
FIRST = "lab serves, according to sites.yml; dr is its standby."


def report(**changes: Any) -> list[str]:
    """Return the sentences, asked from the standby unless changed."""
    return site_report(FACTS | changes, NOW)


def test_lag_is_stated_in_bytes_and_seconds() -> None:
    """From either site."""
    expected = [
        FIRST,
        "The standby is streaming, 1000 bytes behind; its last commit is of 2026-11-30 06:00:00 UTC, 10 s ago.",
        "lab answers clients at 10.0.0.11 with release 1.0.0.",
    ]
    assert report() == expected
    other = {"name": "lab", "peer": "dr", "standby": False, "own": FACTS["others"], "others": FACTS["own"]}
    assert report(**other, addresses=["10.0.0.11"]) == expected


def test_lost_site_is_reported_with_the_last_commit_that_survives() -> None:
    """No member and no load balancer of it answers."""
    assert report(others=[], versions={}) == [
        FIRST,
        "lab has no primary that answers: what was committed there after 2026-11-30 06:00:00 UTC, 10 s ago, is lost if "
        "this standby is promoted now.",
    ]


def test_problems_are_warnings() -> None:
    """Another timeline or release, no standby, two primaries, and two sites that serve."""
    behind = (
        "warning: the primary is on timeline 3, the standby on 2: if that stays, replace its data "
        "(`dr_standby.yml -e overwrite=postgresql`)."
    )
    assert behind in report(others=[PRIMARY | {"timeline": 3}])
    assert "warning: dr has release 2.0.0: correct its traffic.yml and run site.yml there." in report(release="2.0.0")
    assert "warning: dr has no standby leader that answers: nothing would take over from lab." in report(own=[])
    assert "warning: PostgreSQL of dr accepts writes, too (timeline 2): `dr_standby.yml`." in report(own=[PRIMARY])
    both = {"10.0.0.11": {"release": "1.0.0"}, "10.1.0.11": {"release": "1.0.0"}}
    assert report(versions=both)[-1] == "warning: both sites answer clients."


def test_addresses_come_from_the_hosts_of_the_other_inventory(tmp_path: Path) -> None:
    """A host's fleet_address precedes its ansible_host; the file may change during a process."""
    hosts = tmp_path / "hosts.yml"
    hosts.write_text("all: {children: {edge: {hosts: {a: {ansible_host: 10.0.0.1}}}}}")
    assert inventory_addresses(str(tmp_path))["edge"] == {"a": "10.0.0.1"}
    hosts.write_text("all: {children: {edge: {hosts: {a: {ansible_host: x, fleet_address: 10.0.0.2}}}}}")
    assert inventory_addresses(str(tmp_path))["edge"] == {"a": "10.0.0.2"}


def test_folder_that_is_no_inventory_is_refused(tmp_path: Path) -> None:
    """The message names the variable."""
    with pytest.raises(AnsibleFilterError, match=r"correct site_peer in sites\.yml"):
        inventory_addresses(str(tmp_path))
