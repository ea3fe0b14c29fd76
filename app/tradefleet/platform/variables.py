"""Declarations of settings: fields of a frozen dataclass, each with its variable or secret, its parser and its remedy.

`settings.py` declares those of the platform, and a domain declares its own in the same way. Each setting is declared in
one place: the name of the field, the variable, the default, and the remedy at the end of the error message.
"""

import ipaddress
import logging
import os
import re
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field, fields
from pathlib import Path
from typing import Any, TypeVar

from flask import Config

PREFIX = "TRADEFLEET_"
_DECLARED = "tradefleet"

T = TypeVar("T")


class SettingsError(Exception):
    """A setting is unknown, malformed or missing; the message names the variable and the remedy."""


@dataclass(frozen=True)
class Address:
    """One end of a TCP connection: an IP address and a port."""

    host: str
    port: int


@dataclass(frozen=True)
class _Variable:
    name: str
    parse: Callable[[str], Any]
    remedy: str
    needed_by: str


@dataclass(frozen=True)
class _Secret:
    name: str
    needed_by: str


def setting(variable: str, parse: Callable[[str], Any], remedy: str, *, default: Any, needed_by: str = "") -> Any:
    """Declare a field that TRADEFLEET_<variable> sets.

    `parse` raises ValueError, OSError, KeyError or TypeError for an unusable text; `remedy` tells the operator what to
    write. `needed_by` is a field of the same dataclass that requires this variable if it has a value.
    """
    return field(default=default, metadata={_DECLARED: _Variable(variable, parse, remedy, needed_by)})


def secret(name: str, *, needed_by: str) -> Any:
    """Declare a field that the file `name` in $CREDENTIALS_DIRECTORY sets, which is read if `needed_by` has a value."""
    return field(default="", repr=False, metadata={_DECLARED: _Secret(name, needed_by)})


def names(groups: Iterable[type]) -> list[str]:
    """Return the names of the declared variables, without the prefix."""
    return list(_by_name(_declared(group, _Variable) for group in groups))


def read(groups: Iterable[type]) -> dict[type, dict[str, Any]]:
    """Return, for each dataclass, the checked values of the fields that the environment sets.

    Raises:
        SettingsError: a variable is unknown or malformed, or a variable or secret is missing.

    """
    declared = {group: _declared(group, _Variable) for group in groups}
    values = _parse(_by_name(declared.values()))
    found = {
        group: {name: values[each.name] for name, each in variables.items() if each.name in values}
        for group, variables in declared.items()
    }
    for group, chosen in found.items():
        for name, needed in declared[group].items():
            if chosen.get(needed.needed_by) and name not in chosen:
                switch = declared[group][needed.needed_by].name
                raise SettingsError(f"{PREFIX}{switch} needs {PREFIX}{needed.name}; {needed.remedy}")
        for name, wanted in _declared(group, _Secret).items():
            if chosen.get(wanted.needed_by):
                chosen[name] = _read_secret(wanted.name, PREFIX + declared[group][wanted.needed_by].name)
    return found


def _declared(group: type, kind: type[T]) -> dict[str, T]:
    declared = {each.name: each.metadata.get(_DECLARED) for each in fields(group)}
    return {name: found for name, found in declared.items() if isinstance(found, kind)}


def _by_name(groups: Iterable[dict[str, _Variable]]) -> dict[str, _Variable]:
    known: dict[str, _Variable] = {}
    for variable in (each for variables in groups for each in variables.values()):
        if known.setdefault(variable.name, variable) is not variable:
            raise ValueError(f"{PREFIX}{variable.name} is declared twice")
    return known


def _parse(known: Mapping[str, _Variable]) -> dict[str, Any]:
    raw = Config("")
    # loads=str: the default parses JSON, which would convert a name of digits to a number.
    raw.from_prefixed_env(PREFIX.removesuffix("_"), loads=str)
    values = {}
    for name, text in raw.items():
        if name not in known:
            raise SettingsError(f"{PREFIX}{name} is not a setting; known are: {', '.join(known)}")
        if not isinstance(text, str) or not text.strip():
            continue  # an empty variable counts as absent, because templates leave unused ones empty
        try:
            values[name] = known[name].parse(text.strip())
        except (ValueError, OSError, KeyError, TypeError) as error:
            raise SettingsError(f"{PREFIX}{name} is not usable ({error}); {known[name].remedy}") from error
    return values


def _read_secret(name: str, needed_by: str) -> str:
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


def addresses(text: str) -> tuple[Address, ...]:
    """Parse "ip:port,ip:port"; an IPv6 address is in brackets."""
    found = []
    for item in filter(None, (part.strip() for part in text.split(","))):
        host, _, port = item.rpartition(":")
        address = str(ipaddress.ip_address(host.removeprefix("[").removesuffix("]")))
        if not 0 < int(port) < 65536:
            raise ValueError(f"{port} is not a port")
        found.append(Address(address, int(port)))
    return tuple(found)


def digit(text: str) -> int:
    """Parse a number from 0 to 9."""
    if not re.fullmatch(r"[0-9]", text):
        raise ValueError(f"{text!r} is not a number from 0 to 9")
    return int(text)


def token(text: str) -> str:
    """Parse a text that is safe in a response header and in a connection option."""
    if not re.fullmatch(r"[A-Za-z0-9._-]{1,64}", text):
        raise ValueError(f"{text!r} is not 1 to 64 letters, digits, dots, underscores or hyphens")
    return text


def host_name(text: str) -> str:
    """Parse a DNS name."""
    if not re.fullmatch(r"[A-Za-z0-9-]{1,63}(\.[A-Za-z0-9-]{1,63})*", text) or len(text) > 253:
        raise ValueError(f"{text!r} is not a host name")
    return text


def file(text: str) -> str:
    """Parse the path of a file that exists."""
    if not Path(text).is_file():
        raise ValueError(f"{text!r} is not a file")
    return text


def level(text: str) -> str:
    """Parse the name of a log level."""
    if text.upper() not in logging.getLevelNamesMapping():
        raise ValueError(f"{text!r} is not a level")
    return text.upper()
