"""A fourth data host joins the lab and leaves it again, each by an edit of the inventory and one run of site.yml."""

import subprocess
import time
from pathlib import Path
from tempfile import TemporaryDirectory

import yaml
from clients import Meter
from faults import flows
from inside import on
from lab import APPS, DATA, PROJECT, changes, cluster, leader, measured, output, play, sql, wait
from writers import trying_to_write

HOST, ADDRESS = "data4", "10.203.0.44"
LIMIT = f"--limit={HOST},app,localhost"


def come_and_go(run: Meter) -> None:
    """Add it to a fleet with orders; replace it alone; retire it, which leaves its data on it."""
    with TemporaryDirectory() as folder:
        added, retired = (_inventory(Path(folder), group) for group in ("postgres", "postgres_retired"))
        try:
            _lab("create", added)
            alone = f"--limit={HOST},localhost"
            _refused(added, alone)
            _lab("destroy", added)
            _lab("create", added)
            joined = _site(added, LIMIT)
            _serves()
            with trying_to_write(HOST) as written:
                flows(run)
            # It has never led, so its own PostgreSQL has accepted no write.
            assert written == []
            _lab("destroy", added)
            # The other hosts still have it in their configuration, so only this host needs a run: that is its cost.
            _lab("create", added)
            installed = _site(added, alone)
            _serves()
            measured(f"{HOST} joins the fleet in {joined:.0f} s; its installation alone takes {installed:.0f} s")
            assert joined <= 1.5 * installed, f"{joined:.0f} s against {installed:.0f} s"
            assert changes(play("site", f"--inventory={added}", LIMIT)) == []
            _site(retired, f"--limit={HOST},app,postgres,localhost")
            _gone()
            _refused(added, alone)
            flows(run)
        finally:
            _lab("destroy", added)


def _inventory(folder: Path, group: str) -> Path:
    path = folder / f"{group}.yml"
    path.write_text(yaml.safe_dump({group: {"hosts": {HOST: {"ansible_host": ADDRESS}}}}))
    return path


def _lab(playbook: str, inventory: Path) -> None:
    """Create the host, or remove it with its data, like the lab's other hosts."""
    argv = ["ansible-playbook", f"--inventory={PROJECT}/inventories/lab", f"--inventory={inventory}"]
    argv += [f"--limit={HOST},localhost", f"molecule/shared/{playbook}.yml"]
    done = subprocess.run(argv, cwd=PROJECT, capture_output=True, text=True, timeout=300, check=False)
    assert done.returncode == 0, done.stdout[-4000:] + done.stderr[-2000:]


def _site(inventory: Path, *arguments: str) -> float:
    """Run site.yml and return its seconds."""
    began = time.monotonic()
    play("site", f"--inventory={inventory}", *arguments)
    return time.monotonic() - began


def _refused(inventory: Path, alone: str) -> None:
    """No proxy has it in its configuration, and it must not become the leader."""
    refused = play("site", f"--inventory={inventory}", alone, check=False)
    assert refused.returncode != 0
    assert "does not know it. Run the application hosts along" in output(refused)


def _serves() -> None:
    """Assert that it has every order, that each proxy uses it, and that clients can connect to it."""
    wait(lambda: cluster().get(HOST) in ("replica streaming", "sync_standby streaming"), 60, f"{HOST} follows")
    orders = int(sql(leader(), "SELECT count(*) FROM orders"))
    count = "su postgres -c \"psql -AtXd tradefleet -c 'SELECT count(*) FROM orders'\""
    assert orders > 0
    wait(lambda: int(on(HOST, count)) >= orders, 30, f"{HOST} has every order")
    for app in APPS:
        wait(lambda app=app: _proxied(app).get(f"replica,{HOST}", "").startswith("UP"), 30, f"{app} reads from {HOST}")


def _proxied(app: str) -> dict[str, str]:
    """Return the state of each server of haproxy: "backend,server" -> "UP"."""
    query = "curl -sS --max-time 5 --unix-socket /run/haproxy/status.sock 'http://localhost/stats;csv'"
    rows = [line.split(",") for line in on(app, query).splitlines() if line.startswith(("primary,", "replica,"))]
    return {f"{row[0]},{row[1]}": row[17] for row in rows}


def _gone() -> None:
    """Assert that it is in no configuration: etcd, slots, proxies, pg_hba."""
    assert sorted(cluster()) == sorted(DATA)
    for host in DATA:
        slots = "su postgres -c \"psql -Atc 'SELECT slot_name FROM pg_replication_slots'\""
        assert HOST not in on(host, slots)
        assert ADDRESS not in on(host, "cat /var/lib/postgresql/17/tradefleet/pg_hba.conf")
    for app in APPS:
        assert not [name for name in _proxied(app) if name.endswith(HOST)]
    assert on(HOST, "systemctl is-active patroni pgbouncer", check=False).split() == ["inactive", "inactive"]
