"""Redis and Sentinel: TLS only, users with no more than they need, secrets only where a program must read them."""

import hashlib
import re
import shlex

import pytest
from inputs import INPUTS
from render import lines, render

REDIS, SENTINEL = INPUTS["redis"], INPUTS["sentinel"]


def _users(text: str) -> dict[str, list[str]]:
    return {line.split()[1]: line.split()[2:] for line in text.splitlines() if line}


def test_redis_has_no_plain_port() -> None:
    """And keeps what it acknowledged."""
    said = lines(render("redis", "redis-state.conf.j2", **REDIS))
    for line in (
        "port 0",
        "tls-port 6379",
        "tls-replication yes",
        "bind 10.0.0.42",
        "appendonly yes",
        "maxmemory-policy noeviction",
        "min-replicas-to-write 1",
        "maxmemory 268435456",
    ):
        assert line in said
    assert not [line for line in said if line.startswith(("requirepass", "protected-mode no", "bind *"))]


def test_the_first_primary_is_the_lists_first_host_and_later_the_running_one() -> None:
    """The inventory decides only where nobody runs."""
    assert "replicaof 10.0.0.41 6379" in lines(render("redis", "redis-state.conf.j2", **REDIS))
    first = render("redis", "redis-state.conf.j2", **REDIS | {"ansible_host": "10.0.0.41"})
    assert "replicaof" not in first
    answer = {"stdout": '["master",1,[]]', "__redis_peer": "10.0.0.43"}
    moved = render("redis", "redis-state.conf.j2", **REDIS | {"__redis_roles": {"results": [answer]}})
    assert "replicaof 10.0.0.43 6379" in lines(moved)


def test_redis_users_have_hashes_and_limits() -> None:
    """The application stays below its prefix and away from what is dangerous; nobody enters without a password."""
    users = _users(render("redis", "users-state.acl.j2", **REDIS))
    assert set(users) == {"default", "admin", "app", "replica", "sentinel"}
    assert users["default"][0] == "off"
    for name in set(users) - {"default"}:
        digest = hashlib.sha256(REDIS[f"redis_{name}_password"].encode()).hexdigest()
        assert f"#{digest}" in users[name]
        assert "nopass" not in users[name]
    assert {"~tradefleet:*", "&tradefleet:*", "-@admin", "-@dangerous"} <= set(users["app"])
    assert [name for name in users if "+@all" in users[name]] == ["admin"]


def test_the_units_wait_for_the_network() -> None:
    """Both listen on the host's address; a renewed certificate is a reload."""
    redis = lines(render("redis", "redis-server@state.conf.j2", **REDIS))
    assert "After=network-online.target" in redis
    assert "ExecReload=+/usr/local/sbin/redis-cli-state CONFIG SET tls-cert-file /etc/ssl/tradefleet/host.crt" in redis
    sentinel = lines(render("sentinel", "redis-sentinel@.conf.j2", **SENTINEL))
    assert "After=network-online.target" in sentinel
    assert "ExecReload=+systemctl --no-block restart %n" in sentinel


@pytest.mark.parametrize("password", ["secret-admin", "it's $HOME `id`"])
def test_the_clients_give_the_password_to_no_command_line(password: str) -> None:
    """Quoted for the shell, in the environment."""
    for text in (
        render("redis", "redis-cli-state.j2", **REDIS | {"redis_admin_password": password}),
        render("sentinel", "sentinel-cli.j2", **SENTINEL | {"sentinel_admin_password": password}),
    ):
        assert text.startswith("#!/bin/sh\n")
        export, run = lines(text)
        assert shlex.split(export) == ["export", f"REDISCLI_AUTH={password}"]
        assert shlex.split(run)[:3] == ["exec", "redis-cli", "--tls"]
        assert password not in run


def test_sentinel_has_no_plain_port_and_watches_the_primary() -> None:
    """Whom Redis itself called primary, over TLS."""
    said = lines(render("sentinel", "sentinel.conf.j2", **SENTINEL | {"sentinel_down_after_milliseconds": 2500}))
    for line in (
        "port 0",
        "tls-port 26379",
        "tls-replication yes",
        "sentinel monitor state 10.0.0.41 6379 2",
        "sentinel down-after-milliseconds state 2500",
        "sentinel auth-user state sentinel",
        "sentinel sentinel-user peer",
    ):
        assert line in said
    assert said.count("sentinel auth-pass state secret-redis") == 1


def test_sentinel_users_have_hashes_and_limits() -> None:
    """Clients may ask, not order."""
    users = _users(render("sentinel", "users-sentinel.acl.j2", **SENTINEL))
    assert set(users) == {"default", "admin", "app", "peer"}
    assert users["default"][0] == "off"
    assert [name for name in users if "+@all" in users[name]] == ["admin"]
    orders = re.compile(r"\+sentinel\|(set|monitor|remove|failover|reset|config)")
    assert not [right for right in users["app"] + users["peer"] if orders.fullmatch(right)]
