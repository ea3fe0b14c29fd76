#!/usr/bin/python3
"""Ansible module: what one load balancer answers to clients, who know it by a name and not by its address."""

from __future__ import annotations

import contextlib
import http.client
import json
import socket
import ssl
import time
from typing import Any

from ansible.module_utils.basic import AnsibleModule

DOCUMENTATION = r"""
module: edge_ask
short_description: Asks one load balancer as a client does, whose certificate carries the platform's name and no address
description:
  - Changes nothing. The certificate is verified, for the name; ansible.builtin.uri would verify it for the address.
options:
  address:
    description: Where to connect to.
    type: str
    required: true
  port:
    description: At which port.
    type: int
    default: 443
  name:
    description: Whom to ask for, and what the certificate must be for.
    type: str
    required: true
  path:
    description: What to ask for.
    type: str
    required: true
  headers:
    description: What the request carries beside C(Host).
    type: dict
    default: {}
  ca:
    description: Certificate of the CA, as PEM; without one those are believed that this host trusts.
    type: str
    default: ""
  timeout:
    description: Seconds without a byte.
    type: int
    default: 5
"""
RETURN = r"""
status:
  description: The answer's status; -1 if there was none.
  returned: always
  type: int
json:
  description: The answer's body, if it is JSON.
  returned: when it is
  type: dict
retry_after:
  description: That header.
  returned: when it came
  type: str
color:
  description: The colour that answered, as its header C(X-Color) says.
  returned: when one did
  type: str
certificate_days:
  description: For how many whole days the certificate that was served is valid yet.
  returned: when there was an answer
  type: int
"""

Answer = dict[str, Any]


def ask(params: dict[str, Any]) -> Answer:
    """Return the answer."""
    name, timeout = params["name"], params["timeout"]
    context = ssl.create_default_context(cadata=params["ca"] or None)
    with socket.create_connection((params["address"], params["port"]), timeout) as plain:
        connection = http.client.HTTPSConnection(name, params["port"], timeout=timeout, context=context)
        connection.sock = served = context.wrap_socket(plain, server_hostname=name)
        days = days_left(served)
        try:
            # The port is no part of whom the request is for.
            connection.request("GET", params["path"], headers={"Host": name, **params["headers"]})
            return found(connection.getresponse()) | {"certificate_days": days}
        finally:
            connection.close()


def days_left(served: ssl.SSLSocket) -> int:
    """Return for how many days the other side's certificate is valid yet."""
    end = ssl.cert_time_to_seconds(str((served.getpeercert() or {})["notAfter"]))
    return int((end - time.time()) // 86400)


def found(response: http.client.HTTPResponse) -> Answer:
    """Return what is of use in a response."""
    answer: Answer = {"status": response.status}
    if retry_after := response.getheader("Retry-After"):
        answer["retry_after"] = retry_after
    if color := response.getheader("X-Color"):
        answer["color"] = color
    with contextlib.suppress(ValueError):  # a page, or nothing
        answer["json"] = json.loads(response.read())
    return answer


def main() -> None:
    """Run as a module."""
    module = AnsibleModule(
        argument_spec={
            "address": {"type": "str", "required": True},
            "port": {"type": "int", "default": 443},
            "name": {"type": "str", "required": True},
            "path": {"type": "str", "required": True},
            "headers": {"type": "dict", "default": {}},
            "ca": {"type": "str", "default": ""},
            "timeout": {"type": "int", "default": 5},
        },
        supports_check_mode=True,
    )
    try:
        answer = ask(module.params)
    except (OSError, http.client.HTTPException) as error:
        module.fail_json(status=-1, msg=f"{module.params['address']} as {module.params['name']}: {error}")
    module.exit_json(changed=False, **answer)


if __name__ == "__main__":
    main()
