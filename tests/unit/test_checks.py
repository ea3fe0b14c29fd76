"""Roles reject invalid values with a message before anything is installed; their checks run on this machine."""

import json
from typing import Any

import pytest
from repository import ansible

MEMBERS = {"data1": "192.0.2.41", "data2": "192.0.2.42", "data3": "192.0.2.43"}
GOOD: dict[str, dict[str, Any]] = {
    "etcd": {"etcd_members": MEMBERS, "etcd_name": "data1", "etcd_address": "127.0.0.1", "etcd_root_password": "x"},
    "pgbouncer": {
        "pgbouncer_databases": ["trading", "books"],
        "pgbouncer_roles": [{"name": "app", "pool_size": 30}, {"name": "report", "pool_size": "15"}],
    },
    "redis": {"redis_hosts": list(MEMBERS.values())},
    "postgresql": {"postgresql_members": MEMBERS, "postgresql_name": "data1", "ansible_facts": {"memtotal_mb": 16000}},
}


def check(role: str, **values: object) -> tuple[int, str]:
    """Run a role's check stage here; return its status and its output."""
    stage = ["-m", "ansible.builtin.include_role", "-a", f"name={role} tasks_from=check"]
    done = ansible("ansible", "localhost", "-e", json.dumps(GOOD[role] | values), *stage)
    return done.returncode, " ".join((done.stdout + done.stderr).split())


@pytest.mark.parametrize(
    ("role", "values"),
    [
        ("etcd", {"etcd_heartbeat_milliseconds": "100", "etcd_election_milliseconds": "1000"}),
        ("pgbouncer", {}),
        ("pgbouncer", {"pgbouncer_server_connections": "92"}),
        ("postgresql", {"postgresql_memory_megabytes": "8000"}),
        ("redis", {"redis_memory_percent": "100"}),
    ],
)
def test_valid_values_pass(role: str, values: dict[str, Any]) -> None:
    """This includes numbers from the command line, which are strings."""
    status, output = check(role, **values)
    assert status == 0, output


@pytest.mark.parametrize(
    ("role", "values", "message"),
    [
        ("etcd", {"etcd_election_milliseconds": "400"}, "must be at least five times etcd_heartbeat_milliseconds"),
        ("etcd", {"etcd_members": {"data1": "127.0.0.1", "data2": "192.0.2.42"}}, "an odd number of members"),
        ("pgbouncer", {"pgbouncer_server_connections": "91"}, "may use 92 connections"),
        ("postgresql", {"postgresql_memory_megabytes": 16001}, "postgresql_memory_megabytes is 16001"),
        ("postgresql", {"postgresql_shared_buffers": "6401MB"}, "postgresql_shared_buffers 6401MB"),
        # This holds for any machine: nothing fits into no memory.
        ("redis", {"redis_memory_percent": "0"}, "only 0 % (redis_memory_percent)"),
    ],
)
def test_invalid_values_are_rejected(role: str, values: dict[str, Any], message: str) -> None:
    """The message has the wrong variable."""
    status, output = check(role, **values)
    assert status == 2, output
    assert message in output
