"""Queries to PostgreSQL, and locks that make its clients wait."""

import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager

from testinfra.host import Host


def run_sql(host: Host, query: str) -> str:
    """Run a query as superuser on the primary, and return its output."""
    return str(host.check_output(f'runuser -u postgres -- psql -AtX -d tradefleet -c "{query}"'))


def wait(until: Callable[[], bool], seconds: float = 60) -> None:
    """Wait until a condition holds; fail after the given time."""
    ends_at = time.monotonic() + seconds
    while not until():
        assert time.monotonic() < ends_at
        time.sleep(0.1)


@contextmanager
def locked(host: Host, table: str, seconds: int) -> Iterator[None]:
    """Lock a table for the given time, from before the block begins; the block ends with the lock."""
    lock = f"BEGIN; LOCK TABLE {table} IN ACCESS EXCLUSIVE MODE; SELECT pg_sleep({seconds}); COMMIT;"
    found = f"relation = '{table}'::regclass AND mode = 'AccessExclusiveLock' AND granted"
    granted = f"SELECT count(*) FROM pg_locks WHERE {found}"
    with ThreadPoolExecutor(1) as pool:
        held = pool.submit(run_sql, host, lock)
        wait(lambda: run_sql(host, granted) == "1", seconds)
        yield
        held.result()


def waits(host: Host, user: str) -> bool:
    """Return whether a session of this user waits for a lock."""
    waiting = f"SELECT count(*) FROM pg_stat_activity WHERE usename = '{user}' AND wait_event_type = 'Lock'"
    return run_sql(host, waiting) == "1"
