"""What an operator can set, read once from TRADEFLEET_* variables and from files that hold the secrets."""

import ipaddress
import json
import logging
import os
import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from flask import Config


class SettingsError(Exception):
    """A setting is unknown, malformed or missing; the text names the variable and says what to do."""


@dataclass(frozen=True)
class Address:
    """One end of a TCP connection: an IP address and a port."""

    host: str
    port: int


@dataclass(frozen=True)
class Release:
    """What runs: the version and the commit it was built from."""

    release: str = "dev"
    commit: str = "unknown"


@dataclass(frozen=True)
class DatabaseSettings:
    """How to reach PostgreSQL; without hosts the application keeps its data in SQLite.

    `tls_name` is the name that the servers' certificates must carry; empty means the address that is connected to.
    """

    hosts: tuple[Address, ...] = ()
    replicas: tuple[Address, ...] = ()
    tls_name: str = ""
    name: str = "tradefleet"
    user: str = "tradefleet_app"
    ca_file: str = ""
    password: str = field(default="", repr=False)


@dataclass(frozen=True)
class RedisSettings:
    """How to reach Redis through its Sentinels; without Sentinels the application runs without Redis.

    There are two services, with the same user and a password each: what is in `service` stays until its time is up,
    and `cache_service` may forget everything at any time.
    """

    sentinels: tuple[Address, ...] = ()
    service: str = "state"
    cache_service: str = "cache"
    username: str = "app"
    sentinel_username: str = "app"
    ca_file: str = ""
    password: str = field(default="", repr=False)
    cache_password: str = field(default="", repr=False)
    sentinel_password: str = field(default="", repr=False)


@dataclass(frozen=True)
class Settings:
    """Every setting of the application, coerced and checked.

    While the file `drain_flag` exists, this host takes no requests. It is no variable: a release that does not know one
    would not start. `runtime_folder` is the service's own below /run; empty where nobody manages the process.
    """

    database: DatabaseSettings = DatabaseSettings()
    redis: RedisSettings = RedisSettings()
    release: Release = Release()
    color: str = "none"
    trusted_proxies: int = 0
    log_level: str = "INFO"
    drain_flag: Path = Path("/run/tradefleet-draining")
    runtime_folder: str = ""


def _addresses(text: str) -> tuple[Address, ...]:
    """Parse "ip:port,ip:port"; an IPv6 address stands in brackets."""
    found = []
    for item in filter(None, (part.strip() for part in text.split(","))):
        host, _, port = item.rpartition(":")
        address = str(ipaddress.ip_address(host.removeprefix("[").removesuffix("]")))
        if not 0 < int(port) < 65536:
            raise ValueError(f"{port} is not a port")
        found.append(Address(address, int(port)))
    return tuple(found)


def _count(text: str) -> int:
    if not re.fullmatch(r"[0-9]", text):
        raise ValueError(f"{text!r} is not a number from 0 to 9")
    return int(text)


def _token(text: str) -> str:
    # These values end up in response headers and in connection options.
    if not re.fullmatch(r"[A-Za-z0-9._-]{1,64}", text):
        raise ValueError(f"{text!r} is not 1 to 64 letters, digits, dots, underscores or hyphens")
    return text


def _host_name(text: str) -> str:
    if not re.fullmatch(r"[A-Za-z0-9-]{1,63}(\.[A-Za-z0-9-]{1,63})*", text) or len(text) > 253:
        raise ValueError(f"{text!r} is not a host name")
    return text


def _file(text: str) -> str:
    if not Path(text).is_file():
        raise ValueError(f"{text!r} is not a file")
    return text


def _level(text: str) -> str:
    if text.upper() not in logging.getLevelNamesMapping():
        raise ValueError(f"{text!r} is not a level")
    return text.upper()


def _manifest(text: str) -> Release:
    content = json.loads(Path(text).read_text(encoding="utf-8"))
    return Release(_token(str(content["release"])), _token(str(content["commit"])))


# name -> (how the text becomes a value, what the operator should write)
_VARIABLES: dict[str, tuple[Callable[[str], Any], str]] = {
    "DATABASE_HOSTS": (_addresses, 'write "10.0.0.1:5432,10.0.0.2:5432" with IP addresses'),
    "DATABASE_REPLICAS": (
        _addresses,
        'write "10.0.0.1:5432" with an IP address, or nothing: all reads use the primary',
    ),
    "DATABASE_TLS_NAME": (_host_name, "write the name that the servers' certificates carry, or nothing: their address"),
    "DATABASE_NAME": (_token, "name the database"),
    "DATABASE_USER": (_token, "name the database role"),
    "DATABASE_CA_FILE": (_file, "name the PEM file of the authority that signed the servers' certificates"),
    "REDIS_SENTINELS": (_addresses, 'write "10.0.0.1:26379,10.0.0.2:26379" with IP addresses'),
    "REDIS_SERVICE": (_token, "name the service that the Sentinels watch"),
    "REDIS_CACHE_SERVICE": (_token, "name the service that the Sentinels watch, whose Redis may forget everything"),
    "REDIS_USERNAME": (_token, "name the Redis user"),
    "SENTINEL_USERNAME": (_token, "name the user of the Sentinels"),
    "REDIS_CA_FILE": (_file, "name the PEM file of the authority that signed the servers' certificates"),
    "MANIFEST_FILE": (_manifest, 'name the release\'s manifest, JSON with "release" and "commit"'),
    "COLOR": (_token, "write blue, green or none"),
    "TRUSTED_PROXIES": (_count, "write how many proxies stand in front of the application, 0 to 9"),
    "LOG_LEVEL": (_level, "write DEBUG, INFO, WARNING, ERROR or CRITICAL"),
}


def _read_variables() -> dict[str, Any]:
    raw = Config("")
    # loads=str: the default reads JSON, and would make a number of a name that is all digits.
    raw.from_prefixed_env("TRADEFLEET", loads=str)
    values = {}
    for name, text in raw.items():
        if name not in _VARIABLES:
            raise SettingsError(f"TRADEFLEET_{name} is not a setting; known are: {', '.join(_VARIABLES)}")
        if not isinstance(text, str) or not text.strip():
            continue  # an empty variable is an absent one, as in a template that fills only what is used
        coerce, remedy = _VARIABLES[name]
        try:
            values[name] = coerce(text.strip())
        except (ValueError, OSError, KeyError, TypeError) as error:
            raise SettingsError(f"TRADEFLEET_{name} is not usable ({error}); {remedy}") from error
    return values


def _secret(name: str, needed_by: str) -> str:
    directory = os.environ.get("CREDENTIALS_DIRECTORY", "")
    try:
        content = Path(directory, name).read_text(encoding="utf-8").strip() if directory else ""
    except (OSError, UnicodeDecodeError) as error:
        raise SettingsError(f"the secret {name} cannot be read ({error}); give it with LoadCredential=") from error
    if not content:
        raise SettingsError(
            f"{needed_by} needs the secret {name}; put it in a file of that name in $CREDENTIALS_DIRECTORY"
        )
    return content


def _pick(values: Mapping[str, Any], **names: str) -> dict[str, Any]:
    """Return the keyword arguments for the variables that are set, so that the dataclass gives the others."""
    return {argument: values[name] for argument, name in names.items() if name in values}


def load() -> Settings:
    """Read the environment and the secrets.

    Raises:
        SettingsError: a variable is unknown or malformed, or a secret is missing.

    """
    values = _read_variables()
    for switch, needed in (("DATABASE_HOSTS", "DATABASE_CA_FILE"), ("REDIS_SENTINELS", "REDIS_CA_FILE")):
        if values.get(switch) and needed not in values:
            raise SettingsError(f"TRADEFLEET_{switch} needs TRADEFLEET_{needed}; {_VARIABLES[needed][1]}")
    database = _pick(
        values,
        hosts="DATABASE_HOSTS",
        replicas="DATABASE_REPLICAS",
        tls_name="DATABASE_TLS_NAME",
        name="DATABASE_NAME",
        user="DATABASE_USER",
        ca_file="DATABASE_CA_FILE",
    )
    if database.get("hosts"):
        database["password"] = _secret("database_password", "TRADEFLEET_DATABASE_HOSTS")
    redis = _pick(
        values,
        sentinels="REDIS_SENTINELS",
        service="REDIS_SERVICE",
        cache_service="REDIS_CACHE_SERVICE",
        username="REDIS_USERNAME",
        sentinel_username="SENTINEL_USERNAME",
        ca_file="REDIS_CA_FILE",
    )
    if redis.get("sentinels"):
        redis["password"] = _secret("redis_password", "TRADEFLEET_REDIS_SENTINELS")
        redis["cache_password"] = _secret("redis_cache_password", "TRADEFLEET_REDIS_SENTINELS")
        redis["sentinel_password"] = _secret("sentinel_password", "TRADEFLEET_REDIS_SENTINELS")
    rest = _pick(
        values, release="MANIFEST_FILE", color="COLOR", trusted_proxies="TRUSTED_PROXIES", log_level="LOG_LEVEL"
    )
    return Settings(
        database=DatabaseSettings(**database),
        redis=RedisSettings(**redis),
        # systemd's, for RuntimeDirectory=.
        runtime_folder=os.environ.get("RUNTIME_DIRECTORY", ""),
        **rest,
    )
