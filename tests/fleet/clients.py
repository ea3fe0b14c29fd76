"""Clients of the lab: one that sends single requests, and the traffic meter."""

from __future__ import annotations

import hashlib
import json
import os
import shlex
import ssl
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from http.client import HTTPSConnection
from pathlib import Path
from typing import Any

import yaml
from lab import ADDRESSES, BOTH, DATA, INVENTORY, LAB, PROJECT, sql_command, wait


def secret(name: str) -> str:
    """Return a secret of the lab's vault."""
    vault = subprocess.run(
        ["ansible-vault", "view", str(INVENTORY / "group_vars/all/vault.yml")],
        cwd=PROJECT,
        capture_output=True,
        text=True,
        check=True,
    )
    return str(yaml.safe_load(vault.stdout)[name])


def api_key() -> str:
    """Return the demo trader's key."""
    return secret("vault_demo_api_key")


def reader_key() -> str:
    """Return the key of the trader who only reads, derived as in inventories/lab."""
    return hashlib.sha256(f"{api_key()} reader".encode()).hexdigest()


@dataclass(frozen=True)
class Answer:
    """A response of the platform."""

    status: int
    headers: dict[str, str]
    body: bytes

    def json(self) -> Any:
        """Return the body, parsed as JSON."""
        return json.loads(self.body)


@dataclass
class Api:
    """A client that uses one load balancer, with a new connection for each request."""

    host: str = "lb1"
    key: str = field(default_factory=api_key)

    def request(
        self, method: str, path: str, body: bytes | None = None, headers: dict[str, str] | None = None
    ) -> Answer:
        """Send a request once."""
        context = ssl.create_default_context(cafile=LAB / "ca.crt")
        connection = HTTPSConnection(ADDRESSES[self.host], 443, timeout=15, context=context)
        try:
            connection.request(
                method, path, body, {"Host": "tradefleet.test", "Authorization": f"Bearer {self.key}"} | (headers or {})
            )
            response = connection.getresponse()
            return Answer(
                response.status, {name.lower(): value for name, value in response.getheaders()}, response.read()
            )
        finally:
            connection.close()

    def order(self, key: str, **changes: object) -> Answer:
        """Place an order, a valid one unless `changes` makes it invalid."""
        order = {"symbol": "AAPL", "side": "buy", "type": "limit", "quantity": "1.5", "limit_price": "180.25"} | changes
        headers = {"Content-Type": "application/json", "Idempotency-Key": key}
        return self.request("POST", "/v1/orders", json.dumps(order).encode(), headers)


class Meter:
    """The traffic meter on both load balancers; `report` exists after the end of the `with` block."""

    def __init__(self, folder: Path) -> None:
        """Store the paths of its files."""
        self.progress = folder / "progress.json"
        self.file = folder / "report.json"
        self.report: dict[str, Any] = {}

    def state(self) -> dict[str, Any]:
        """Return the counts so far."""
        content: dict[str, Any] = json.loads(self.progress.read_text())
        return content


@contextmanager
def meter(
    folder: Path,
    rate: int = 70,
    seconds: int = 900,
    targets: tuple[str, ...] = BOTH,
    **options: str,
) -> Iterator[Meter]:
    """Send traffic to the lab during the block; afterward each acknowledged order has been looked up."""
    folder.mkdir(parents=True, exist_ok=True)
    run = Meter(folder)
    argv = [sys.executable, "-m", "tools.meter", "--ca", str(LAB / "ca.crt"), "--rate", str(rate)]
    argv += [
        "--duration",
        str(seconds),
        "--json",
        str(run.file),
        "--progress",
        str(run.progress),
        "--database-wait",
        "60",
    ]
    argv += [part for target in targets for part in ("--target", f"{target}:443")]
    argv += [part for host in DATA for part in ("--database-command", shlex.join(sql_command(host)))]
    argv += [part for name, value in options.items() for part in (f"--{name.replace('_', '-')}", value)]
    environment = os.environ | {"TRADEFLEET_API_KEY": api_key(), "TRADEFLEET_READER_KEY": reader_key()}
    run.progress.unlink(missing_ok=True)
    with subprocess.Popen(
        argv, cwd=PROJECT, env=environment, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True
    ) as process:
        try:
            wait(
                lambda: run.progress.exists() and run.progress.read_text() and run.state()["ok"] > 50,
                30,
                "the meter's traffic flows",
            )
            yield run
            time.sleep(2)  # the end of the block is measured as well
        finally:
            process.terminate()
            output = process.communicate(timeout=180)[0]
            print(output)
    run.report = json.loads(run.file.read_text())
