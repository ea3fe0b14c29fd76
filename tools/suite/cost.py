"""What a span of time costs: wall seconds, CPU seconds of a process and its hosts, and how idle the machine was."""

import os
import subprocess
import time
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path

TICKS = os.sysconf("SC_CLK_TCK")
CGROUPS = Path("/sys/fs/cgroup")


@dataclass(frozen=True)
class Cost:
    """Wall seconds, CPU seconds, and the share of all processors that was idle (0 to 1)."""

    seconds: float
    cpu_seconds: float
    idle: float


@dataclass(frozen=True)
class _Reading:
    clock: float
    process: float  # CPU seconds
    idle: int  # ticks of all processors
    total: int
    hosts: dict[str, float]  # CPU seconds


class Meter:
    """Reads the cost of consecutive spans: of one process with its children that ended, and of lab hosts."""

    def __init__(self, process: int, hosts: Iterable[str] = ()) -> None:
        self._process = process
        self._hosts = list(hosts)
        self._counters: dict[str, Path] = {}
        self.find_hosts()
        self._last = self._read()

    def find_hosts(self) -> None:
        """Look for hosts that were created or replaced. It takes a tenth of a second."""
        if self._hosts:
            self._counters = _counters(self._hosts)

    def lap(self) -> Cost:
        """Return the cost since the last call, or since the meter was created."""
        before, now = self._last, self._read()
        self._last = now
        # A host that restarted counts from zero.
        hosts = sum(max(used - before.hosts.get(host, 0), 0) for host, used in now.hosts.items())
        return Cost(
            seconds=round(now.clock - before.clock, 2),
            cpu_seconds=round(now.process - before.process + hosts, 2),
            idle=round((now.idle - before.idle) / max(now.total - before.total, 1), 3),
        )

    def _read(self) -> _Reading:
        ticks = [int(each) for each in Path("/proc/stat").read_text().split("\n", 1)[0].split()[1:9]]
        hosts = {host: _used(counter) for host, counter in self._counters.items()}
        return _Reading(time.monotonic(), _process_seconds(self._process), ticks[3] + ticks[4], sum(ticks), hosts)


def _process_seconds(process: int) -> float:
    """Return the CPU seconds of a process and of its children that ended; 0 once it is gone."""
    try:
        fields = Path(f"/proc/{process}/stat").read_text().rpartition(")")[2].split()
    except OSError:
        return 0.0
    return sum(int(each) for each in fields[11:15]) / TICKS


def _counters(hosts: list[str]) -> dict[str, Path]:
    """Return the file that counts the CPU time of each of these lab hosts that exists."""
    listed = subprocess.run(
        ["podman", "ps", "--all", "--no-trunc", "--format", "{{.Names}} {{.ID}}"],
        capture_output=True,
        text=True,
        check=True,
    )
    found = dict(line.split() for line in listed.stdout.splitlines())
    return {host: _counter(found[f"tf-{host}"]) for host in hosts if f"tf-{host}" in found}


def _counter(container: str) -> Path:
    """Return the counter of a container, under control groups of version 1 or 2."""
    first = CGROUPS / f"cpuacct/libpod_parent/libpod-{container}/cpuacct.usage"
    return first if first.exists() else next(CGROUPS.glob(f"*/libpod-{container}*/cpu.stat"), first)


def _used(counter: Path) -> float:
    """Return the CPU seconds on a counter; a host that is down has none."""
    try:
        text = counter.read_text()
    except OSError:
        return 0.0
    return int(text) / 1e9 if counter.name == "cpuacct.usage" else int(text.split()[1]) / 1e6
