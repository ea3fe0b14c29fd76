"""Compares the orders that the API acknowledged to the meter with the rows in the database.

A command is an argument list that reads SQL on its standard input and prints rows as `psql -AtX` does. There is one for
each database of the cluster, because a failover may change which of them is the primary.
"""

from __future__ import annotations

import subprocess
import tempfile
import time
from collections import defaultdict
from collections.abc import Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field

PROBE_TIMEOUT = 10.0
QUERY_TIMEOUT = 60.0
EXAMPLES = 20
# psql exits with 0 even if a statement on its standard input fails: only this row shows that the query ran.
END_OF_ROWS = "end-of-rows"

Command = Sequence[str]


class DatabaseError(Exception):
    """The database gave no reliable answer; the message names the command and the reason."""


@dataclass(frozen=True)
class Comparison:
    """Acknowledged orders compared with stored ones; if `compared` is false, see `reason`, and the counts are None.

    `lost` counts acknowledged orders that are not stored under the id that was acknowledged first; `duplicated` counts
    keys with more than one row. `lost_keys` and `duplicated_keys` contain the first 20 of each.
    """

    compared: bool
    reason: str
    acknowledged: int
    stored: int | None = None
    lost: int | None = None
    duplicated: int | None = None
    lost_keys: list[str] = field(default_factory=list)
    duplicated_keys: list[str] = field(default_factory=list)


def compare(commands: Sequence[Command], run_id: str, acknowledged: Mapping[str, str], wait: float) -> Comparison:
    """Compare `acknowledged` (idempotency key to order id) with the primary, waiting `wait` seconds for it."""
    if not commands:
        return Comparison(False, "no --database-command", len(acknowledged))
    try:
        stored = _stored(_primary(commands, wait), run_id)
    except DatabaseError as error:
        return Comparison(False, str(error), len(acknowledged))
    lost = sorted(key for key, order_id in acknowledged.items() if order_id not in stored.get(key, ()))
    duplicated = sorted(key for key, order_ids in stored.items() if len(order_ids) > 1)
    return Comparison(
        compared=True,
        reason="",
        acknowledged=len(acknowledged),
        stored=sum(map(len, stored.values())),
        lost=len(lost),
        duplicated=len(duplicated),
        lost_keys=lost[:EXAMPLES],
        duplicated_keys=duplicated[:EXAMPLES],
    )


def _primary(commands: Sequence[Command], wait: float) -> Command:
    """Return the command of the only primary.

    All are queried, although one primary is enough: a former primary that has not been demoted yet still contains the
    orders that a failover lost, and a comparison with it would hide the loss.
    """
    deadline = time.monotonic() + wait
    with ThreadPoolExecutor(max_workers=len(commands)) as pool:
        while True:
            states = list(pool.map(_state, commands))
            primaries = [command for command, state in zip(commands, states, strict=True) if state == "f"]
            if len(primaries) == 1:
                return primaries[0]
            if time.monotonic() >= deadline:
                raise DatabaseError(f"{len(primaries)} primaries after {wait:g} s; in recovery? {'; '.join(states)}")
            time.sleep(min(1.0, max(deadline - time.monotonic(), 0)))


def _state(command: Command) -> str:
    try:
        return _run(command, "SELECT pg_is_in_recovery();\n", PROBE_TIMEOUT).strip()
    except DatabaseError as error:
        return str(error)


def _stored(command: Command, run_id: str) -> dict[str, list[str]]:
    # psql on standard input has no parameters; the run's id is the meter's own.
    rows = f"SELECT idempotency_key, id::text FROM orders WHERE idempotency_key LIKE 'meter-{run_id}-%'"  # noqa: S608
    sql = f"{rows} UNION ALL SELECT '{END_OF_ROWS}', '';\n"
    stored: defaultdict[str, list[str]] = defaultdict(list)
    for line in _run(command, sql, QUERY_TIMEOUT).splitlines():
        key, _, order_id = line.partition("|")
        stored[key].append(order_id)
    if stored.pop(END_OF_ROWS, None) is None:
        raise DatabaseError(f"{command[0]}: the query for the stored orders did not complete")
    return dict(stored)


def _run(command: Command, sql: str, timeout: float) -> str:
    # Files instead of pipes: an ssh that leaves a control master would keep a pipe open. A new session keeps a Ctrl-C
    # meant for the meter away from the comparison that follows.
    with tempfile.TemporaryFile("w+") as output, tempfile.TemporaryFile("w+") as errors:
        try:
            status = subprocess.run(
                command, input=sql, text=True, stdout=output, stderr=errors, timeout=timeout, start_new_session=True
            ).returncode
        except (OSError, subprocess.TimeoutExpired) as error:
            raise DatabaseError(f"{command[0]}: {error}") from error
        output.seek(0)
        errors.seek(0)
        if status != 0:
            raise DatabaseError(f"{command[0]}: exit status {status}: {errors.read()[-300:].strip()}")
        return output.read()
