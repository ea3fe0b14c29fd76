"""What do clients notice when a process or a host dies?"""

from pathlib import Path

from lab import ADDRESSES, healthy, leader, measured, meter, on, power_off, power_on, wait


def ready(host: str) -> bool:
    """Tell whether the application on a host says that it is ready."""
    ask = f"curl -fsS --max-time 3 --cacert /etc/ssl/tradefleet/ca.crt https://{ADDRESSES[host]}:8443/readyz"
    return "ready" in on(host, ask, check=False)


def test_death_of_a_gunicorn_master(tmp_path: Path) -> None:
    """Reads in flight on that host may fail, no others; systemd starts it again."""
    with meter(tmp_path) as run:
        on("blue1", "kill -9 $(systemctl show -p MainPID --value tradefleet-api)")
        back = wait(lambda: ready("blue1"), 30, "systemd starts it again")
    reads = run.report["groups"]["reads"]
    measured(
        f"gunicorn master killed: {reads['failed']} of {reads['sent']} reads failed, ready again after {back:.1f} s"
    )
    assert reads["failed"] <= run.report["settings"]["clients"] / 2, run.report["failures"]
    assert (run.report["comparison"]["lost"], run.report["comparison"]["duplicated"]) == (0, 0)


def test_death_of_an_application_host(tmp_path: Path) -> None:
    """Reads go to the other host; the dead one, once started, is back in service by itself."""
    with meter(tmp_path) as run:
        power_off("blue2")
        before = run.state()["ok"]
        wait(lambda: run.state()["ok"] > before + 1000, 60, "the other host serves")
        power_on("blue2")
        wait(lambda: ready("blue2"), 60, "the host is back")
    reads = run.report["groups"]["reads"]
    measured(f"application host powered off: {reads['failed']} of {reads['sent']} reads failed")
    assert reads["failed"] <= run.report["settings"]["clients"] / 2, run.report["failures"]
    assert (run.report["comparison"]["lost"], run.report["comparison"]["duplicated"]) == (0, 0)


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
    measured(
        f"PostgreSQL primary's host powered off: {gap:.1f} s without a write, replica {seconds:.1f} s after its start"
    )
    assert (report["comparison"]["lost"], report["comparison"]["duplicated"]) == (0, 0)
    assert gap <= 45
