"""The primary's disk fills up: during the drill its data is on a small, separate disk in memory."""

import time
from collections.abc import Iterator
from contextlib import contextmanager

from clients import Meter
from faults import flows
from health import postgres_healthy, replica
from inside import on
from lab import cluster, leader, play, wait

DIRECTORY = "/var/lib/postgresql/17/tradefleet"
MEGABYTES = 400
FULL_SECONDS = 60


def primary_full(run: Meter) -> None:
    """Fill the primary's disk completely for a while, then free space."""
    host = replica("replica")
    with _small_disk(host):
        _lead(host)
        on(host, f"dd if=/dev/zero of={DIRECTORY}/ballast bs=8k 2>/dev/null", check=False)
        try:
            assert on(host, f"df --output=avail {DIRECTORY} | tail -n 1").strip() == "0"
            time.sleep(FULL_SECONDS)
        finally:
            on(host, f"rm -f {DIRECTORY}/ballast")
        flows(run)
        _wait("it came through")


@contextmanager
def _small_disk(host: str) -> Iterator[None]:
    """Move a replica's data to a small disk, and afterward back."""
    mount = f"mount -t tmpfs -o size={MEGABYTES}m,mode=0700,uid=postgres,gid=postgres tmpfs {DIRECTORY}"
    aside = f"mv {DIRECTORY} {DIRECTORY}.aside && mkdir {DIRECTORY}"
    _stopped(host, f"{aside} && {mount} && cp -a {DIRECTORY}.aside/. {DIRECTORY}")
    try:
        yield
    finally:
        if leader() == host:
            play("switchover")
            _wait("another one leads")
        save = f"rm -rf {DIRECTORY}.aside && cp -a {DIRECTORY} {DIRECTORY}.aside"
        _stopped(host, f"{save} && umount {DIRECTORY} && rmdir {DIRECTORY} && mv {DIRECTORY}.aside {DIRECTORY}")


def _stopped(host: str, command: str) -> None:
    on(host, f"systemctl stop patroni && {command} && systemctl start --no-block patroni")
    _wait(f"{host} is back")


def _lead(host: str) -> None:
    """Make a replica the synchronous standby, and then the primary."""
    other = replica("sync_standby")
    on(other, "systemctl stop patroni")
    try:
        wait(lambda: cluster().get(host, "").startswith("sync_standby "), 60, f"{host} is synchronous")
    finally:
        on(other, "systemctl start --no-block patroni")
    _wait(f"{other} is back")
    play("switchover")
    _wait(f"{host} leads")


def _wait(what: str) -> None:
    wait(postgres_healthy, 120, what)
