"""Maintenance of the databases while traffic flows, and a failed primary with other failover plans."""

from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager

from clients import Meter
from faults import flows, off
from health import postgres_healthy
from inside import on
from lab import DATA, leader, play, traffic, wait

# This restarts nothing, as in an upgrade (roles/postgresql/tasks/upgrade.yml).
REINSTALL = """set -e
trap 'rm /usr/sbin/policy-rc.d' EXIT
printf '#!/bin/sh\\nexit 101\\n' > /usr/sbin/policy-rc.d
chmod 0755 /usr/sbin/policy-rc.d
export DEBIAN_FRONTEND=noninteractive
apt-get update --quiet --quiet
apt-get install --reinstall --yes --no-install-recommends \\
  postgresql-17 postgresql-17-pgaudit postgresql-client-17 patroni
"""

# Unattended upgrades do the same, including restarts; all hosts restart at the same moment.
REINSTALL_ALL = """set -e
export DEBIAN_FRONTEND=noninteractive
apt-get install --reinstall --yes --no-install-recommends {} patroni etcd-server pgbouncer redis-server redis-sentinel
"""


def switchover(run: Meter) -> None:
    """Switch the primary over to the synchronous standby, as an operator would."""
    play("switchover")
    flows(run)


def setting_rolled(run: Meter) -> None:
    """Change a setting that needs a restart and change it back: two rolling restarts of the cluster."""
    play("site", postgresql_shared_buffers="136MB")
    play("site")
    flows(run)


def minor_upgrade(run: Meter) -> None:
    """Run an upgrade, with the packages of PostgreSQL and Patroni just reinstalled under each running member."""
    for host in DATA:
        on(host, REINSTALL, seconds=300)
    play("upgrade_postgresql")
    flows(run)


def packages_reinstalled(run: Meter) -> None:
    """Reinstall Patroni, etcd, PgBouncer, Redis and Sentinel on all data hosts at the same time."""
    for host in DATA:
        on(host, "apt-get update --quiet --quiet")
        on(host, REINSTALL_ALL.format("--download-only"), seconds=300)
    with ThreadPoolExecutor() as hosts:
        list(hosts.map(lambda host: on(host, REINSTALL_ALL.format(""), seconds=300), DATA))
    flows(run)


def password_rotated(run: Meter) -> None:
    """Change the application's password on both colors: rotate, cut over, rotate, cut back."""
    if not traffic()["release_green"]:
        play("deploy", deploy_release=traffic()["release_blue"])
    for _ in range(2):
        play("rotate_db_password", user="app")
        play("cutover")
    flows(run)


def primary_off_normal(run: Meter) -> None:
    """Cut the power of the primary's host with the plan `normal`."""
    _primary_off("normal", run)


def primary_off_wide(run: Meter) -> None:
    """Cut the power of the primary's host with the plan `wide`."""
    _primary_off("wide", run)


def _primary_off(plan: str, run: Meter) -> None:
    with failover_plan(plan):
        off(leader(), run, 180)
        wait(postgres_healthy, 180, "the cluster is whole again")


@contextmanager
def failover_plan(name: str) -> Iterator[None]:
    """Apply another failover plan to the cluster during the block."""
    members = ("site", "--limit", "postgres", "--tags", "postgresql")
    play(*members, postgresql_failover_plan=name)
    try:
        yield
    finally:
        play(*members)
