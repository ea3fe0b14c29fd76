"""Does the live color get another release host by host without a failed request, whatever goes wrong?"""

from collections.abc import Callable
from pathlib import Path

import pytest
from clients import Meter, meter
from inside import on
from lab import ADDRESSES, EDGES, QUIET, changes, measured, nginx_processes, output, play, play_until, traffic

BLUE = ("blue1", "blue2")
FLAG = "/run/tradefleet-draining"
ASK = "curl -sS --max-time 9 --cacert /etc/ssl/tradefleet/ca.crt https://{}:8443/version"


@pytest.fixture(name="former", scope="module")
def _former() -> str:
    """Return the release before the first roll."""
    assert traffic()["traffic_live_color"] == "blue"
    return traffic()["release_blue"]


def running_releases() -> list[str]:
    """Return the linked release of each live host; its process must report the same."""
    found = []
    for host in BLUE:
        release = on(host, "basename $(readlink /opt/tradefleet/current)").strip()
        assert f'"release":"{release}"' in on(host, ASK.format(ADDRESSES[host]))
        found.append(release)
    return found


def assert_no_failure(run: Meter) -> None:
    """Assert that no request failed: reads and orders, on kept connections and on new ones."""
    groups, comparison = run.report["groups"], run.report["comparison"]
    assert groups["all"]["failed"] == 0, run.report["failures"]
    for group in ("reads", "writes", "keep_alive", "new_connection"):
        assert groups[group]["sent"] > 100
    assert comparison["compared"]
    assert (comparison["lost"], comparison["duplicated"]) == (0, 0)


def drained() -> list[str]:
    """Return the drained hosts."""
    return [host for host in BLUE if "yes" in on(host, f"test -e {FLAG} && echo yes", check=False)]


@pytest.mark.usefixtures("former")
def test_hosts_are_replaced_without_a_failed_request(release: Callable[..., Path], tmp_path: Path) -> None:
    """Both releases serve during the roll, nginx is not reloaded, and traffic.yml has the release at the end."""
    release("0.5.0")
    workers = [nginx_processes(edge) for edge in EDGES]
    with meter(tmp_path, rate=QUIET) as run:
        play("rolling", rolling_release="0.5.0")
        assert running_releases() == ["0.5.0", "0.5.0"]
        assert traffic()["release_blue"] == "0.5.0"
    assert_no_failure(run)
    assert [nginx_processes(edge) for edge in EDGES] == workers
    assert drained() == []
    everything = run.report["groups"]["all"]
    measured(
        f"2 hosts rolled one after the other: {everything['failed']} of {everything['sent']} requests failed, "
        f"longest gap {everything['longest_gap']['seconds']:.2f} s"
    )


@pytest.mark.thorough
def test_killed_roll_is_completed_by_another_run(former: str, tmp_path: Path) -> None:
    """The return is killed while a host is drained, stopped, changed and undrained: each run continues it."""
    with meter(tmp_path, rate=QUIET) as run:
        before = traffic()
        for marker, left in (
            ("TASK [app : Drain | Wait until no connection", 1),
            ("TASK [app : Ready | Wait until the application is ready", 1),
            ("TASK [rolling : Replace | Send requests", 1),
            ("TASK [rolling : Batch | Wait until the load balancers", 0),
        ):
            play_until(marker, "rolling", rolling_release=former)
            assert len(drained()) == left
            assert traffic() == before
        play("rolling", rolling_release=former)
        assert (running_releases(), drained()) == ([former, former], [])
        assert traffic()["release_blue"] == former
    assert_no_failure(run)


@pytest.mark.thorough
def test_release_that_never_becomes_ready_stops_at_the_first_host(
    former: str, release: Callable[..., Path], tmp_path: Path
) -> None:
    """That host returns to its former release and serves; the second one is not touched."""

    def change(package: Path) -> None:
        entry = package / "entrypoints/wsgi.py"
        entry.write_text(entry.read_text() + '\n\ndef create_app():\n    raise RuntimeError("never starts")\n')

    release("0.5.1", change)
    before, other = traffic(), on("blue2", "systemctl show -p MainPID --value tradefleet-api")
    with meter(tmp_path, rate=QUIET) as run:
        stopped = play("rolling", check=False, rolling_release="0.5.1")
        assert stopped.returncode != 0
        for words in ("did not become ready on blue1", "never starts", f"blue1 runs {former}, blue2 runs {former}"):
            assert words in output(stopped)
        assert (running_releases(), drained(), traffic()) == ([former, former], [], before)
        assert on("blue2", "systemctl show -p MainPID --value tradefleet-api") == other
    assert_no_failure(run)


@pytest.mark.thorough
def test_no_host_is_drained_while_another_is_down(former: str) -> None:
    """The same run repairs that host first."""
    on("blue2", "systemctl stop tradefleet-api")
    done = play("rolling", rolling_release=former)
    assert next(line for line in changes(done) if "Drain |" in line).startswith("blue2: ")
    assert (running_releases(), drained()) == ([former, former], [])
