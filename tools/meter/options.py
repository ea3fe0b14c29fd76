"""The command line of the traffic meter."""

from __future__ import annotations

import argparse
import math
import os
import shlex
import ssl
from collections.abc import Callable
from pathlib import Path

DEFAULT_TARGET = ("10.203.0.11", 443)
# Not an option, because every user of the machine can read a command line.
KEY_VARIABLE = "TRADEFLEET_API_KEY"
# Key of a trader who only reads. These reads need not wait for a write of the same trader, so replicas answer them.
READER_VARIABLE = "TRADEFLEET_READER_KEY"
BOUNDS = {
    "max-failed": "requests that failed",
    "max-failed-reads": "reads that failed",
    "max-failed-writes": "writes that failed",
    "max-gap": "seconds without any success",
    "max-lost": "acknowledged orders that are not in the database",
    "max-duplicated": "orders stored more than once",
    "min-rate": "answers per second over the whole run",
}


def parser() -> argparse.ArgumentParser:
    """Return the parser; a bound that was not given has no attribute in the parsed options."""
    meter = argparse.ArgumentParser(
        prog="python -m tools.meter",
        description="Send traffic to the trading API, count failures, compare acknowledged orders with the database.",
        epilog="Exit status: 0 all given bounds hold, 1 a bound is broken, 2 usage or set-up error.",
        allow_abbrev=False,
    )

    def add(flag: str, convert: Callable[[str], object], default: object, meaning: str) -> None:
        shown = "" if default is None else " [%(default)s]"
        meter.add_argument(flag, type=convert, default=default, help=meaning + shown)

    meter.add_argument(
        "--target",
        type=_address,
        action="append",
        help=f"address to send to, repeatable [{DEFAULT_TARGET[0]}:{DEFAULT_TARGET[1]}]",
    )
    add("--name", str, "tradefleet.test", "name for SNI, Host and the certificate")
    add("--ca", Path, Path(".lab/ca.crt"), "CA certificate to verify with")
    add("--api-key-file", Path, None, f"file with the API key, instead of {KEY_VARIABLE} in the environment")
    add("--clients", _count, 8, "concurrent clients")
    add("--rate", _positive, 60.0, "requests per second, all clients together")
    add("--duration", _positive, 30.0, "seconds of traffic")
    add("--write-share", _share, 0.3, "share of the requests that place an order")
    add("--new-connection-share", _share, 0.5, "share of the clients that open a connection for each request")
    add("--timeout", _positive, 10.0, "seconds for one request, connecting included")
    add("--max-requests", _count, 1_000_000, "hard limit on the requests sent")
    add("--json", Path, None, "file for the report as JSON")
    add("--progress", Path, None, "file for the counts so far, rewritten every second")
    meter.add_argument(
        "--database-command",
        type=_command,
        action="append",
        default=[],
        help="command that reads SQL and prints rows as psql -AtX does, one per database; the meter finds the primary",
    )
    add("--database-wait", _limit, 30.0, "seconds to wait for one primary")
    bounds = meter.add_argument_group("bounds, checked if given")
    for name, meaning in BOUNDS.items():
        bounds.add_argument(f"--{name}", type=_limit, metavar="N", default=argparse.SUPPRESS, help=meaning)
    return meter


# argparse converts a ValueError of these functions to a usage error with the option and the text.
def _address(text: str) -> tuple[str, int]:
    host, colon, port = text.rpartition(":")
    if not colon:
        host, port = text, "443"
    return host.strip("[]"), int(port)


def _command(text: str) -> list[str]:
    words = shlex.split(text)
    if not words:
        raise ValueError
    return words


def _count(text: str) -> int:
    return int(_checked(int(text), 1, math.inf))


def _positive(text: str) -> float:
    return _checked(float(text), 0.001, math.inf)


def _limit(text: str) -> float:
    return _checked(float(text), 0, math.inf)


def _share(text: str) -> float:
    return _checked(float(text), 0, 1)


def _checked(value: float, least: float, most: float) -> float:
    if not (least <= value <= most and math.isfinite(value)):
        raise ValueError
    return value


def tls_context(ca: Path) -> ssl.SSLContext:
    """Return a context that trusts only `ca`; raise ValueError if it cannot be read."""
    try:
        context = ssl.create_default_context(cafile=ca)
    except OSError as error:
        raise ValueError(f"cannot read the CA certificate {ca} (--ca): {error}") from error
    context.set_alpn_protocols(["http/1.1"])
    return context


def key_of_trader(path: Path | None) -> str:
    """Return the key in `path`, or the one in the environment; raise OSError or ValueError without a usable key."""
    key = (path.read_text() if path else os.environ.get(KEY_VARIABLE, "")).strip()
    if not key or not key.isascii() or not key.isprintable():
        raise ValueError(f"no usable API key: give --api-key-file or set {KEY_VARIABLE}")
    return key
