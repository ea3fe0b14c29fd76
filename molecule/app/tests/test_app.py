"""Does the host run the configured release, in a sandbox, with its secrets protected?"""

import json
import re
from pathlib import Path

import pytest
import testinfra
from scenario import converge, would_change
from testinfra.host import Host

LIVE = testinfra.get_host("podman://tf-app2")
URL = "https://10.203.0.108:8443"
CURL = "curl -sS --max-time 10 --cacert /etc/ssl/tradefleet/ca.crt"
KEY = "Authorization: Bearer molecule-molecule-molecule-molecule-1"
SECRETS = ("molecule-app", "molecule-owner", "molecule-redis", "molecule-cache", "molecule-sentinel")


def pid(host: Host, service: str = "api") -> str:
    """Return the process ID of the gunicorn master or of the worker."""
    return str(host.check_output(f"systemctl show -p MainPID --value tradefleet-{service}"))


def test_configured_release_and_color_run(host: Host) -> None:
    """The process itself reports them; the database has the schema of the release."""
    version = json.loads(host.check_output(f"{CURL} {URL}/version"))
    assert (version["release"], version["color"]) == ("0.1.0", "green")
    assert version["migration"]["database"] == version["migration"]["code"]
    assert json.loads(host.check_output(f"{CURL} {URL}/readyz"))["dependencies"] == {
        "database": "ok",
        "schema": "ok",
        "redis": "ok",
        "cache": "ok",
    }


def test_check_mode_reports_changes_without_making_them(host: Host, tmp_path: Path) -> None:
    """Another release would be staged and started, but nothing changes."""
    before = pid(host), host.check_output("ls -l /opt/tradefleet /opt/tradefleet/releases /etc/tradefleet")
    (tmp_path / "tradefleet-0.0.9.tar.gz").touch()
    changed = would_change("-e", "app_release=0.0.9", "-e", f"app_release_dir={tmp_path}", "--limit", "app1")
    assert {
        "app : Stage | Create the release's folder",
        "app : Activate | Link the release",
        "app : Activate | Start the release",
    } <= changed
    assert (pid(host), host.check_output("ls -l /opt/tradefleet /opt/tradefleet/releases /etc/tradefleet")) == before


def test_order_of_the_first_trader_is_stored(host: Host) -> None:
    """The API accepts the key from the inventory, and the application's database role may write."""
    order = '{"symbol":"AAPL","side":"buy","type":"market","quantity":"1"}'
    headers = f"-H '{KEY}' -H 'Content-Type: application/json' -H 'Idempotency-Key: one'"
    assert json.loads(host.check_output(f"{CURL} {headers} -d '{order}' {URL}/v1/orders"))["status"] == "accepted"


def test_only_tls_1_3(host: Host) -> None:
    """The edge, its only client, supports it."""
    assert host.run(f"{CURL} --tls-max 1.2 {URL}/healthz").rc == 35
    assert host.run("curl -sS --max-time 5 http://10.203.0.108:8443/healthz").rc != 0


def test_secrets_are_not_in_environments_or_arguments(host: Host) -> None:
    """This applies to the service's processes and to everything that the role left behind."""
    everything = host.check_output("cat /proc/[0-9]*/environ /proc/[0-9]*/cmdline 2>/dev/null | tr '\\0' '\\n'")
    assert "TRADEFLEET_DATABASE_USER" in everything
    for secret in SECRETS:
        assert secret not in everything
        assert host.run(f"journalctl -o cat | grep -F {secret}").rc == 1
    assert host.file("/etc/tradefleet/credentials").mode == 0o700


@pytest.mark.parametrize(
    "command",
    [
        "cat /etc/tradefleet/credentials/owner_password",
        "touch /opt/tradefleet/releases/x",
        "touch /etc/x",
        "ls /home/debian",
        "test -e /dev/sda -o -e /dev/mem -o $(ls /dev | wc -l) -gt 25",
    ],
)
def test_sandbox_is_enforced(host: Host, command: str) -> None:
    """The command runs in the service's own namespaces as its user: an active unit alone is no evidence."""
    inside = f"nsenter --target {pid(host)} --mount -- setpriv --reuid tradefleet --clear-groups sh -c"
    assert host.run(f"{inside} true").rc == 0
    assert host.run(f"{inside} %s", command).rc != 0


def test_process_has_no_privileges_and_a_memory_limit(host: Host) -> None:
    """It has no capabilities, cannot gain any, and its system calls are filtered."""
    status = host.check_output(f"cat /proc/{pid(host)}/status")
    for line in ("CapEff:\t0000000000000000", "CapBnd:\t0000000000000000", "NoNewPrivs:\t1", "Seccomp:\t2"):
        assert line in status
    assert host.check_output("systemctl show -p MemoryMax --value tradefleet-api") == str(300 * 1024**2)


def test_killed_master_is_restarted(host: Host) -> None:
    """systemd restarts it, and it becomes ready."""
    before = pid(host)
    host.check_output(f"kill -9 {before}")
    host.check_output(f"for n in $(seq 60); do sleep 0.5; {CURL} -f {URL}/readyz && exit 0; done; exit 1")
    assert pid(host) != before


def test_killed_run_is_completed(host: Host) -> None:
    """A folder without its mark is created again; the process predates the link, so it is restarted.

    Exactly one other release is kept, the one that ran before, not the last staged one; another run changes nothing.
    """
    before = pid(host)
    folder = "/opt/tradefleet/releases"
    host.check_output(f"rm {folder}/0.1.0/.staged && touch {folder}/0.1.0/rest")
    host.check_output(f"mkdir {folder}/0.0.7 {folder}/0.0.8 && touch -d '1 day ago' {folder}/0.0.7")
    host.check_output(f"ln -sfn {folder}/0.0.7 /run/tradefleet/current")
    converge()
    assert host.file(f"{folder}/0.1.0/.staged").exists
    assert not host.file(f"{folder}/0.1.0/rest").exists
    assert pid(host) != before
    assert host.check_output(f"ls {folder}").split() == ["0.0.7", "0.1.0"]
    assert converge().stdout.count("changed=0 ") == 2


def test_changed_settings_restart_an_idle_host_but_not_a_live_one(host: Host) -> None:
    """Live: the file changes, but not the process. Idle: the process is new.

    The worker and the metrics listener restart even on a live host.
    """
    idle, live, worker, listener = pid(host), pid(LIVE), pid(LIVE, "worker"), pid(LIVE, "metrics")
    converge("-e", "app_threads=5", "-e", json.dumps({"app_metrics_clients": ["metrics.app1.scenario.test"]}))
    assert "threads = 5" in LIVE.file("/etc/tradefleet/gunicorn.conf.py").content_string
    assert pid(host) != idle
    assert pid(LIVE) == live
    assert pid(LIVE, "worker") != worker
    assert pid(LIVE, "metrics") not in (listener, "0")
    assert pid(host, "worker") == "0"


def test_no_release_is_replaced_in_place(host: Host) -> None:
    """This applies to other contents under the same version and, on a live host, to another version."""
    before = pid(host), pid(LIVE)
    mark = host.check_output("cat /opt/tradefleet/releases/0.1.0/.staged")
    host.check_output("printf other > /opt/tradefleet/releases/0.1.0/.staged")
    LIVE.check_output("ln -sfn /opt/tradefleet/releases/0.0.9 /opt/tradefleet/current")
    refused = converge(check=False)
    host.check_output(f"printf {mark} > /opt/tradefleet/releases/0.1.0/.staged")
    LIVE.check_output("ln -sfn /opt/tradefleet/releases/0.1.0 /opt/tradefleet/current")
    assert refused.returncode != 0
    fatal = dict(re.findall(r"^fatal: \[(\w+)\]: (.*(?:\n {4}.*)*)", refused.stdout, re.MULTILINE))
    assert "Releases never change" in " ".join(fatal["app1"].split())
    assert "never replaced in place" in " ".join(fatal["app2"].split())
    assert (pid(host), pid(LIVE)) == before
