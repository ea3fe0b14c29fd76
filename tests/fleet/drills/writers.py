"""Which host accepts writes? A client on each data host keeps writing to its own PostgreSQL, without any proxy."""

import itertools
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass

from inside import on
from lab import DATA, leader, wait

# On a replica the INSERT fails, and nothing is recorded. A waiting commit is recorded when it is acknowledged.
SCRIPT = r"""#!/bin/sh
while :; do
  while sleep 0.3; do
    cat <<'SQL'
\unset timeline
INSERT INTO drill_writes DEFAULT VALUES RETURNING left(pg_walfile_name(pg_current_wal_lsn()), 8) AS timeline \gset
\if :{?timeline}
\echo :timeline `date +%s.%N`
\endif
SQL
  done | stdbuf --output=L psql --quiet --no-psqlrc --dbname postgres 2>/dev/null
  sleep 0.3
done
"""
UNIT = """[Service]
User=postgres
ExecStart=/usr/local/sbin/drill-writer
StandardOutput=append:/var/lib/postgresql/drill-writes
[Install]
WantedBy=multi-user.target
"""


@dataclass(frozen=True)
class Write:
    """One acknowledged write: its host, its timeline, and its time (seconds since 1970; the lab has one clock)."""

    host: str
    timeline: str
    at: float


@contextmanager
def writers() -> Iterator[list[Write]]:
    """Try to write on each data host during the block; afterward the list has the acknowledged writes in order."""
    found: list[Write] = []
    on(leader(), "su postgres -c 'psql -qc \"CREATE TABLE IF NOT EXISTS drill_writes (at timestamptz DEFAULT now())\"'")
    try:
        with ExitStack() as stack:
            each = [stack.enter_context(trying_to_write(host)) for host in DATA]
            wait(lambda: any(_written(host) for host in DATA), 20, "the primary takes writes directly")
            yield found
        found += sorted(itertools.chain.from_iterable(each), key=lambda write: write.at)
    finally:
        on(leader(), "su postgres -c 'psql -qc \"DROP TABLE drill_writes\"'")


@contextmanager
def trying_to_write(host: str) -> Iterator[list[Write]]:
    """Try to write on one host during the block; afterward the list has the acknowledged writes."""
    found: list[Write] = []
    _write(host, "/usr/local/sbin/drill-writer", SCRIPT)
    _write(host, "/etc/systemd/system/drill-writer.service", UNIT)
    on(host, "rm -f /var/lib/postgresql/drill-writes && chmod 0755 /usr/local/sbin/drill-writer")
    on(host, "systemctl daemon-reload && systemctl enable --quiet --now drill-writer")
    try:
        yield found
    finally:
        on(host, "systemctl disable --quiet --now drill-writer", check=False)
        found += _written(host)
        files = "/usr/local/sbin/drill-writer /etc/systemd/system/drill-writer.service /var/lib/postgresql/drill-writes"
        on(host, f"rm -f {files}", check=False)


def _write(host: str, path: str, content: str) -> None:
    on(host, f"cat > {path} <<'END'\n{content}END\n")


def _written(host: str) -> list[Write]:
    lines = on(host, "cat /var/lib/postgresql/drill-writes", check=False).splitlines()
    return [
        Write(host, timeline, float(at)) for timeline, at in (line.split() for line in lines if line.count(" ") == 1)
    ]


def two_at_once(found: list[Write]) -> str:
    """Return the evidence that two hosts accepted writes at the same time, or an empty string.

    Each promotion begins a timeline. It belongs to one host, and gets no write after a later one has received one.
    """
    owner: dict[str, str] = {}
    newest = ""
    for write in found:
        if owner.setdefault(write.timeline, write.host) != write.host:
            return f"timeline {write.timeline} was written on {owner[write.timeline]} and on {write.host}"
        if write.timeline < newest:
            return f"{write.host} took a write on timeline {write.timeline} after {owner[newest]} had begun {newest}"
        newest = write.timeline
    return ""
