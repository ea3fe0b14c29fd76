"""The primary's host runs out of memory: a limit applies to all its processes, so the machine keeps its own memory."""

import re
import subprocess
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from clients import Meter
from faults import flows
from inside import on
from lab import leader, measured

ROOM_BYTES = 256 * 1024**2
# One session sorts in memory without a limit: 3 GB would be enough for it.
HOG = "SET work_mem = '4GB'; SELECT count(*) FROM (SELECT i FROM generate_series(1, 60000000) AS i ORDER BY -i) AS rows"


def session_takes_all(run: Meter) -> None:
    """Let one session of PostgreSQL use all memory of the primary's host: the kernel must kill it and nothing else.

    Until the kernel does, the host repeatedly reads its programs from disk and does not respond, so another member may
    lead by then, as with a frozen host.
    """
    host = leader()
    services, killed = _services(host), _killed(host)
    with _limited(host):
        output = on(host, f'su postgres -c "psql -d postgres -c \\"{HOG}\\"" 2>&1', check=False, seconds=300)
        assert "server closed the connection" in output, output
        flows(run)
    assert _killed(host) == killed + 1
    assert _services(host) == services
    measured("A session that takes all memory: the kernel killed it and no service of the host")


@contextmanager
def _limited(host: str) -> Iterator[None]:
    """Limit a host's processes to little more memory than they use."""
    folder = _cgroup(host)
    first = folder / "memory.limit_in_bytes"
    limit, used = (first, "memory.usage_in_bytes") if first.exists() else (folder / "memory.max", "memory.current")
    limit.write_text(str(int((folder / used).read_text()) + ROOM_BYTES))
    try:
        yield
    finally:
        limit.write_text("-1" if limit == first else "max")


def _cgroup(host: str) -> Path:
    """Return the folder of a host's memory controller, of cgroup v1 or v2."""
    identity = subprocess.check_output(["podman", "inspect", "--format", "{{.Id}}", f"tf-{host}"], text=True).strip()
    (folder,) = [*Path("/sys/fs/cgroup/memory").rglob(f"libpod-{identity}*")] or [
        *Path("/sys/fs/cgroup").rglob(f"libpod-{identity}*")
    ]
    return folder


def _killed(host: str) -> int:
    """Return how many processes of a host the kernel has killed because memory ran out."""
    counters = [*_cgroup(host).rglob("memory.oom_control")] or [*_cgroup(host).rglob("memory.events.local")]
    return sum(
        int(found) for each in counters for found in re.findall(r"^oom_kill (\d+)", each.read_text(), re.MULTILINE)
    )


def _services(host: str) -> str:
    """Return the main processes of the data host's services."""
    units = "patroni etcd pgbouncer redis-server@state redis-server@cache redis-sentinel@state"
    return on(host, f"systemctl show --property=MainPID --value {units}")
