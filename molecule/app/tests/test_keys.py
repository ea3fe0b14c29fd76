"""API keys: authentication, the delay of a revocation, and the isolation of secrets."""

import hashlib
import json
import re
import secrets
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager

import pytest
import testinfra
from locks import wait
from scenario import converge
from testinfra.host import Host

LIVE = testinfra.get_host("podman://tf-app2")
# The first uses the cache, the second PostgreSQL.
URLS = ("https://10.203.0.108:8443", "https://10.203.0.109:9443")
CURL = "curl -sS --max-time 10 --cacert /etc/ssl/tradefleet/ca.crt"
LISTED = {"trader": "molecule", "key": "molecule-molecule-molecule-molecule-1"}


def command(host: Host, arguments: str, standard_input: str = "") -> str:
    """Run the operator's command like a person who became root; return its output."""
    done = host.run(f"printf %s {standard_input} | SUDO_USER=sasha tradefleet api-key {arguments}")
    assert done.rc == 0, done.stderr
    return str(done.stdout)


def statuses(host: Host, key: str) -> list[str]:
    """Return the status of each host's response to a request with this key."""
    query = f"{CURL} -o /dev/null -w '%{{http_code}}' -H 'Authorization: Bearer {key}'"
    return [host.check_output(f"{query} {url}/v1/orders?limit=1") for url in URLS]


@pytest.fixture(name="key")
def _key(host: Host) -> Iterator[str]:
    """A new key that both hosts accept."""
    key = secrets.token_hex(32)
    assert json.loads(command(host, "add --trader another", key)) == {"changed": True}
    assert statuses(host, key) == ["200", "200"]
    yield key
    command(host, "revoke", key)


def frozen_cache(host: Host) -> None:
    """Freeze the cache, which keeps its contents but does not respond."""
    host.check_output("systemctl kill -s STOP redis-server@cache")


@pytest.mark.parametrize("before", [lambda _: None, frozen_cache], ids=["cache answers", "cache is frozen"])
def test_revoked_key_is_rejected_within_a_second_on_every_host(
    host: Host, key: str, before: Callable[[Host], None]
) -> None:
    """A stream of requests keeps the cache warm; a frozen cache may hold the key."""
    until: list[float] = []

    def poll(url: str) -> list[tuple[float, str]]:
        """Send requests repeatedly; return the start and the status of each."""
        # One connection for several requests, which would reveal keys in a host's memory.
        query = f"{CURL} -o /dev/null -w '%{{http_code}}\\n' -H 'Authorization: Bearer {key}'"
        seen = []
        while not until or time.monotonic() < until[0]:
            began = time.monotonic()
            seen += [(began, status) for status in host.run(f"{query} '{url}/v1/orders?limit=[1-3]'").stdout.split()]
        return seen

    with ThreadPoolExecutor() as pool:
        running = [pool.submit(poll, url) for url in URLS]
        time.sleep(1)
        before(host)
        revoked = json.loads(command(host, "revoke", key))
        done = time.monotonic()
        host.check_output("systemctl kill -s CONT redis-server@cache")
        until.append(done + 2.5)
        streams = [each.result() for each in running]
    assert (revoked["changed"], len(revoked["revoked"])) == (True, 1)
    for stream in streams:
        assert "200" in {status for began, status in stream if began < done - 0.5}
        assert {status for began, status in stream if began > done + 1} == {"401"}
    assert json.loads(command(host, "revoke", key)) == {"changed": False, "revoked": []}


def test_each_revocation_is_in_the_log_of_the_host(host: Host, key: str) -> None:
    """The log names the operator; the key itself is not in a log or on a command line."""
    key_id = hashlib.sha256(key.encode()).hexdigest()[:12]
    command(host, f"revoke --id {key_id}")
    log = host.check_output("journalctl --sync; journalctl -o cat -t tradefleet").splitlines()
    line = {"message": "api key revoked", "trader": "another", "key_id": key_id, "operator": "sasha"}
    assert line in [json.loads(each) for each in log]
    assert host.run(f"journalctl -o cat | grep -F {key}").rc == 1
    listed = [json.loads(each) for each in command(host, "list").splitlines()]
    assert [each["revoked_by"] for each in listed if each["id"] == key_id] == ["sasha"]


def test_key_that_the_inventory_no_longer_lists_is_revoked(host: Host, key: str) -> None:
    """The next run revokes it permanently. Other keys stay: the trader's first one, and one from the command line."""
    second = {"trader": "molecule", "key": secrets.token_hex(32)}
    both = json.dumps([LISTED, second])
    assert json.loads(command(host, "sync", f"'{both}'"))["changed"] is True
    assert statuses(host, second["key"]) == ["200", "200"]
    done = converge("--limit", "app1")
    assert '"revoked": [{"trader": "molecule"' in " ".join(done.stdout.split()).replace('\\"', '"')
    wait(lambda: statuses(host, second["key"]) == ["401", "401"], 1)
    assert statuses(host, LISTED["key"]) == ["200", "200"]
    assert statuses(host, key) == ["200", "200"]

    refused = converge("--limit", "app1", "-e", f'{{"app_api_keys": {both}}}', check=False)
    assert refused.returncode != 0
    (fatal,) = re.findall(r"^fatal: \[app1\]: (.*(?:\n {4}.*)*)", refused.stdout, re.MULTILINE)
    words = " ".join(fatal.split())
    assert "app_api_keys of the inventory was not applied" in words
    assert "entry 2 (trader molecule): this key was revoked at " in words
    assert second["key"] not in refused.stdout


@contextmanager
def held_command(host: Host) -> Iterator[str]:
    """Keep a command of the owner waiting for input; yield its process ID."""
    with ThreadPoolExecutor() as pool:
        running = pool.submit(host.run, "sleep 5 | tradefleet api-key add --trader another")
        wait(lambda: host.run("pgrep -u tradefleet-owner -f tradefleet").rc == 0, 5)
        yield host.check_output("pgrep -u tradefleet-owner -f tradefleet")
        running.result()


def main_pid(host: Host, unit: str) -> str:
    """Return the process ID of a service."""
    return str(host.check_output(f"systemctl show -p MainPID --value {unit}"))


def test_no_service_reads_the_secrets_of_another(host: Host) -> None:
    """Processes of the same user can read each other through /proc: tried from outside their sandboxes, too."""
    with held_command(host) as owner:
        processes = {
            "tradefleet-owner": (host, owner),
            "tradefleet": (host, main_pid(host, "tradefleet-api")),
            "tradefleet-worker": (LIVE, main_pid(LIVE, "tradefleet-worker")),
        }
        for user, (where, pid) in processes.items():
            assert where.check_output(f"ps -o user:32= -p {pid}").strip() == user
            read = f"cat /proc/{pid}/root/run/credentials/*/database_password"
            assert where.run(f"sh -c '{read}'").rc == 0
            for other in processes:
                done = where.run(f"setpriv --reuid {other} --regid {other} --clear-groups sh -c '{read}'")
                assert (done.rc == 0) is (other == user), f"{other} reads what {user} has"


@pytest.mark.parametrize("user", ["tradefleet", "tradefleet-owner", "tradefleet-worker"])
def test_no_user_of_the_application_reads_a_secret_on_disk(host: Host, user: str) -> None:
    """This covers the host's key and the owner's settings: systemd reads them as root."""
    for path in ("/etc/ssl/tradefleet/host.key", "/etc/tradefleet/owner.env", "/etc/tradefleet/credentials/*"):
        assert host.run(f"test -e {path.replace('*', 'owner_password')}").rc == 0
        assert host.run(f"runuser -u {user} -- sh -c 'cat {path}'").rc != 0
    assert host.check_output(f"id -nG {user}") == user


def test_commands_of_the_owner_are_sandboxed(host: Host) -> None:
    """Like the services: no capabilities, filtered system calls, no writes, and no other secrets."""
    with held_command(host) as pid:
        status = host.check_output(f"cat /proc/{pid}/status")
        for line in ("CapEff:\t0000000000000000", "CapBnd:\t0000000000000000", "NoNewPrivs:\t1", "Seccomp:\t2"):
            assert line in status
        inside = f"nsenter --target {pid} --mount -- setpriv --reuid tradefleet-owner --clear-groups sh -c"
        assert host.run(f"{inside} true").rc == 0
        for attempt in ("touch /etc/x", "ls /etc/tradefleet/credentials", "ls /home/debian"):
            assert host.run(f"{inside} %s", attempt).rc != 0
