"""Does traffic move between the colors, with deploys in between, without a failed request?"""

import re
from collections.abc import Callable
from pathlib import Path

import pytest
from clients import Api, meter
from inside import on
from lab import QUIET, leader, measured, nginx_processes, output, play, play_until, sql, traffic, wait, workers

# Orders that did not lead to exactly one activity.
WRONG = """
    SELECT count(*) FROM orders LEFT JOIN (SELECT order_id, count(*) AS times FROM activity GROUP BY order_id) AS seen
    ON seen.order_id = orders.id WHERE times IS DISTINCT FROM 1
"""


def served(api: Api) -> set[tuple[str, str]]:
    """Return the color and release of each load balancer's response."""
    answers = [Api(balancer, api.key).request("GET", "/version") for balancer in ("lb1", "lb2")]
    return {(answer.headers["x-color"], answer.headers["x-release"]) for answer in answers}


def static_files(api: Api) -> set[str]:
    """Return the static files that the page names now."""
    return set(re.findall(r'"(/static/[^"]+)"', api.request("GET", "/").body.decode()))


def all_have(api: Api, paths: set[str]) -> bool:
    """Return whether each load balancer has all of these files."""
    balancers = [Api(balancer, api.key) for balancer in ("lb1", "lb2")]
    return {balancer.request("GET", path).status for balancer in balancers for path in paths} == {200}


def restyled(app: Path) -> None:
    """Change one of the files that the page names."""
    (app / "domains/pages/static/site.css").write_text("main { margin: 0; }\n")


def test_cutovers_with_deploys_in_between_fail_no_request(
    api: Api, release: Callable[..., Path], tmp_path: Path
) -> None:
    """No request fails, even on kept connections without a retry; no order is lost or duplicated."""
    release("0.1.1", restyled)
    release("0.1.2")
    opened = static_files(api)
    with meter(tmp_path, rate=60) as run:
        play("deploy", deploy_release="0.1.1")
        assert served(api) == {("blue", "0.2.0")}
        play("cutover")
        assert served(api) == {("green", "0.1.1")}
        # A page that was opened before finds its files, and so does a present one.
        assert len(opened - static_files(api)) == 1
        assert all_have(api, opened | static_files(api))
        assert workers() == {"green1", "green2"}
        stated = {"traffic_live_color": "green", "release_blue": "0.2.0", "release_green": "0.1.1"}
        assert traffic() == stated | {"traffic_canary_percent": 0}
        play("deploy", deploy_release="0.1.2")
        play("cutover")
        assert served(api) == {("blue", "0.1.2")}
        play("rollback")
        assert served(api) == {("green", "0.1.1")}
        assert workers() == {"green1", "green2"}
        # No reload is needed: the master and the workers are the same.
        processes = [nginx_processes(balancer) for balancer in ("lb1", "lb2")]
        play("cutover", cutover_to="blue")
        assert [nginx_processes(balancer) for balancer in ("lb1", "lb2")] == processes
    assert workers() == {"blue1", "blue2"}
    report = run.report
    everything = report["groups"]["all"]
    assert everything["failed"] == 0, report["failures"]
    assert report["groups"]["keep_alive"]["sent"] > 1000
    assert report["comparison"]["compared"]
    assert (report["comparison"]["lost"], report["comparison"]["duplicated"]) == (0, 0)
    assert report["repeats"]["problems"] == []
    wait(lambda: sql(leader(), WRONG) == "0", 10, "each order has led to one activity")
    assert everything["longest_gap"]["seconds"] <= 1
    assert report["answered_per_second"] >= 50
    assert set(report["colors"]) == {"blue", "green"}
    gap, acknowledged = everything["longest_gap"]["seconds"], report["comparison"]["acknowledged"]
    measured(
        f"2 deploys, 3 cutovers, 1 rollback: {everything['failed']} of {everything['sent']} requests failed, "
        f"longest gap {gap:.2f} s, {report['comparison']['lost']} of {acknowledged} acknowledged orders lost"
    )


def test_killed_cutover_is_completed_by_another_run(api: Api, tmp_path: Path) -> None:
    """Each run is killed before, during or after the flip, and completed by the next one; no request fails."""
    with meter(tmp_path, rate=QUIET) as run:
        for marker in (
            "TASK [nginx : Check | Test",
            "TASK [nginx : Traffic | Activate",
            "TASK [traffic : Verify | Query",
            "TASK [traffic : Record | Write",
        ):
            play_until(marker, "cutover", cutover_to="green")
            assert traffic()["traffic_live_color"] == "blue"
        for target in ("green", "blue"):
            play("cutover", cutover_to=target)
            assert {color for color, _ in served(api)} == {target}
            assert traffic()["traffic_live_color"] == target
    assert run.report["groups"]["all"]["failed"] == 0, run.report["failures"]


@pytest.mark.thorough
def test_cutover_that_was_killed_during_its_soak_is_complete(api: Api, tmp_path: Path) -> None:
    """Traffic and traffic.yml agree, another run has nothing to do, and the way back is a cutover."""
    with meter(tmp_path, rate=QUIET) as run:
        play_until("TASK [traffic : Sample | Wait", "cutover", cutover_to="green", cutover_soak_seconds="30")
        for _ in range(2):
            assert {color for color, _ in served(api)} == {"green"}
            assert traffic()["traffic_live_color"] == "green"
            play("cutover", cutover_to="green")
        play("cutover", cutover_to="blue")
    assert run.report["groups"]["all"]["failed"] == 0, run.report["failures"]


@pytest.mark.thorough
def test_killed_cutover_can_be_rolled_back(api: Api) -> None:
    """Traffic has moved, traffic.yml has not: a rollback goes to the color in the file, and a deploy is refused."""
    play_until("TASK [traffic : Record | Write", "cutover", cutover_to="green")
    assert {color for color, _ in served(api)} == {"green"}
    refused = play("deploy", check=False, deploy_release="0.2.0")
    assert refused.returncode != 0
    assert "a cutover was interrupted" in output(refused)
    play("rollback")
    assert {color for color, _ in served(api)} == {"blue"}
    assert traffic()["traffic_live_color"] == "blue"


def assert_cutover_refused(api: Api, *words: str) -> None:
    """Try to cut over to green; assert that nothing moves, and that the output has these words."""
    refused = play("cutover", check=False, cutover_to="green")
    assert refused.returncode != 0
    for word in words:
        assert word in output(refused)
    assert {color for color, _ in served(api)} == {"blue"}
    assert traffic()["traffic_live_color"] == "blue"


@pytest.mark.thorough
def test_unhealthy_target_moves_no_traffic(api: Api, tmp_path: Path) -> None:
    """One idle host is down, or one load balancer's configuration is invalid. The output has the failed host's log."""
    with meter(tmp_path, rate=QUIET) as run:
        on("green2", "systemctl stop tradefleet-api")
        assert_cutover_refused(api, "Nothing has moved", "green2", "Handling signal: term")
        on("green2", "systemctl start tradefleet-api")
        on("lb2", "cp /etc/nginx/nginx.conf /root/ && echo 'nonsense;' >> /etc/nginx/nginx.conf")
        assert_cutover_refused(api, "Nothing has moved", "lb2", "nonsense")
        on("lb2", "cp /root/nginx.conf /etc/nginx/nginx.conf")
    assert run.report["groups"]["all"]["failed"] == 0, run.report["failures"]


def test_failed_verification_undoes_the_flip(api: Api) -> None:
    """An invalid file is in the flag's place: it is detected after the flip, which is undone on both."""
    flag = "/etc/nginx/traffic-sets/green/green"
    on("lb2", f"rm {flag} && mkdir {flag}")
    try:
        assert_cutover_refused(api, "traffic is back on blue", "lb2: Verify")
        assert workers() == {"blue1", "blue2"}
    finally:
        on("lb2", f"rmdir {flag} && touch {flag}")
