"""Kinds of values, such as a port or a size, and the limits that a value has."""

from __future__ import annotations

import ipaddress
import re
import zoneinfo
from collections.abc import Callable
from typing import Any

Spec = dict[str, Any]

# The bytes that a letter means to each daemon. nginx and systemd count in 1024 only.
BINARY = {"": 1, "k": 1 << 10, "m": 1 << 20, "g": 1 << 30, "t": 1 << 40}
UNITS = {
    "nginx": {unit: BINARY[unit] for unit in ("", "k", "m", "g")},
    "systemd": BINARY,
    "postgresql": {"b": 1, **{f"{unit}b": BINARY[unit] for unit in ("k", "m", "g", "t")}},
    "redis": {"b": 1, **{unit: 1000**power for power, unit in enumerate(("", "k", "m", "g"))}}
    | {f"{unit}b": BINARY[unit] for unit in ("k", "m", "g")},
}
CLOCK = r"(\*|[0-2]?\d)(/\d+)?(,[0-2]?\d|\.\.[0-2]?\d)*:(\*|[0-5]?\d)(/\d+)?(,[0-5]?\d)*(:[0-5]?\d)?"
DAYS = r"(mon|tue|wed|thu|fri|sat|sun)([,.]+(mon|tue|wed|thu|fri|sat|sun))*"
DATE = r"(\*|\d{4})-(\*|[01]?\d)(,[01]?\d)*-(\*|[0-3]?\d)(,[0-3]?\d)*"
NAMED = "minutely|hourly|daily|weekly|monthly|quarterly|semiannually|yearly|annually"
LABEL = "[a-z0-9]([a-z0-9-]{0,61}[a-z0-9])?"
# Kind: pattern, and its description in words.
KINDS: dict[str, tuple[str, str]] = {
    "account": (r"[a-z_][a-z0-9_-]{0,30}", "the name of a Unix group"),
    "calendar": (
        rf"(?i)({NAMED}|({DAYS}( |$))?(({DATE})( |$))?({CLOCK})?)",
        "a time as in systemd's OnCalendar, such as hourly or *-*-* 03:30",
    ),
    "common_name": (r"[\w][\w .,'()-]{0,63}", "a name of 1 to 64 characters"),
    "domain": (rf"({LABEL}\.)+{LABEL}", "a domain name in lower case, such as trade.example.com"),
    "duration": (
        r"[1-9]\d*(s|sec|min|h|hour|hours|d|day|days|w|week|weeks|month|months|y|year|years)?",
        "a time span of systemd, such as 30day",
    ),
    "email": (r"([^@\s]+@[^@\s]+)?", "an e-mail address"),
    "folder": (r"([A-Za-z0-9][A-Za-z0-9_.-]{0,62})?", "the name of a folder, or empty"),
    "header": (r"[^\"\\$\r\n]*", "the text of one header, without double quotes, $ and backslashes"),
    "local_path": (r"/.*", "an absolute path"),
    "name": (r"[A-Za-z0-9][A-Za-z0-9_.-]{0,62}", "a name of letters, digits, dots, hyphens and underscores"),
    "network": ("", "an IP address or a network such as 192.0.2.0/24"),
    "package": (r"[a-z0-9][a-z0-9+.-]+", "the name of a Debian package"),
    "path": (r"/[\w./+@~-]*", "an absolute path without spaces, quotes or variables"),
    "port": ("", "a port from 1 to 65535"),
    "timezone": ("", "a time zone such as Etc/UTC"),
    "url": (r"(https://[^\s\"'\\]+)?", "a URL that begins with https://"),
    "url_path": (r"/[\w./~-]*", "a path such as /v1/instruments"),
    "nginx_size": (r"\d+[kKmMgG]?", "a size as nginx reads it, such as 16k or 8m"),
    "postgresql_size": (r"\d+(B|kB|MB|GB|TB)", "a size as PostgreSQL reads it, such as 64kB, 512MB or 4GB"),
    "redis_size": (r"(?i)\d+([kmg]b?|b)?", "a size as Redis reads it, such as 256mb or 2gb"),
    "systemd_size": (r"\d+[KMGT]?", "a size as systemd reads it, such as 512M or 4G"),
}


def size(kind: str, value: str) -> int:
    """Return the bytes that a size means to the daemon that reads it."""
    number = value.rstrip("BbKkMmGgTt")
    factor: int = UNITS[kind.removesuffix("_size")][value.removeprefix(number).lower()]
    return int(number) * factor


def _zone(value: str) -> bool:
    known = zoneinfo.available_timezones()
    return value in known if known else bool(re.fullmatch(r"[A-Za-z_]+(/[A-Za-z0-9_+-]+)*", value))


def _network(value: str) -> bool:
    try:
        ipaddress.ip_network(value)
    except ValueError:
        return False
    return True


CHECKS: dict[str, Callable[[str], bool]] = {
    "network": _network,
    "port": lambda value: value.isdecimal() and 1 <= int(value) <= 65535,
    "timezone": _zone,
}


def outside(value: Any, limit: Spec) -> str:
    """Return what a value must be, or nothing if it is within its limits; each element of a list is checked."""
    if isinstance(value, list):
        return next((f"a list, each element {found}" for element in value if (found := outside(element, limit))), "")
    kind = limit.get("kind", "")
    if kind:
        pattern, words = KINDS[kind]
        fits = CHECKS[kind](str(value)) if kind in CHECKS else re.fullmatch(pattern, str(value))
        if not fits:
            return words
    low, high = limit.get("min"), limit.get("max")
    if kind.endswith("_size"):
        number: float = size(kind, str(value))
        least, most = (None if end is None else size(kind, end) for end in (low, high))
    elif low is None and high is None:
        return ""
    else:
        number, least, most = float(value), low, high
    if (least is not None and number < least) or (most is not None and number > most):
        return f"from {low} to {high}" if None not in (low, high) else f"{low} or more"
    return ""
