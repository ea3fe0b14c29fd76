"""What do clients notice when a process or a host dies?"""

from pathlib import Path

from lab import healthy, leader, meter, on, power_off, power_on, wait


def test_death_of_a_gunicorn_master_and_of_an_application_host(tmp_path: Path) -> None:
    """Reads fail only if they were in flight there; the host is back in service by itself."""
    with meter(tmp_path) as run:
        on("blue1", "kill -9 $(systemctl show -p MainPID --value tradefleet-api)")
        wait(
            lambda: on("blue1", "systemctl is-active tradefleet-api", check=False) == "active\n",
            20,
            "systemd starts it again",
        )
        power_off("blue2")
        before = run.state()["ok"]
        wait(lambda: run.state()["ok"] > before + 500, 60, "the other host serves")
        power_on("blue2")
        wait(
            lambda: on("blue2", "systemctl is-active tradefleet-api", check=False) == "active\n", 60, "the host is back"
        )
    report = run.report
    # Two faults, at each of which every client may have had one request in flight.
    assert report["groups"]["reads"]["failed"] <= 2 * report["settings"]["clients"] / 4, report["failures"]
    assert (report["comparison"]["lost"], report["comparison"]["duplicated"]) == (0, 0)


def test_death_of_the_postgresql_primarys_host(tmp_path: Path) -> None:
    """Writes come back by themselves, nothing acknowledged is lost, and the host comes back as a replica."""
    wait(healthy, 60, "three members, one of them synchronous")
    former = leader()
    with meter(tmp_path) as run:
        power_off(former)
        before = run.state()["ok"]
        wait(lambda: run.state()["ok"] > before + 1500, 120, "traffic flows again")
        power_on(former)
        seconds = wait(healthy, 120, "three members again, one of them synchronous")
        assert leader() != former
    report = run.report
    gap = report["groups"]["writes"]["longest_gap"]["seconds"]
    print(f"writes were back after {gap:.1f} s; the former primary was a replica {seconds:.1f} s after its start")
    assert (report["comparison"]["lost"], report["comparison"]["duplicated"]) == (0, 0)
    assert gap <= 45
