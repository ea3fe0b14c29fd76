"""The reliability of the judge, and the cost of a shadow for clients."""

import re
import subprocess
import tempfile
import time
from pathlib import Path
from statistics import quantiles

from building import before_each_request, build
from clients import Meter, api_key
from inside import on
from judge import bounds
from lab import BOTH, EDGES, measured, output, play, playing, traffic
from releases import other_has_a_release

# This is the number of successive canaries.
ROUNDS = 10
# A tenth of a hundred requests a second gives the judge's sample of 200 in twenty seconds; the rest is reserve.
WITHDRAWN_SECONDS = 45
# Seconds with a shadow and without one, and the number of repetitions: a useful interval of p99 needs thousands of
# responses.
WINDOW = 40
PAIRS = 5


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
    """Compare clients' reads with and without a shadow of 5 %: p99 at most 5 % higher, or not significantly.

    Significance is that of the judge: the intervals of both p99, with 99.9 % certainty.
    """
    other_has_a_release()
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
            windows = [_windows() for _ in range(PAIRS)]
        finally:
            for load in loads:
                load.terminate()
                load.wait()
        answers = [[int(field) for field in line.split()] for log in logs for line in log.read_text().splitlines()]
    assert {status for _, status, _ in answers} == {200}
    without, with_shadow = (
        [took / 1000 for began, _, took in answers if any(a <= began / 1e6 <= b for a, b in these)]
        for these in zip(*windows, strict=True)
    )
    least, most = bounds(with_shadow, 0.99)[0], bounds(without, 0.99)[1]
    measured(
        f"p99 of {len(without)} reads {_p99(without):.1f} ms (certainly below {most:.1f}), "
        f"with a shadow of 5 % {_p99(with_shadow):.1f} ms (certainly above {least:.1f})"
    )
    assert least <= 1.05 * most


def _windows() -> tuple[tuple[float, float], tuple[float, float]]:
    """Return the periods without a shadow and those with one, in seconds of the epoch."""
    time.sleep(2)
    quiet = time.time()
    time.sleep(WINDOW)
    without = (quiet, time.time())
    began: list[float] = []
    for line in playing("shadow", percent="5", shadow_seconds=str(WINDOW)):
        if "[traffic : Shadow | Wait for reads]" in line:
            began.append(time.time())
            assert "shadow" in on("lb1", "readlink /etc/nginx/traffic")
    return without, (began[0] + 1, began[0] + WINDOW)


def _p99(milliseconds: list[float]) -> float:
    return quantiles(milliseconds, n=100)[98]
