"""Redis and Sentinel: only TLS, users with minimal permissions, and secrets only where a program reads them."""

import hashlib
import re
import shlex
from typing import Any

import pytest
from inputs import INPUTS
from render import lines, render

REDIS, SENTINEL = INPUTS["redis"], INPUTS["sentinel"]
CACHE = REDIS | {"__redis_instance": "cache"}


def _digest(password: str) -> str:
    return "#" + hashlib.sha256(password.encode()).hexdigest()


def _users(text: str) -> dict[str, list[str]]:
    return {line.split()[1]: line.split()[2:] for line in text.splitlines() if line}


def test_redis_has_no_plain_text_port() -> None:
    """It persists acknowledged writes."""
    output = lines(render("redis", "redis.conf.j2", **REDIS))
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
        assert line in output
    assert not [line for line in output if line.startswith(("requirepass", "protected-mode no", "bind *"))]


@pytest.mark.parametrize(
    ("size", "meaning"),
    [
        ("2gb", 2 << 30),
        ("2GB", 2 << 30),
        ("2g", 2_000_000_000),
        ("64Mb", 64 << 20),
        ("100k", 100_000),
        (1048576, 1 << 20),
    ],
)
def test_sizes_are_parsed_as_redis_does(size: str | int, meaning: int) -> None:
    """Upper and lower case are the same; the suffix b makes the unit a power of two."""
    assert f"maxmemory {meaning}" in lines(render("redis", "redis.conf.j2", **REDIS | {"redis_maxmemory": size}))
    assert f"maxmemory {meaning}" in lines(render("redis", "redis.conf.j2", **CACHE | {"redis_cache_maxmemory": size}))


def test_kernel_kills_the_cache_before_the_state() -> None:
    """Processes without protection come before both, and before Sentinel."""
    assert "OOMScoreAdjust=-900" in lines(render("redis", "redis-server@.conf.j2", **REDIS))
    assert "OOMScoreAdjust=-500" in lines(render("redis", "redis-server@.conf.j2", **CACHE))
    assert "OOMScoreAdjust=-500" in lines(render("sentinel", "redis-sentinel@.conf.j2", **SENTINEL))


def test_first_primary_is_the_first_host_of_the_list_and_later_the_running_one() -> None:
    """The inventory decides only if no primary runs."""
    assert "replicaof 10.0.0.41 6379" in lines(render("redis", "redis.conf.j2", **REDIS))
    first = render("redis", "redis.conf.j2", **REDIS | {"ansible_host": "10.0.0.41"})
    assert "replicaof" not in first
    answer = {"stdout": '["master",1,[]]', "__redis_peer": "10.0.0.43"}
    moved = render("redis", "redis.conf.j2", **REDIS | {"__redis_roles": {"results": [answer]}})
    assert "replicaof 10.0.0.43 6379" in lines(moved)


def test_cache_evicts_and_persists_nothing() -> None:
    """Least recently used keys are evicted first, nothing is on disk, and a write needs no replica."""
    output = lines(
        render("redis", "redis.conf.j2", **CACHE | {"redis_cache_maxmemory": "64MB", "redis_cache_port": 7000})
    )
    for line in (
        "port 0",
        "tls-port 7000",
        "appendonly no",
        'save ""',
        "maxmemory-policy allkeys-lru",
        "maxmemory 67108864",
        "min-replicas-to-write 0",
        "aclfile /etc/redis/users-cache.acl",
        "dir /var/lib/redis/cache",
        "replicaof 10.0.0.41 7000",
    ):
        assert line in output


@pytest.mark.parametrize(
    ("inputs", "names", "app"),
    [
        (REDIS, {"default", "admin", "app", "backup", "replica", "sentinel"}, "redis_app_password"),
        (CACHE, {"default", "admin", "app", "replica", "sentinel"}, "redis_cache_app_password"),
    ],
    ids=["state", "cache"],
)
def test_redis_users_have_hashes_and_minimal_permissions(inputs: dict[str, Any], names: set[str], app: str) -> None:
    """The application is limited to its prefix; every user needs a password."""
    users = _users(render("redis", "users.acl.j2", **inputs))
    assert set(users) == names
    assert users["default"][0] == "off"
    for name in set(users) - {"default"}:
        password = REDIS[app if name == "app" else f"redis_{name}_password"]
        assert [right for right in users[name] if right.startswith("#")] == [_digest(password)]
        assert "nopass" not in users[name]
    assert users["app"][3:] == ["~tradefleet:*", "resetchannels", "-@all", "+get", "+set", "+client|setinfo"]
    assert [name for name in users if "+@all" in users[name]] == ["admin"]
    assert [name for name in users if {"~*", "allkeys"} & set(users[name])] == ["admin"]


def test_former_password_is_accepted_only_by_its_own_instance() -> None:
    """The application's password for the cache differs from the one for state."""
    former = {"redis_previous_passwords": {"cache_app": "old-cache", "replica": "", "admin": "old-admin"}}
    users = _users(render("redis", "users.acl.j2", **CACHE | former))
    assert users["app"][2:4] == [_digest("secret-cache-app"), _digest("old-cache")]
    assert users["admin"][2:4] == [_digest("secret-admin"), _digest("old-admin")]
    for name, rights in users.items():
        assert len([right for right in rights if right.startswith("#")]) == {"app": 2, "admin": 2, "default": 0}.get(
            name, 1
        )
    assert _digest("old-cache") not in render("redis", "users.acl.j2", **REDIS | former)
    former = {"sentinel_previous_passwords": {"app": "old-app"}}
    users = _users(render("sentinel", "users-sentinel.acl.j2", **SENTINEL | former))
    assert users["app"][2:4] == [_digest("secret-app"), _digest("old-app")]


def test_backup_gets_its_password_as_a_credential_and_keeps_the_last_files() -> None:
    """The inventory sets the schedule and the number."""
    inputs = REDIS | {"redis_backup_dir": "/srv/b", "redis_backup_kept": 5, "redis_backup_schedule": "daily"}
    program = render("redis", "redis-backup.j2", **inputs)
    assert "--user backup" in program
    assert "head --lines=-5" in program
    unit = lines(render("redis", "redis-backup.service.j2", **inputs))
    assert "LoadCredential=password:/etc/redis/backup_password" in unit
    assert "ReadWritePaths=/srv/b" in unit
    assert "OnCalendar=daily" in lines(render("redis", "redis-backup.timer.j2", **inputs))


def test_units_start_after_the_network() -> None:
    """Both listen on the host's address; a renewed certificate needs only a reload."""
    redis = lines(render("redis", "redis-server@.conf.j2", **REDIS | {"redis_io_threads": 3}))
    assert (
        "ExecStart=/usr/bin/redis-server /etc/redis/redis-state.conf --io-threads 3 --supervised systemd --daemonize no"
        in redis
    )
    assert "After=network-online.target" in redis
    assert "ExecReload=+/usr/local/sbin/redis-cli-state CONFIG SET tls-cert-file /etc/ssl/tradefleet/host.crt" in redis
    sentinel = lines(render("sentinel", "redis-sentinel@.conf.j2", **SENTINEL))
    assert "After=network-online.target" in sentinel
    assert "ExecReload=+systemctl --no-block restart %n" in sentinel


@pytest.mark.parametrize("password", ["secret-admin", "it's $HOME `id`"])
def test_clients_pass_no_password_on_a_command_line(password: str) -> None:
    """It is quoted for the shell, and passed in the environment."""
    for text in (
        render("redis", "redis-cli.j2", **REDIS | {"redis_admin_password": password}),
        render("sentinel", "sentinel-cli.j2", **SENTINEL | {"sentinel_admin_password": password}),
    ):
        assert text.startswith("#!/bin/sh\n")
        export, run = lines(text)
        assert shlex.split(export) == ["export", f"REDISCLI_AUTH={password}"]
        assert shlex.split(run)[:3] == ["exec", "redis-cli", "--tls"]
        assert password not in run


def test_sentinel_has_no_plain_text_port_and_monitors_nothing_at_first() -> None:
    """It uses TLS, also for the other Sentinels."""
    output = lines(render("sentinel", "sentinel.conf.j2", **SENTINEL))
    for line in (
        "port 0",
        "tls-port 26379",
        "tls-replication yes",
        "sentinel sentinel-user peer",
    ):
        assert line in output
    assert not [line for line in output if line.startswith(("sentinel monitor", "sentinel auth"))]


def test_sentinel_users_have_hashes_and_minimal_permissions() -> None:
    """Clients may only query."""
    users = _users(render("sentinel", "users-sentinel.acl.j2", **SENTINEL))
    assert set(users) == {"default", "admin", "app", "peer"}
    assert users["default"][0] == "off"
    assert [name for name in users if "+@all" in users[name]] == ["admin"]
    orders = re.compile(r"\+sentinel\|(set|monitor|remove|failover|reset|config)")
    assert not [right for right in users["app"] + users["peer"] if orders.fullmatch(right)]
