"""Do the Sentinels agree, replace a dead primary in time, and keep what they decided through another run?"""

import json
import uuid
from collections.abc import Iterator

import pytest
from fleet import HOSTS, as_app, ask, podman, primary, refusal, role, wait
from scenario import converge

ADDRESSES = list(HOSTS)


@pytest.fixture
def scenario_settings() -> Iterator[None]:
    """Put back what a test has changed by running the playbook with other values."""
    yield
    for address in ADDRESSES:
        ask(address, "CONFIG", "SET", "maxmemory", "96MB")
        ask(address, "CONFIG", "REWRITE")
        ask(address, "SENTINEL", "SET", "state", "down-after-milliseconds", "3000", client="sentinel-cli-state")


def test_sentinels_agree() -> None:
    """All three name the primary that is one, see each other and could replace it."""
    assert len({primary(address) for address in ADDRESSES}) == 1
    assert role(primary(ADDRESSES[0])) == ["primary"]
    for address in ADDRESSES:
        answer = ask(address, "SENTINEL", "CKQUORUM", "state", client="sentinel-cli-state")
        assert answer.startswith("OK 3 usable Sentinels"), answer


def test_client_finds_the_primary_but_may_not_move_it() -> None:
    """Sentinel's user app asks and listens; it decides nothing."""
    found = as_app(ADDRESSES[0], ADDRESSES[1], "SENTINEL", "GET-MASTER-ADDR-BY-NAME", "state", sentinel=True)
    assert found.splitlines()[0] == primary(ADDRESSES[0])
    assert "NOPERM" in refusal(ADDRESSES[0], ADDRESSES[1], "SENTINEL", "FAILOVER", "state", sentinel=True)


def test_a_dead_primary_is_replaced_and_stays_replaced() -> None:
    """A killed host costs writes for at most 15 s; it comes back as a replica, and the playbook leaves it at that."""
    old = primary(ADDRESSES[0])
    survivors = [address for address in ADDRESSES if address != old]
    key, value = "tradefleet:test:failover", uuid.uuid4().hex
    as_app(survivors[0], old, "SET", key, value)
    as_app(survivors[0], old, "WAIT", "2", "1000")

    podman("kill", f"tf-{HOSTS[old]}")
    try:
        seconds = wait(15, lambda: as_app(survivors[0], primary(survivors[0]), "SET", f"{key}:after", "1") == "OK")
        print(f"first write {seconds:.1f} s after the kill")
        new = primary(survivors[0])
        assert new != old
        assert as_app(survivors[0], new, "GET", key) == value
    finally:
        podman("start", f"tf-{HOSTS[old]}")

    wait(30, lambda: role(old) == ["replica", new, "connected"])
    wait(30, lambda: {primary(address) for address in ADDRESSES} == {new})
    wait(30, lambda: as_app(old, old, "GET", f"{key}:after") == "1")

    assert converge().stdout.count("changed=0 ") == len(ADDRESSES)
    assert {primary(address) for address in ADDRESSES} == {new}
    assert role(new) == ["primary"]


@pytest.mark.usefixtures("scenario_settings")
def test_another_run_changes_settings_without_a_restart() -> None:
    """New values reach the running servers and their files; users that differ from the file are loaded again."""
    before = {address: processes(address) for address in ADDRESSES}
    ask(ADDRESSES[1], "ACL", "SETUSER", "app", "+flushall")

    converge("-e", "redis_maxmemory=80MB", "-e", "sentinel_down_after_milliseconds=2500")

    for address in ADDRESSES:
        assert ask(address, "CONFIG", "GET", "maxmemory").split()[1] == str(80 * 1024**2)
        podman("exec", f"tf-{HOSTS[address]}", "grep", "^maxmemory 80mb$", "/etc/redis/redis-state.conf")
        watched = json.loads(ask(address, "--json", "SENTINEL", "MASTER", "state", client="sentinel-cli-state"))
        assert watched["down-after-milliseconds"] == "2500"
    assert "+flushall" not in ask(ADDRESSES[1], "ACL", "LIST")
    assert before == {address: processes(address) for address in ADDRESSES}


def processes(address: str) -> str:
    """Return the process ids of a host's Redis and Sentinel."""
    units = ("redis-server@state", "redis-sentinel@state")
    return podman("exec", f"tf-{HOSTS[address]}", "systemctl", "show", "--property=MainPID", "--value", *units)
