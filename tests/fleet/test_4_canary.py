"""Does a share of the clients find out what is wrong with a release, and are they taken back at once?"""

import re
from collections.abc import Callable
from pathlib import Path

from building import before_each_request
from lab import EDGES, measured, meter, on, play, traffic

# Enough for the judge's sample in half a minute.
RATE = 100
# Seconds in which the judge finds 5 % of failures in a tenth of that, or in all of it (docs/deploy-and-cutover.md): a
# tenth of the clients sends 8 requests a second at the least, and a look takes 7 s.
FOUND_WITHIN = 11.3 / (0.05 * 8) + 7


def link() -> set[str]:
    """Return where the load balancers send clients: the names of their sets of flags."""
    return {on(edge, "basename $(readlink /etc/nginx/traffic)").strip() for edge in EDGES}


def test_an_equal_release_is_promoted_step_by_step(tmp_path: Path) -> None:
    """A tenth, half, everybody: no request fails, and clients of each step are served by both colours."""
    assert traffic()["traffic_live_color"] == "blue"
    with meter(tmp_path, rate=RATE) as run:
        done = play("canary", canary_seconds="5", cutover_soak_seconds="5")
        assert link() == {"green"}
    assert "10 % on green" in done.stdout
    assert "50 % on green" in done.stdout
    assert traffic()["traffic_live_color"] == "green"
    assert run.report["groups"]["all"]["failed"] == 0, run.report["failures"]
    assert set(run.report["colours"]) == {"blue", "green"}
    play("rollback")


def test_a_worse_release_is_withdrawn(release: Callable[..., Path], tmp_path: Path) -> None:
    """One request in twenty fails: found by a shadow, a tenth of the clients, and the watch that follows a cutover."""
    release("0.4.0", before_each_request("assert random.random() >= 0.05"))
    play("deploy", deploy_release="0.4.0")
    before = traffic()
    with meter(tmp_path, rate=RATE) as run:
        assert re.search(r"200\s+-> 500: [1-9]", play("shadow", percent="50", shadow_seconds="8").stdout)
        assert (link(), run.state()["failed"]) == ({"blue"}, 0)
        for verb, extra in (("canary", {"percent": "10"}), ("cutover", {"cutover_soak_seconds": "20"})):
            withdrawn = play(verb, check=False, **extra)
            assert withdrawn.returncode != 0
            assert "of its requests failed, against 0.00%" in withdrawn.stdout
            assert "back on blue" in withdrawn.stdout
            passed = re.search(r"After (\d+) s", withdrawn.stdout)
            assert passed
            assert int(passed[1]) <= FOUND_WITHIN
            assert "of its requests failed" in on("ops1", "tradefleet-operations journal --last 1")
            assert (link(), traffic()) == ({"blue"}, before)
        failed = run.state()["failed"]
        refused = play("canary", check=False, percent="100")
        assert "a share is a number from 0 to 99" in refused.stdout
    everything = run.report["groups"]["all"]
    assert 0 < everything["failed"] == failed
    assert run.report["comparison"]["lost"] == 0
    measured(
        f"A release that fails 5 % of its requests: withdrawn twice, {failed} of {everything['sent']} requests failed"
    )
