"""The settings, read once from TRADEFLEET_* variables and from files with secrets.

These are the settings of the platform. A domain declares its own dataclass and reads it with `current`.
"""

import json
import os
from collections.abc import Collection, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, TypeVar

from flask import current_app

from tradefleet.platform import variables
from tradefleet.platform.variables import Address, SettingsError, secret, setting

__all__ = ["Address", "DatabaseSettings", "RedisSettings", "Release", "Settings", "SettingsError", "current", "load"]

_AUTHORITY = "name the PEM file of the authority that signed the servers' certificates"

T = TypeVar("T")


@dataclass(frozen=True)
class Release:
    """The running release: its version and its commit."""

    release: str = "dev"
    commit: str = "unknown"


@dataclass(frozen=True)
class DatabaseSettings:
    """Connection to PostgreSQL; without hosts the application uses SQLite.

    `tls_name` is the name that the servers' certificates must contain; empty means the address of the server.
    """

    hosts: tuple[Address, ...] = setting(
        "DATABASE_HOSTS", variables.addresses, 'write "10.0.0.1:5432,10.0.0.2:5432" with IP addresses', default=()
    )
    replicas: tuple[Address, ...] = setting(
        "DATABASE_REPLICAS",
        variables.addresses,
        'write "10.0.0.1:5432" with an IP address, or nothing: all reads use the primary',
        default=(),
    )
    tls_name: str = setting(
        "DATABASE_TLS_NAME",
        variables.host_name,
        "write the name that the servers' certificates carry, or nothing: their address",
        default="",
    )
    name: str = setting("DATABASE_NAME", variables.token, "name the database", default="tradefleet")
    user: str = setting("DATABASE_USER", variables.token, "name the database role", default="tradefleet_app")
    ca_file: str = setting("DATABASE_CA_FILE", variables.file, _AUTHORITY, default="", needed_by="hosts")
    password: str = secret("database_password", needed_by="hosts")


@dataclass(frozen=True)
class RedisSettings:
    """Connection to Redis through Sentinel; without Sentinels the application runs without Redis.

    The two services have the same user, each with its own password. Data in `service` stays until it expires;
    `cache_service` may lose everything at any time.
    """

    sentinels: tuple[Address, ...] = setting(
        "REDIS_SENTINELS", variables.addresses, 'write "10.0.0.1:26379,10.0.0.2:26379" with IP addresses', default=()
    )
    service: str = setting(
        "REDIS_SERVICE", variables.token, "name the service that the Sentinels watch", default="state"
    )
    cache_service: str = setting(
        "REDIS_CACHE_SERVICE",
        variables.token,
        "name the service that the Sentinels watch, whose Redis may forget everything",
        default="cache",
    )
    username: str = setting("REDIS_USERNAME", variables.token, "name the Redis user", default="app")
    sentinel_username: str = setting(
        "SENTINEL_USERNAME", variables.token, "name the user of the Sentinels", default="app"
    )
    ca_file: str = setting("REDIS_CA_FILE", variables.file, _AUTHORITY, default="", needed_by="sentinels")
    password: str = secret("redis_password", needed_by="sentinels")
    cache_password: str = secret("redis_cache_password", needed_by="sentinels")
    sentinel_password: str = secret("sentinel_password", needed_by="sentinels")


def _manifest(text: str) -> Release:
    content = json.loads(Path(text).read_text(encoding="utf-8"))
    return Release(variables.token(str(content["release"])), variables.token(str(content["commit"])))


@dataclass(frozen=True)
class Settings:
    """Every setting of the application, parsed and checked. `domains` contains those of domains, by their class.

    While the file `drain_flag` exists, this host rejects requests. It is not a variable, because a release without that
    variable would not start. `runtime_folder` is the service's folder below /run; empty without a service manager.
    """

    database: DatabaseSettings = DatabaseSettings()
    redis: RedisSettings = RedisSettings()
    release: Release = setting(
        "MANIFEST_FILE",
        _manifest,
        'name the release\'s manifest, JSON with "release" and "commit"',
        default=Release(),
    )
    color: str = setting("COLOR", variables.token, "write blue, green or none", default="none")
    trusted_proxies: int = setting(
        "TRUSTED_PROXIES",
        variables.digit,
        "write the number of proxies in front of the application, 0 to 9",
        default=0,
    )
    log_level: str = setting(
        "LOG_LEVEL", variables.level, "write DEBUG, INFO, WARNING, ERROR or CRITICAL", default="INFO"
    )
    drain_flag: Path = Path("/run/tradefleet-draining")
    runtime_folder: str = ""
    domains: Mapping[type, Any] = field(default_factory=dict, hash=False)

    def of(self, group: type[T]) -> T:
        """Return the settings that a domain declares as this dataclass, or its defaults if nothing was read."""
        found: T | None = self.domains.get(group)
        return group() if found is None else found


PLATFORM = (DatabaseSettings, RedisSettings, Settings)


def load(domains: Collection[type] = ()) -> Settings:
    """Read the environment and the secrets, with the settings that domains declare.

    Raises:
        SettingsError: a variable is unknown or malformed, or a secret is missing.

    """
    read = variables.read([*PLATFORM, *domains])
    return Settings(
        database=DatabaseSettings(**read[DatabaseSettings]),
        redis=RedisSettings(**read[RedisSettings]),
        # systemd sets it for RuntimeDirectory=.
        runtime_folder=os.environ.get("RUNTIME_DIRECTORY", ""),
        domains={group: group(**read[group]) for group in domains},
        **read[Settings],
    )


def current(group: type[T]) -> T:
    """Return the settings of the current application that a domain declares as this dataclass."""
    chosen: Settings = current_app.extensions["settings"]
    return chosen.of(group)
