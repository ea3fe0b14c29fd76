"""Does a share of the clients find out what is wrong with a release, and are they taken back at once?"""

import re
import subprocess
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from pathlib import Path

import pytest
from building import before_each_request
from clients import meter
from inside import on
from lab import BOTH, EDGES, changes, measured, play, play_until, said, traffic, wait, workers

# Enough for the judge's sample in half a minute.
RATE = 100
# Seconds in which the judge finds 5 % of failures in a tenth of that, or in all of it (docs/deploy-and-cutover.md): a
# tenth of the clients sends 8 requests a second at the least, and a look takes 7 s.
FOUND_WITHIN = 11.3 / (0.05 * 8) + 7


def link() -> set[str]:
    """Return where the load balancers send clients: the names of their sets of flags."""
    return {on(edge, "basename $(readlink /etc/nginx/traffic)").strip() for edge in EDGES}


@contextmanager
def strangers() -> Iterator[None]:
    """Send requests without a valid key during the block, all of them to the canary: 401, 404, and a cheap 200."""
    load = ["h2load", "--h1", "--clients=2", "--rps=15", "--duration=600", f"--connect-to={BOTH[0]}:443"]
    load += ["--header=Cookie: tradefleet_client=verify-88", "--header=Authorization: Bearer guessed"]
    load += [f"https://tradefleet.test/{path}" for path in ("v1/orders", "guess", "")]
    with subprocess.Popen(load, stdout=subprocess.DEVNULL) as process:
        try:
            yield
            assert process.poll() is None
        finally:
            process.terminate()


def rotate_after_the_flip() -> None:
    """Rotate the logs of both load balancers once the other color serves."""
    wait(lambda: link() == {"green"}, 120, "green serves")
    for edge in EDGES:
        on(edge, "logrotate --force /etc/logrotate.d/nginx")


def test_an_equal_release_is_promoted_step_by_step(tmp_path: Path) -> None:
    """A tenth, half, everybody: no request fails, clients of each step are served by both colours, strangers by one."""
    assert traffic()["traffic_live_color"] == "blue"
    with meter(tmp_path, rate=RATE) as run, strangers():
        done = play("canary", canary_seconds="5", cutover_soak_seconds="5")
        assert link() == {"green"}
    assert "10 % on green" in said(done)
    assert "50 % on green" in said(done)
    assert traffic()["traffic_live_color"] == "green"
    assert run.report["groups"]["all"]["failed"] == 0, run.report["failures"]
    assert set(run.report["colors"]) == {"blue", "green"}
    play("rollback")


@pytest.mark.thorough
def test_a_colour_with_a_share_of_the_clients_serves(tmp_path: Path) -> None:
    """site.yml changes nothing on it, a status finds it as traffic.yml says, and a rollback takes the clients back."""
    table = tmp_path / "status.txt"
    stated = traffic()
    with meter(tmp_path, rate=RATE) as run:
        play("canary", percent="50", canary_seconds="5")
        assert changes(play("site", "--tags", "app,nginx")) == []
        play("status", status_file=str(table))
        assert "blue+green-50" in table.read_text()
        assert "warning:" not in table.read_text()
        play("rollback")
        assert (link(), traffic()) == ({"blue"}, stated)
    assert run.report["groups"]["all"]["failed"] == 0, run.report["failures"]


@pytest.mark.thorough
def test_a_share_does_not_stay_on_a_colour_that_is_not_fit(tmp_path: Path) -> None:
    """One of its hosts is down: the next step takes everybody back; to take a share back nothing is asked of it."""
    before = traffic()
    with meter(tmp_path, rate=RATE):
        play("canary", percent="50", canary_seconds="5")
    on("green2", "systemctl stop tradefleet-api")
    try:
        stopped = play("canary", check=False)
        assert stopped.returncode != 0
        assert "All clients are back on blue." in said(stopped)
        assert (link(), traffic()) == ({"blue"}, before)
        play("canary", percent="0")
    finally:
        on("green2", "systemctl start tradefleet-api")


@pytest.mark.thorough
def test_a_killed_canary_is_run_again_or_taken_back(tmp_path: Path) -> None:
    """Its clients have moved, traffic.yml has not: the same share again is judged and written down; none ends it."""
    before = traffic()
    with meter(tmp_path, rate=RATE) as run:
        for percent in (10, 0):
            play_until("TASK [traffic : Sample | Wait", "canary", percent="10", canary_seconds="30")
            assert link() != {"blue"}
            play("canary", percent=str(percent), canary_seconds="5")
            assert traffic() == before | {"traffic_canary_percent": percent}
        assert link() == {"blue"}
    assert run.report["groups"]["all"]["failed"] == 0, run.report["failures"]


def test_a_worse_release_is_withdrawn(release: Callable[..., Path], tmp_path: Path) -> None:
    """One request in twenty fails: found by a shadow, a tenth of the clients, and the watch that follows a cutover.

    Requests without a key that it answers well hide nothing, nor does a rotation of the logs after the flip.
    """
    release("0.4.0", before_each_request("assert random.random() >= 0.05"))
    play("deploy", deploy_release="0.4.0")
    before = traffic()
    with meter(tmp_path, rate=RATE) as run, strangers(), ThreadPoolExecutor() as beside:
        told = said(play("shadow", percent="50", shadow_seconds="8"))
        assert re.search(r"200 -> 500: [1-9]", told), told[-2000:]
        assert (link(), run.state()["failed"]) == ({"blue"}, 0)
        for verb, extra in (("canary", {"percent": "10"}), ("cutover", {"cutover_soak_seconds": "20"})):
            rotation = beside.submit(rotate_after_the_flip) if verb == "cutover" else None
            withdrawn = play(verb, check=False, **extra)
            if rotation:
                rotation.result()
            assert withdrawn.returncode != 0
            assert "of its requests failed, against 0.00%" in said(withdrawn)
            assert "back on blue" in said(withdrawn)
            passed = re.search(r"After (\d+) s", said(withdrawn))
            assert passed
            assert int(passed[1]) <= FOUND_WITHIN
            assert "of its requests failed" in on("ops1", "tradefleet-operations journal --last 1")
            assert (link(), traffic(), workers()) == ({"blue"}, before, {"blue1", "blue2"})
        failed = run.state()["failed"]
    everything = run.report["groups"]["all"]
    assert 0 < everything["failed"] == failed
    assert run.report["comparison"]["lost"] == 0
    measured(
        f"A release that fails 5 % of its requests: withdrawn twice, {failed} of {everything['sent']} requests failed"
    )
