"""The reliability of the judge, and what a shadow and a backup cost clients."""

import re
import subprocess
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from statistics import quantiles

from building import before_each_request, build
from clients import Meter, api_key
from inside import on
from judge import bounds
from lab import BOTH, EDGES, leader, measured, output, play, playing, sql, traffic
from releases import other_has_a_release

# This is the number of successive canaries.
ROUNDS = 10
# A tenth of a hundred requests a second gives the judge's sample of 200 in twenty seconds; the rest is reserve.
WITHDRAWN_SECONDS = 45
# Seconds with a shadow and without one, and the number of repetitions: a useful interval of p99 needs thousands of
# responses.
WINDOW = 40
PAIRS = 5
# A table of 1 GB that can be compressed to a half.
FILLER = """
CREATE TABLE filler AS
SELECT g, (SELECT string_agg(md5(g::text || i), '') FROM generate_series(1, 30) i) FROM generate_series(1, 950000) g
"""

Span = tuple[float, float]


def canary_equal(_run: Meter) -> None:
    """Promote a release ten times against itself: the other color must be live after each canary."""
    other_has_a_release()
    before = traffic()["traffic_live_color"]
    for _ in range(ROUNDS):
        play("canary", canary_seconds="10", cutover_soak_seconds="10")
        after = traffic()["traffic_live_color"]
        assert before != after
        before = after
    measured(f"An equal release was promoted in {ROUNDS} of {ROUNDS} canaries")


def canary_slow(_run: Meter) -> None:
    """Give a tenth of the clients to a release that takes 50 ms longer for each request: it must be withdrawn."""
    _withdrawn("takes 50 ms longer", "0.4.2", "time.sleep(0.05)", "its p50 is at least")


def canary_errors(_run: Meter) -> None:
    """Give a tenth of the clients to a release that fails one request in twenty: it must be withdrawn."""
    _withdrawn("fails 5 % of its requests", "0.4.3", "assert random.random() >= 0.05", "of its requests failed")


def _withdrawn(what: str, version: str, statement: str, reason: str) -> None:
    before = traffic()
    with tempfile.TemporaryDirectory() as source:
        archive = build(Path(source), version, before_each_request(statement))
    play("deploy", deploy_release=version)
    archive.unlink()
    withdrawn = play("canary", check=False, percent="10", canary_seconds="60")
    assert withdrawn.returncode != 0
    verdict = re.search(r"is worse: (.*?) After (\d+) s:", output(withdrawn))
    assert verdict, output(withdrawn)[-3000:]
    assert reason in verdict[1]
    assert "back on" in output(withdrawn)
    assert traffic()["traffic_live_color"] == before["traffic_live_color"]
    # This restores the release, so that site.yml finds its archive.
    play("deploy", deploy_release=before["release_blue"] or before["release_green"])
    measured(f"A release that {what}: withdrawn after {verdict[2]} s (bound {WITHDRAWN_SECONDS} s), {verdict[1]}")
    assert int(verdict[2]) <= WITHDRAWN_SECONDS


def shadow(_run: Meter) -> None:
    """Compare clients' reads with and without a shadow of 5 %: p99 at most 5 % higher, or not significantly."""
    other_has_a_release()
    _compare("a shadow of 5 %", _shadowed, 1.05)


def backup(_run: Meter) -> None:
    """Compare clients' reads with and without a full backup of 1 GB: p99 at most 10 % higher, or not significantly."""
    sql(leader(), FILLER, seconds=300)
    # The WAL of a new table is archived, its rows are vacuumed, and its pages are written. None of that is the backup.
    sql(leader(), "VACUUM (FREEZE) filler; CHECKPOINT", seconds=300)
    _backed_up()
    try:
        _compare("a full backup", _backed_up, 1.10, pairs=3)
    finally:
        sql(leader(), "DROP TABLE filler")


def _compare(what: str, during: Callable[[], Span], bound: float, pairs: int = PAIRS) -> None:
    """Compare the p99 of reads with and without something.

    Significance is that of the judge: the intervals of both p99, with 99.9 % certainty.
    """
    with tempfile.TemporaryDirectory() as folder:
        logs = [Path(folder) / edge for edge in EDGES]
        loads = [
            subprocess.Popen(
                [
                    "h2load",
                    "--h1",
                    "--clients=2",
                    "--rps=20",
                    f"--duration={3 * PAIRS * WINDOW}",
                    f"--log-file={log}",
                    f"--connect-to={address}:443",
                    f"--header=Authorization: Bearer {api_key()}",
                    "https://tradefleet.test/v1/orders",
                ],
                stdout=subprocess.DEVNULL,
            )
            for log, address in zip(logs, BOTH, strict=True)
        ]
        try:
            windows = [(_undisturbed(), during()) for _ in range(pairs)]
        finally:
            for load in loads:
                load.terminate()
                load.wait()
        answers = [[int(field) for field in line.split()] for log in logs for line in log.read_text().splitlines()]
    assert {status for _, status, _ in answers} == {200}
    without, disturbed = (
        [took / 1000 for began, _, took in answers if any(a <= began / 1e6 <= b for a, b in these)]
        for these in zip(*windows, strict=True)
    )
    least, most = bounds(disturbed, 0.99)[0], bounds(without, 0.99)[1]
    measured(
        f"p99 of {len(without)} reads {_p99(without):.1f} ms (certainly below {most:.1f}), of {len(disturbed)} with "
        f"{what} {_p99(disturbed):.1f} ms (certainly above {least:.1f})"
    )
    assert least <= bound * most


def _undisturbed() -> Span:
    """Return a period without anything, in seconds of the epoch."""
    time.sleep(2)
    quiet = time.time()
    time.sleep(WINDOW)
    return quiet, time.time()


def _shadowed() -> Span:
    """Return the period of a shadow."""
    began: list[float] = []
    for line in playing("shadow", percent="5", shadow_seconds=str(WINDOW)):
        if "[traffic : Shadow | Wait for reads]" in line:
            began.append(time.time())
            assert "shadow" in on("lb1", "readlink /etc/nginx/traffic")
    return began[0] + 1, began[0] + WINDOW


def _backed_up() -> Span:
    """Return the period of a full backup, started as its timer does: the controller shares the hosts' processors."""
    began = time.time()
    on("ops1", "systemctl start tradefleet-backup@full", seconds=300)
    return began, time.time()


def _p99(milliseconds: list[float]) -> float:
    return quantiles(milliseconds, n=100)[98]
