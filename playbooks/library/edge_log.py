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
    description: Seconds since 1970. Earlier requests do not count.
    type: float
    required: true
  colors:
    description: Colours that are always in the result.
    type: list
    elements: str
    required: true
"""
RETURN = r"""
colors:
  description: For each colour C(requests), C(errors) (5xx) and C(seconds), how long each request took.
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


def by_color(log: list[Entry], colors: list[str]) -> dict[str, Entry]:
    """Return requests, errors and seconds of each colour."""
    found: dict[str, Entry] = {color: {"requests": 0, "errors": 0, "seconds": []} for color in colors}
    for entry in log:
        if entry["color"] in found:
            one = found[entry["color"]]
            one["requests"] += 1
            one["errors"] += int(entry["status"]) >= 500
            one["seconds"].append(float(entry["seconds"]))
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
            "since": {"type": "float", "required": True},
            "colors": {"type": "list", "elements": "str", "required": True},
        },
        supports_check_mode=True,
    )
    since, both = module.params["since"], []
    for name in ("log", "shadow_log"):
        path = Path(module.params[name])
        if not path.exists():
            module.fail_json(msg=f"{path} does not exist on this host: does nginx run as the role nginx sets it up?")
        both.append(entries(tail(path, since), since))
    log, copies = both
    colors = by_color(log, module.params["colors"])
    module.exit_json(changed=False, colors=colors, routes=by_route(log, copies), now=time.time())


if __name__ == "__main__":
    main()
