#!/usr/bin/python3
"""Ansible module: queries one load balancer by its address, as clients do by the platform's name."""

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
short_description: Queries one load balancer as a client does, verifying the certificate for the platform's name
description:
  - The certificate is verified for the name; ansible.builtin.uri would verify it for the address.
options:
  address:
    description: Address to connect to.
    type: str
    required: true
  port:
    description: Port to connect to.
    type: int
    default: 443
  name:
    description: Host name of the request, which the certificate must contain.
    type: str
    required: true
  path:
    description: Path of the request.
    type: str
    required: true
  body:
    description: Body of a POST, as JSON. Without one the request is a GET.
    type: dict
  headers:
    description: Headers of the request in addition to C(Host).
    type: dict
    default: {}
  ca:
    description: Certificate of the CA, as PEM. By default the CAs that this host trusts.
    type: str
    default: ""
  timeout:
    description: Seconds without a byte after which the request fails.
    type: int
    default: 5
"""
RETURN = r"""
status:
  description: Status of the response; -1 without a response.
  returned: always
  type: int
json:
  description: Body of the response.
  returned: if it is JSON
  type: dict
retry_after:
  description: Value of the header C(Retry-After).
  returned: if the response has it
  type: str
color:
  description: The color that responded, from the header C(X-Color).
  returned: if the response has it
  type: str
certificate_days:
  description: Number of whole days until the served certificate expires.
  returned: if there was a response
  type: int
"""

Answer = dict[str, Any]


def ask(params: dict[str, Any]) -> Answer:
    """Send the request and return the response."""
    name, timeout = params["name"], params["timeout"]
    context = ssl.create_default_context(cadata=params["ca"] or None)
    with socket.create_connection((params["address"], params["port"]), timeout) as plain:
        connection = http.client.HTTPSConnection(name, params["port"], timeout=timeout, context=context)
        connection.sock = served = context.wrap_socket(plain, server_hostname=name)
        days = days_left(served)
        try:
            # The header Host has no port, because the name alone identifies the platform.
            headers, body = {"Host": name, **params["headers"]}, params.get("body")
            if body is None:
                connection.request("GET", params["path"], headers=headers)
            else:
                headers["Content-Type"] = "application/json"
                connection.request("POST", params["path"], json.dumps(body), headers)
            return found(connection.getresponse()) | {"certificate_days": days}
        finally:
            connection.close()


def days_left(served: ssl.SSLSocket) -> int:
    """Return the number of whole days until the served certificate expires."""
    end = ssl.cert_time_to_seconds(str((served.getpeercert() or {})["notAfter"]))
    return int((end - time.time()) // 86400)


def found(response: http.client.HTTPResponse) -> Answer:
    """Return the parts of a response that callers use."""
    answer: Answer = {"status": response.status}
    if retry_after := response.getheader("Retry-After"):
        answer["retry_after"] = retry_after
    if color := response.getheader("X-Color"):
        answer["color"] = color
    with contextlib.suppress(ValueError):  # a page, or an empty body
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
            "body": {"type": "dict"},
            "headers": {"type": "dict", "default": {}},
            "ca": {"type": "str", "default": ""},
            "timeout": {"type": "int", "default": 5},
        },
        supports_check_mode=True,  # callers do not send a body in check mode
    )
    try:
        answer = ask(module.params)
    except (OSError, http.client.HTTPException) as error:
        module.fail_json(status=-1, msg=f"{module.params['address']} as {module.params['name']}: {error}")
    module.exit_json(changed=module.params.get("body") is not None, **answer)


if __name__ == "__main__":
    main()
