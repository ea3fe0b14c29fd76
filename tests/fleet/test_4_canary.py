"""Does a canary detect a bad release, and do its clients move back at once?"""

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
from lab import BOTH, EDGES, changes, measured, output, play, play_until, traffic, wait, workers

# The judge gets its sample within half a minute.
RATE = 100
# The seconds in which the judge detects 5 % of failures in a tenth of that, or in all of it
# (docs/deploy-and-cutover.md): a tenth of the clients sends at least 8 requests a second, and a sample takes 7 s.
FOUND_WITHIN = 11.3 / (0.05 * 8) + 7


def link() -> set[str]:
    """Return the sets of flags that the load balancers use."""
    return {on(edge, "basename $(readlink /etc/nginx/traffic)").strip() for edge in EDGES}


@contextmanager
def unauthenticated() -> Iterator[None]:
    """Send requests without a valid key to the canary during the block: 401, 404, and a cheap 200."""
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
    """Rotate the logs of both load balancers when the other color serves."""
    wait(lambda: link() == {"green"}, 120, "green serves")
    for edge in EDGES:
        on(edge, "logrotate --force /etc/logrotate.d/nginx")


def test_equal_release_is_promoted_step_by_step(tmp_path: Path) -> None:
    """The steps are a tenth, half and all: no request fails; both colors serve the clients, one the unauthenticated."""
    assert traffic()["traffic_live_color"] == "blue"
    with meter(tmp_path, rate=RATE) as run, unauthenticated():
        done = play("canary", canary_seconds="5", cutover_soak_seconds="5")
        assert link() == {"green"}
    assert "10 % on green" in output(done)
    assert "50 % on green" in output(done)
    assert traffic()["traffic_live_color"] == "green"
    assert run.report["groups"]["all"]["failed"] == 0, run.report["failures"]
    assert set(run.report["colors"]) == {"blue", "green"}
    play("rollback")


@pytest.mark.thorough
def test_color_with_a_share_of_the_clients_is_live(tmp_path: Path) -> None:
    """site.yml does not change it, status agrees with traffic.yml, and a rollback moves the clients back."""
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
def test_canary_on_an_unhealthy_color_is_withdrawn(tmp_path: Path) -> None:
    """One of its hosts is down: the next step moves all clients back; withdrawing needs no healthy host."""
    before = traffic()
    with meter(tmp_path, rate=RATE):
        play("canary", percent="50", canary_seconds="5")
    on("green2", "systemctl stop tradefleet-api")
    try:
        stopped = play("canary", check=False)
        assert stopped.returncode != 0
        assert "All clients are back on blue." in output(stopped)
        assert (link(), traffic()) == ({"blue"}, before)
        play("canary", percent="0")
    finally:
        on("green2", "systemctl start tradefleet-api")


@pytest.mark.thorough
def test_killed_canary_is_completed_or_withdrawn(tmp_path: Path) -> None:
    """Its clients have moved, traffic.yml has not: the same share is judged and recorded, or a share of 0 ends it."""
    before = traffic()
    with meter(tmp_path, rate=RATE) as run:
        for percent in (10, 0):
            play_until("TASK [traffic : Sample | Wait", "canary", percent="10", canary_seconds="30")
            assert link() != {"blue"}
            play("canary", percent=str(percent), canary_seconds="5")
            assert traffic() == before | {"traffic_canary_percent": percent}
        assert link() == {"blue"}
    assert run.report["groups"]["all"]["failed"] == 0, run.report["failures"]


def test_worse_release_is_withdrawn(release: Callable[..., Path], tmp_path: Path) -> None:
    """One request in twenty fails: a shadow, a tenth of the clients and the soak after a cutover detect it.

    Neither its good responses without a key nor a rotation of the logs after the flip hides that.
    """
    release("0.4.0", before_each_request("assert random.random() >= 0.05"))
    play("deploy", deploy_release="0.4.0")
    before = traffic()
    with meter(tmp_path, rate=RATE) as run, unauthenticated(), ThreadPoolExecutor() as pool:
        report = output(play("shadow", percent="50", shadow_seconds="8"))
        assert re.search(r"200 -> 500: [1-9]", report), report[-2000:]
        assert (link(), run.state()["failed"]) == ({"blue"}, 0)
        for playbook, extra in (("canary", {"percent": "10"}), ("cutover", {"cutover_soak_seconds": "20"})):
            rotation = pool.submit(rotate_after_the_flip) if playbook == "cutover" else None
            withdrawn = play(playbook, check=False, **extra)
            if rotation:
                rotation.result()
            assert withdrawn.returncode != 0
            assert "of its requests failed, against 0.00%" in output(withdrawn)
            assert "back on blue" in output(withdrawn)
            passed = re.search(r"After (\d+) s", output(withdrawn))
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
