#!/usr/bin/python3
"""Switchover and restart of a replicated Redis service that Sentinel monitors, without losing acknowledged writes.

redis-maintain switch SERVICE                 move the primary to a replica
redis-maintain --replicas N restart SERVICE   restart this host's instance, after a switchover if it is the primary

Exit status 0: done, one line describes the result. 1: refused or failed, the last line states the reason and remedy.
"""

import argparse
import json
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from typing import Any

CLIENT = "/usr/local/sbin/redis-cli-{}"
SENTINEL_CLIENT = "/usr/local/sbin/sentinel-cli-state"

# Longer than a failover may take: the former primary must not acknowledge a write before it is demoted.
PAUSE_SECONDS = 40
FAILOVER_SECONDS = 30
# A pause also delays Sentinel's messages; after down-after-milliseconds (3 s) the primary would be regarded as failed.
CAUGHT_UP_SECONDS = 2

# Sentinel pings every second, and refuses to promote a replica that has been silent for five.
SILENT_MILLISECONDS = 2000

Address = tuple[str, int]


class RefusedError(Exception):
    """The reason of the failure, and what the operator can do about it."""


class Service:
    """One service from the view of this host."""

    def __init__(self, name: str, replicas: int, timeout: float) -> None:
        """Store the service's name, its number of replicas when complete, and the seconds to wait for one."""
        self.name = name
        self.replicas = replicas
        self.timeout = timeout

    def redis(self, *command: str, at: Address | None = None) -> str:
        """Return the response of the instance at an address, or of this host's own."""
        where = ("-h", at[0], "-p", str(at[1])) if at else ()
        return _run(CLIENT.format(self.name), *where, *command)

    def sentinel(self, *command: str) -> str:
        """Return the response of this host's Sentinel."""
        return _run(SENTINEL_CLIENT, "SENTINEL", *command)

    def primary(self) -> Address:
        """Return the address of the primary according to Sentinel."""
        host, port = self.sentinel("GET-MASTER-ADDR-BY-NAME", self.name).splitlines()[:2]
        return host, int(port)

    def replication(self, at: Address | None = None) -> dict[str, str]:
        """Return an instance's INFO replication."""
        lines = self.redis("INFO", "replication", at=at).splitlines()
        return dict(line.split(":", 1) for line in lines if ":" in line)

    def following(self, at: Address | None = None) -> list[Address]:
        """Return the connected replicas of the primary at an address, or of this host's own."""
        found = []
        for key, value in self.replication(at).items():
            if key.startswith("slave") and key[5:].isdigit():
                replica = dict(part.split("=", 1) for part in value.split(","))
                if replica["state"] == "online" and int(replica["lag"]) <= 2:
                    found.append((replica["ip"], int(replica["port"])))
        return found

    def leads(self) -> bool:
        """Return whether this host's instance is the primary."""
        return self.replication()["role"] == "master"

    def whole(self) -> bool:
        """Return whether this host is in sync and the primary, itself or another host, has every replica."""
        own = self.replication()
        if own["role"] == "master":
            return len(self.following()) >= self.replicas
        primary = (own["master_host"], int(own["master_port"]))
        return own["master_link_status"] == "up" and len(self.following(primary)) >= self.replicas

    def promotable(self) -> bool:
        """Return whether Sentinel would promote a replica; it needs a response since its own restart."""
        # Waits only for what resolves itself: a replica-priority of 0 is a choice, which Sentinel's error reports.
        known = json.loads(_run(SENTINEL_CLIENT, "--json", "SENTINEL", "REPLICAS", self.name))
        return any(
            replica["flags"] == "slave"
            and replica["master-link-status"] == "ok"
            and int(replica["last-ok-ping-reply"]) <= SILENT_MILLISECONDS
            for replica in known
        )

    def switch(self) -> str:
        """Move the primary, and return a sentence about it."""
        old = self.primary()
        replicas = self.following(old)
        if not replicas:
            raise RefusedError(f"No replica follows {self.name}'s primary {old[0]}: repair one, then switch.")
        self.sentinel("CKQUORUM", self.name)  # the error states how many Sentinels are missing
        _wait(self.timeout, self.promotable, f"this host's Sentinel is in touch with a replica of {self.name}")
        started = time.monotonic()
        ordered = False
        self.redis("CLIENT", "PAUSE", str(PAUSE_SECONDS * 1000), "WRITE", at=old)
        try:
            _wait(
                CAUGHT_UP_SECONDS, lambda: self._caught_up(old, replicas), "the replicas have all that was acknowledged"
            )
            ordered = True
            self.sentinel("FAILOVER", self.name)
        except BaseException as error:
            # An error of Sentinel is a definite no. Without a response the outcome is unknown, and the pause expires.
            if not ordered or isinstance(error, RefusedError):
                self.redis("CLIENT", "UNPAUSE", at=old)
            raise
        _wait(
            FAILOVER_SECONDS,
            lambda: self._moved(old),
            f"Sentinel moves {self.name}; see `journalctl -u redis-sentinel@state`",
        )
        new = self.primary()
        # Sentinel does this as well, but only after 8 seconds in which clients would wait for the paused server.
        self.redis("REPLICAOF", new[0], str(new[1]), at=old)
        self.redis("CONFIG", "REWRITE", at=old)
        self.redis("CLIENT", "KILL", "TYPE", "normal", at=old)
        self.redis("CLIENT", "UNPAUSE", at=old)
        seconds = time.monotonic() - started
        _wait(self.timeout, lambda: self.replication(old)["master_link_status"] == "up", f"{old[0]} follows {new[0]}")
        return f"{self.name}: {old[0]} -> {new[0]}; writes waited {seconds:.1f} s"

    def restart(self) -> str:
        """Restart this host's instance once the others can replace it, and return a sentence about it."""
        _wait(self.timeout, self.whole, f"{self.replicas} replicas of {self.name} follow; repair those that do not")
        switched = ""
        if self.replicas and self.leads():
            switched = self.switch() + "; "
            _wait(self.timeout, self.whole, f"all replicas of {self.name} follow after the switchover")
        _run("systemctl", "restart", f"redis-server@{self.name}.service", seconds=self.timeout)
        _wait(self.timeout, self.whole, f"this host's {self.name} is in sync again")
        return f"{switched}{self.name} restarted and in sync"

    def _caught_up(self, primary: Address, replicas: list[Address]) -> bool:
        offset = self.replication(primary)["master_repl_offset"]
        return all(self.replication(replica).get("slave_repl_offset") == offset for replica in replicas)

    def _moved(self, old: Address) -> bool:
        new = self.primary()
        return new != old and json.loads(self.redis("--json", "ROLE", at=new))[0] == "master"


def _run(*command: str, seconds: float = 5) -> str:
    done = subprocess.run(command, capture_output=True, text=True, timeout=seconds, check=False)  # noqa: S603 (its own clients and systemctl)
    if done.returncode != 0:
        raise RefusedError(f"`{' '.join(command)}` failed: {done.stderr.strip() or done.stdout.strip()}")
    return done.stdout.strip()


def _wait(seconds: float, condition: Callable[[], bool], what: str) -> None:
    """Wait until a condition holds; a failed query is repeated."""
    end = time.monotonic() + seconds
    while True:
        problem = ""
        try:
            if condition():
                return
        except (RefusedError, subprocess.TimeoutExpired, LookupError, ValueError) as error:
            problem = f" ({error})"
        if time.monotonic() > end:
            raise RefusedError(f"Not within {seconds:g} s: {what}.{problem}")
        time.sleep(0.1)


def _stop(*_: Any) -> None:
    sys.exit(1)


def main() -> None:
    """Parse the command line and run the command."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--replicas", default=0, type=int, help="replicas of a whole service [%(default)s]")
    parser.add_argument("--timeout", default=60, type=float, help="seconds to wait for a replica [%(default)s]")
    parser.add_argument("work", choices=("switch", "restart"))
    parser.add_argument("service")
    options = parser.parse_args()
    # A lost connection ends the run like a failure, so that a pause is undone.
    for number in (signal.SIGHUP, signal.SIGTERM):
        signal.signal(number, _stop)
    service = Service(options.service, options.replicas, options.timeout)
    try:
        print(service.switch() if options.work == "switch" else service.restart())
    except (RefusedError, subprocess.TimeoutExpired) as error:
        sys.exit(str(error))


if __name__ == "__main__":
    main()
