"""Runs the traffic meter as a command against the API of `meter_api`."""

from __future__ import annotations

import json
import os
import shlex
import ssl
import subprocess
import sys
import threading
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
from meter_api import NAME, Api, Server
from repository import PROJECT

METER = (sys.executable, "-m", "tools.meter")
TIMES = 3
PSQL = """
import pathlib, re, sys
rows, role = sys.argv[1:]
sql = sys.stdin.read()
if role.startswith("late:"):
    queried = pathlib.Path(role.removeprefix("late:"))
    role = "f" if queried.exists() else "t"
    queried.touch()
if "pg_is_in_recovery" in sql:
    print("f" if role == "silent" else role)
elif role != "silent":
    prefix = re.search(r"LIKE '(.+)%'", sql).group(1)
    print(*(row for row in pathlib.Path(rows).read_text().splitlines() if row.startswith(prefix)), sep="\\n")
    print("end-of-rows|")
"""


@dataclass
class Run:
    """A completed run of the meter."""

    status: int
    text: str
    report: dict[str, Any]


@dataclass
class Meter:
    """The meter as a command, in its own directory."""

    directory: Path
    certificate: Path
    api: Api

    @property
    def progress(self) -> Path:
        """Return the file with the counts so far."""
        return self.directory / "progress.json"

    def command(self, *options: str) -> list[str]:
        """Return the command of a fast and short run; later options override earlier ones."""
        return [
            *(*METER, "--ca", str(self.certificate)),
            *("--json", str(self.directory / "report.json"), "--progress", str(self.progress)),
            *("--rate", "250", "--max-requests", "90", "--clients", "4", "--write-share", "0.5", "--timeout", "3"),
            *(() if "--target" in options else ("--target", f"127.0.0.1:{self.api.port}")),
            *options,
        ]

    def run(self, *options: str) -> Run:
        """Run to the end; the numbers must add up in every run."""
        done = subprocess.run(
            self.command(*options),
            cwd=PROJECT,
            capture_output=True,
            text=True,
            timeout=30,
            env=environment(),
            check=False,
        )
        return self.ended(done.returncode, done.stdout, done.stderr)

    def ended(self, status: int, text: str, errors: str) -> Run:
        """Return the run with its report."""
        assert status in (0, 1), errors
        assert errors == ""
        report = json.loads((self.directory / "report.json").read_text())
        groups = report["groups"]
        for group in groups.values():
            assert group["sent"] == group["ok"] + group["failed"]
            assert group["failed"] == sum(group["failed_by_kind"].values())
        for parts in (("reads", "writes"), ("keep_alive", "new_connection")):
            assert groups["all"]["sent"] == sum(groups[part]["sent"] for part in parts)
        assert report["passed"] == (status == 0)
        progress = json.loads(self.progress.read_text())
        assert progress["state"] == "ended"
        assert {name: progress[name] for name in ("sent", "ok", "failed")}.items() <= groups["all"].items()
        return Run(status, text, report)

    def database(self, role: str = "f") -> str:
        """Return a database command; `role` is its response to "in recovery?", or its defect."""
        script = self.directory / "psql.py"
        script.write_text(PSQL)
        return shlex.join([sys.executable, str(script), str(self.api.rows), role])


def environment() -> dict[str, str]:
    """Return an environment with the API key."""
    return {**os.environ, "TRADEFLEET_API_KEY": "secret"}


@pytest.fixture(name="certificate", scope="module")
def certificate_fixture(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Create a self-signed certificate; its key is in the same folder."""
    path = tmp_path_factory.mktemp("tls") / "server.crt"
    subprocess.run(
        [
            *("openssl", "req", "-x509", "-nodes", "-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:prime256v1"),
            *("-subj", "/CN=test", "-days", "2", "-addext", f"subjectAltName=DNS:{NAME}"),
            *("-addext", "keyUsage=critical,digitalSignature,keyCertSign"),
            *("-out", str(path), "-keyout", str(path.with_suffix(".key"))),
        ],
        check=True,
        capture_output=True,
    )
    return path


@pytest.fixture(name="meter")
def meter_fixture(tmp_path: Path, certificate: Path) -> Iterator[Meter]:
    """Serve the API, and yield a meter for it."""
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(certificate, certificate.with_suffix(".key"))
    api = Api(tmp_path / "rows")
    api.rows.touch()
    with Server(api, context) as server:
        api.port = server.server_address[1]
        thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.05})
        thread.start()
        yield Meter(tmp_path, certificate, api)
        server.shutdown()
        thread.join()
