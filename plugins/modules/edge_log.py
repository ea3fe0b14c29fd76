#!/usr/bin/python3
"""Ansible module: summarizes the logs of this load balancer for each color, and for mirrored reads."""

from __future__ import annotations

import gzip
import json
import re
import time
from collections import Counter
from collections.abc import Iterable
from pathlib import Path
from typing import Any
from urllib.parse import unquote

from ansible.module_utils.basic import AnsibleModule

DOCUMENTATION = r"""
module: edge_log
short_description: Summarizes the responses of each color since a given time, from nginx's logs
description:
  - Changes nothing. Lines that are not JSON do not count, nor do requests that no color has answered.
  - Only evidence counts, so that nobody without an API key influences the judge. Evidence is a request with a key
    that the application accepted in the same time or shortly before, whatever the response is, and a request for a
    public route. The application marks both in its responses (C(X-Guard)); the log has a class of the key (C(key)).
  - Requests for C(/healthz), C(/readyz) and C(/version) do not count. The edge sends them to the live color for all
    clients. They are fast, so a busy monitor would make the other color look slow.
  - A mirrored read and its original have the same request id in the two logs.
  - Rotated logs are read as well, compressed by gzip or not, as far back as needed.
options:
  log:
    description: The access log, one JSON object per line.
    type: path
    default: /var/log/nginx/access.log
  shadow_log:
    description: The log of the mirrored reads, in the same format.
    type: path
    default: /var/log/nginx/shadow.log
  since:
    description:
      - The time, in seconds since 1970, from which the responses of each color count.
      - Mirrored reads count from the earliest of these times.
    type: dict
    required: true
"""
RETURN = r"""
colors:
  description: >-
    For each color, of requests with an accepted key, C(requests), C(errors) (5xx), C(refusals) (4xx, except 429, too
    many requests, and 499, the client closed the connection) and C(seconds), how many requests took how long (nginx
    logs milliseconds). C(groups) has the C(requests) and C(errors) of reads and of writes among them, and of requests
    without an accepted key for each public path.
  returned: success
  type: dict
routes:
  description: >-
    For each route (paths that differ in numbers and ids only are one route), of mirrored reads that are evidence,
    C(live_seconds) and C(shadow_seconds), the time of each response, and C(statuses), how often each pair of statuses
    occurred, such as "200 500".
  returned: success
  type: dict
now:
  description: The host's clock, in seconds since 1970.
  returned: success
  type: float
"""

# Parts of a path that differ between requests: numbers, UUIDs, long hexadecimal names.
IDENTIFIER = re.compile(r"/(?:\d+|[0-9a-f]{8}(?:-[0-9a-f]{4}){3}-[0-9a-f]{12}|[0-9a-f]{16,})(?=/|$)", re.IGNORECASE)

# The edge sends these to the live color, whichever color the client has (nginx.conf.j2).
PINNED = {"/healthz", "/readyz", "/version"}
READS = {"GET", "HEAD", "OPTIONS"}
# Statuses that the client causes, not the color.
CLIENTS_DOING = {429, 499}

# A key that was accepted within this time before the first response that counts is evidence: if a color rejects every
# key, the other color has accepted the client before.
KNOWN_SECONDS = 60
# Each worker of nginx writes its lines within a second, so they are not in order.
DISORDER_SECONDS = 5
EPOCH = re.compile(rb'"epoch": ?([0-9.]+)')

Entry = dict[str, Any]


def files(path: Path) -> dict[Path, int]:
    """Return a log and its rotated files, under any name that logrotate gives them, each with its inode."""
    found = {}
    for each in path.parent.glob(f"{path.name}*"):
        try:
            found[each] = each.stat().st_ino
        except FileNotFoundError:  # renamed or compressed since it was listed
            continue
    return found


def lines(path: Path, since: float) -> Iterable[bytes]:
    """Return the lines that may be younger than `since` from a log and its rotated files."""
    while True:
        before, found = files(path), Counter[bytes]()
        try:
            # The log itself comes first: once it is truncated, its copy is complete.
            for each in sorted(before):
                # A file's time is that of its last line; only the log itself may have grown since it was listed.
                if each == path or each.stat().st_mtime >= since - DISORDER_SECONDS:
                    read = unpacked if each.suffix == ".gz" else tail
                    # While logrotate copies a log (copytruncate) or compresses it, two files contain the same lines.
                    found |= Counter(read(each, since))
        except FileNotFoundError:
            continue
        # If they were rotated while they were read, a file may have been missed under both of its names.
        if files(path) == before:
            return found.elements()


def young(line: bytes, since: float) -> bool:
    """Return whether a line may be younger than `since`; a line without a time may be."""
    found = EPOCH.search(line)
    return found is None or float(found[1]) >= since - DISORDER_SECONDS


def tail(path: Path, since: float) -> list[bytes]:
    """Return the log's last lines, as many as may be younger than `since`; the file is read from its end."""
    with path.open("rb") as log:
        size, block, text = log.seek(0, 2), 1 << 20, b""
        while size > 0:
            start = max(0, size - block)
            log.seek(start)
            text = log.read(size - start) + text
            size = start
            first = text.split(b"\n", 2)[1:2]
            if first and not young(first[0], since):
                break
    return text.splitlines()


def unpacked(path: Path, since: float) -> list[bytes]:
    """Return the lines of a compressed log that may be younger than `since`."""
    try:
        with gzip.open(path) as log:
            return [line.rstrip(b"\n") for line in log if young(line, since)]
    except EOFError:
        # It is incomplete, and until it is complete, the uncompressed file exists.
        return []


def entries(log: Iterable[bytes], since: float) -> list[Entry]:
    """Return the requests since a given time that a color has answered."""
    found = []
    for line in log:
        try:
            entry = json.loads(line.decode(errors="replace"))
            if float(entry["epoch"]) >= since and entry["upstream"]:
                found.append(entry)
        except (ValueError, KeyError, TypeError):
            continue
    return found


def path_of(entry: Entry) -> str:
    """Return the path that a request is for, as the application understands it: `/%76ersion` is `/version`."""
    return unquote(str(entry["uri"]).partition("?")[0])


def evidence(log: list[Entry]) -> tuple[list[Entry], list[Entry]]:
    """Return the requests with accepted keys, and all other requests for public routes.

    A key or a path counts if a response to it was marked as accepted or public. If the release under test has lost its
    marks, its keys or its routes, its responses count because of the marks of the other color or of the time before.
    """
    keys = {entry.get("key") for entry in log if entry.get("guard") == "key"} - {"", None}
    public = {path_of(entry) for entry in log if entry.get("guard") == "public"}
    known = [entry for entry in log if entry.get("key") in keys]
    return known, [entry for entry in log if entry.get("key") not in keys and path_of(entry) in public]


def by_color(log: list[Entry], since: dict[str, float]) -> dict[str, Entry]:
    """Return requests, errors, refusals and seconds of each color, and requests and errors of each group."""
    found: dict[str, Entry] = {
        color: {"requests": 0, "errors": 0, "refusals": 0, "seconds": {}, "groups": {}} for color in since
    }

    def group(name: str, entry: Entry) -> None:
        one = found[entry["color"]]["groups"].setdefault(name, {"requests": 0, "errors": 0})
        one["requests"] += 1
        one["errors"] += int(entry["status"]) >= 500

    def counts(entry: Entry) -> bool:
        color = entry["color"]
        return color in since and float(entry["epoch"]) >= since[color] and path_of(entry) not in PINNED

    known, others = evidence(log)
    for entry in filter(counts, known):
        one, status, seconds = found[entry["color"]], int(entry["status"]), str(entry["seconds"])
        one["requests"] += 1
        one["errors"] += status >= 500
        one["refusals"] += 400 <= status < 500 and status not in CLIENTS_DOING
        one["seconds"][seconds] = one["seconds"].get(seconds, 0) + 1
        group("reads" if entry.get("method", "GET") in READS else "writes", entry)
    for entry in filter(counts, others):
        group(f"requests for {path_of(entry)} without a valid key", entry)
    return found


def route(uri: str) -> str:
    """Return the route of a request: its path, with every id in it as {id}."""
    return IDENTIFIER.sub("/{id}", uri.partition("?")[0])


def by_route(log: list[Entry], copies: list[Entry]) -> dict[str, Entry]:
    """Return times and statuses, by route, of the requests that are evidence and in both logs."""
    originals = {entry["request_id"]: entry for group in evidence(log) for entry in group}
    found: dict[str, Entry] = {}
    for copy in copies:
        original = originals.get(copy["request_id"])
        if original:
            one = found.setdefault(route(original["uri"]), {"live_seconds": [], "shadow_seconds": [], "statuses": {}})
            one["live_seconds"].append(float(original["seconds"]))
            one["shadow_seconds"].append(float(copy["seconds"]))
            pair = f"{original['status']} {copy['status']}"
            one["statuses"][pair] = one["statuses"].get(pair, 0) + 1
    return found


def main() -> None:
    """Run as a module."""
    module = AnsibleModule(
        argument_spec={
            "log": {"type": "path", "default": "/var/log/nginx/access.log"},
            "shadow_log": {"type": "path", "default": "/var/log/nginx/shadow.log"},
            "since": {"type": "dict", "required": True},
        },
        supports_check_mode=True,
    )
    since, both = {color: float(moment) for color, moment in module.params["since"].items()}, []
    first = min(since.values())
    for name in ("log", "shadow_log"):
        path = Path(module.params[name])
        # Between two steps of a rotation only a rotated file exists.
        if not files(path):
            module.fail_json(msg=f"{path} does not exist on this host: does nginx run as the role nginx sets it up?")
        both.append(entries(lines(path, first - KNOWN_SECONDS), first - KNOWN_SECONDS))
    log, copies = both
    copies = [copy for copy in copies if float(copy["epoch"]) >= first]
    module.exit_json(changed=False, colors=by_color(log, since), routes=by_route(log, copies), now=time.time())


if __name__ == "__main__":
    main()
