"""Does Redis serve whom it should, over TLS only, with the settings of this scenario?"""

import uuid

import pytest
from fleet import HOSTS, TLS, as_app, ask, refusal, role, wait
from testinfra.host import Host

ADDRESSES = list(HOSTS)


def address_of(host: Host) -> str:
    """Return the address on which the host's Redis listens."""
    return str(host.check_output("hostname -I")).split()[0]


def test_one_primary_and_two_replicas() -> None:
    """Both replicas follow the one primary, and their links are up."""
    roles = {address: role(address) for address in ADDRESSES}
    primaries = [address for address in ADDRESSES if roles[address] == ["primary"]]
    assert len(primaries) == 1, roles
    assert sorted(roles.values()) == [["primary"], *[["replica", primaries[0], "connected"]] * 2]


def test_a_write_reaches_a_replica() -> None:
    """What the primary acknowledged is readable on each replica."""
    key, value = "tradefleet:test:write", uuid.uuid4().hex
    primaries = [address for address in ADDRESSES if role(address) == ["primary"]]
    as_app(primaries[0], primaries[0], "SET", key, value, "EX", "60")
    for replica in set(ADDRESSES) - set(primaries):
        # mypy cannot tell the types of a lambda's defaults
        wait(5, lambda replica=replica: as_app(replica, replica, "GET", key) == value)  # type: ignore[misc]


def test_settings_of_this_scenario_are_in_force() -> None:
    """The running servers report what group_vars say, and nothing is ever evicted."""
    for address in ADDRESSES:
        answer = ask(address, "CONFIG", "GET", "maxmemory", "maxmemory-policy", "min-replicas-max-lag").split()
        assert dict(zip(answer[::2], answer[1::2], strict=True)) == {
            "maxmemory": str(96 * 1024**2),
            "maxmemory-policy": "noeviction",
            "min-replicas-max-lag": "5",
        }


@pytest.mark.parametrize("port", [6379, 26379])
def test_plain_text_is_refused(host: Host, port: int) -> None:
    """Neither port answers a client that does not speak TLS, not even with an error."""
    plain = host.run(f"redis-cli -e -t 2 -h {address_of(host)} -p {port} PING")
    assert plain.rc != 0
    assert not plain.stdout
    assert "I/O error" in plain.stderr or "Server closed the connection" in plain.stderr or "reset" in plain.stderr


@pytest.mark.parametrize("port", [6379, 26379])
def test_nobody_gets_in_without_a_password(host: Host, port: int) -> None:
    """The default user is off: a connection without a name may not even ping."""
    anonymous = host.run(f"redis-cli {' '.join(TLS)} -h {address_of(host)} -p {port} PING")
    assert anonymous.rc != 0
    assert "NOAUTH" in anonymous.stderr


@pytest.mark.parametrize("port", [6379, 26379])
def test_another_authority_is_not_trusted(host: Host, port: int) -> None:
    """The certificate is signed by the fleet's CA and by no public one."""
    other = "--tls --cacert /etc/ssl/certs/ca-certificates.crt"
    stranger = host.run(f"redis-cli {other} -e -t 2 -h {address_of(host)} -p {port} PING")
    assert stranger.rc != 0
    assert "certificate verify failed" in stranger.stderr


def test_debians_default_instances_stay_off(host: Host) -> None:
    """The package's own plain-text instances run neither now nor after a reboot."""
    for unit in ("redis-server", "redis-sentinel"):
        assert host.run(f"systemctl is-active {unit}").stdout.strip() == "inactive"
        assert host.run(f"systemctl is-enabled {unit}").stdout.strip() == "masked"


@pytest.mark.parametrize(
    "command",
    [
        ("CONFIG", "GET", "maxmemory"),
        ("FLUSHALL",),
        ("KEYS", "*"),
        ("SCAN", "0"),
        ("GET", "other:key"),
        ("PUBLISH", "other:channel", "x"),
        ("ACL", "LIST"),
        ("SHUTDOWN", "NOSAVE"),
        ("REPLICAOF", "NO", "ONE"),
        ("EVAL", "return redis.call('get', KEYS[1])", "1", "other:key"),
        ("EVAL", "return redis.call('get', 'other:key')", "0"),
    ],
    ids=" ".join,
)
def test_application_may_do_nothing_beyond_its_keys(command: tuple[str, ...]) -> None:
    """Administration, the key space as a whole and everybody else's keys are refused."""
    assert "permission" in refusal(ADDRESSES[0], ADDRESSES[1], *command).lower()
