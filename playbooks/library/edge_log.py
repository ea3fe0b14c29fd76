#!/usr/bin/python3
"""Ansible module: what this load balancer's logs say since a moment, of each colour and of reads that were copied."""

from __future__ import annotations

import json
import re
import time
from pathlib import Path
from typing import Any

from ansible.module_utils.basic import AnsibleModule

DOCUMENTATION = r"""
module: edge_log
short_description: Reads what each colour has answered since a moment from nginx's logs
description:
  - Changes nothing. Lines that are no JSON, and requests that no colour has answered, do not count.
  - Of what a colour has answered, C(/healthz), C(/readyz) and C(/version) do not count. The edge sends them to the
    colour that serves, whoever asks; quick as they are, a busy monitor would have the other colour look slow.
  - A read that was copied, and its copy, carry the same request id in the two logs.
options:
  log:
    description: The access log, one JSON object a line.
    type: path
    default: /var/log/nginx/access.log
  shadow_log:
    description: The log of the copies, in the same format.
    type: path
    default: /var/log/nginx/shadow.log
  since:
    description:
      - For each colour the moment, in seconds since 1970, from which on its answers count.
      - Copies count from the earliest of them on.
    type: dict
    required: true
"""
RETURN = r"""
colors:
  description: >-
    For each colour C(requests), C(errors) (5xx), C(refusals) (4xx, but neither 429, too many requests, nor 499, the
    client hung up) and C(seconds), how many requests took how long (nginx counts milliseconds).
  returned: success
  type: dict
routes:
  description: >-
    Of reads that were copied, for each route (numbers and ids in a path are one) C(live_seconds) and C(shadow_seconds),
    how long each answer took, and C(statuses), how often which pair of statuses came, as "200 500".
  returned: success
  type: dict
now:
  description: The host's clock, in seconds since 1970.
  returned: success
  type: float
"""

# What differs from request to request: numbers, UUIDs, long hexadecimal names.
IDENTIFIER = re.compile(r"/(?:\d+|[0-9a-f]{8}(?:-[0-9a-f]{4}){3}-[0-9a-f]{12}|[0-9a-f]{16,})(?=/|$)", re.IGNORECASE)

# To the colour that serves, whatever the client's (nginx.conf.j2).
PINNED = {"/healthz", "/readyz", "/version"}
# Not for the colour to answer for.
CLIENTS_DOING = {429, 499}

Entry = dict[str, Any]


def tail(path: Path, since: float) -> list[str]:
    """Return the log's last lines, as many as may be younger than `since`; the file is read from its end."""
    with path.open("rb") as log:
        size, block, text = log.seek(0, 2), 1 << 20, b""
        while size > 0:
            start = max(0, size - block)
            log.seek(start)
            text = log.read(size - start) + text
            size = start
            first = text.split(b"\n", 2)[1:2]
            try:
                if first and float(json.loads(first[0])["epoch"]) < since - 5:  # workers write theirs within a second
                    break
            except (ValueError, KeyError):
                continue
    return text.decode(errors="replace").splitlines()


def entries(lines: list[str], since: float) -> list[Entry]:
    """Return the requests since a moment that a colour has answered."""
    found = []
    for line in lines:
        try:
            entry = json.loads(line)
            if float(entry["epoch"]) >= since and entry["upstream"]:
                found.append(entry)
        except (ValueError, KeyError, TypeError):
            continue
    return found


def by_color(log: list[Entry], since: dict[str, float]) -> dict[str, Entry]:
    """Return requests, errors, refusals and seconds of each colour."""
    found: dict[str, Entry] = {color: {"requests": 0, "errors": 0, "refusals": 0, "seconds": {}} for color in since}
    for entry in log:
        color, status = entry["color"], int(entry["status"])
        if color not in since or float(entry["epoch"]) < since[color] or entry["uri"].partition("?")[0] in PINNED:
            continue
        one = found[color]
        one["requests"] += 1
        one["errors"] += status >= 500
        one["refusals"] += 400 <= status < 500 and status not in CLIENTS_DOING
        seconds = str(entry["seconds"])
        one["seconds"][seconds] = one["seconds"].get(seconds, 0) + 1
    return found


def route(uri: str) -> str:
    """Return the route of a request: its path, with every id in it as {id}."""
    return IDENTIFIER.sub("/{id}", uri.partition("?")[0])


def by_route(log: list[Entry], copies: list[Entry]) -> dict[str, Entry]:
    """Return, route by route, what is known of the requests that are in both logs."""
    originals = {entry["request_id"]: entry for entry in log}
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
        if not path.exists():
            module.fail_json(msg=f"{path} does not exist on this host: does nginx run as the role nginx sets it up?")
        both.append(entries(tail(path, first), first))
    log, copies = both
    module.exit_json(changed=False, colors=by_color(log, since), routes=by_route(log, copies), now=time.time())


if __name__ == "__main__":
    main()
