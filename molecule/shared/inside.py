"""How tests get into a host: through its namespaces, in 11 ms; `podman exec` takes 130, some thousand times."""

import re
import shlex
import subprocess
from functools import cache
from pathlib import Path
from typing import Any

from testinfra.backend.podman import PodmanBackend

# A login's, not that of whoever runs the tests.
ENVIRONMENT = ("env", "-i", "HOME=/root", "PATH=/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin")

CAP_SYS_RESOURCE = 24


@cache
def _container(name: str) -> tuple[str, Path]:
    argv = ["podman", "inspect", "--format", "{{.Id}} {{.PidFile}}", name]
    said = subprocess.run(argv, check=True, capture_output=True, text=True, timeout=60).stdout.split()
    return said[0], Path(said[1])


def into(name: str) -> list[str]:
    """Return the start of a command that runs as root in a container; where that is down, one that says so.

    Its root may do there what the host's may, and no more. For podman it is no process of the container: `podman pause`
    leaves it running.
    """
    identity, pidfile = _container(name)
    try:
        process = pidfile.read_text()
        # A host that died leaves its process' number behind, and somebody else may have that by now.
        alive = identity in Path(f"/proc/{process}/cgroup").read_text()
        status = Path(f"/proc/{process}/status").read_text()
    except OSError:
        alive = False
    if not alive:
        return ["podman", "exec", name]
    bounds = int(status.partition("CapBnd:")[2].split()[0], base=16)
    bounding_set = ",".join(["-all", *(f"+cap_{bit}" for bit in range(bounds.bit_length()) if bounds >> bit & 1)])
    enter = ["nsenter", f"--target={process}", "--mount", "--uts", "--ipc", "--net", "--pid"]
    return [*enter, "setpriv", f"--bounding-set={bounding_set}", "--inh-caps=-all", *ENVIRONMENT]


def on(host: str, command: str, check: bool = True, seconds: float = 60) -> str:
    """Run a shell command as root on one of our hosts, past SSH, and return what it prints."""
    argv = [*into(f"tf-{host}"), "sh", "-c", command]
    return subprocess.run(argv, capture_output=True, text=True, timeout=seconds, check=check).stdout


def oom_score_adjust(host: str, unit: str) -> int:
    """Return how far a unit's main process is from being the kernel's choice when memory runs out: -1000 is never.

    A container without CAP_SYS_RESOURCE may not lower what its processes have, and systemd goes on without it. There
    the process has 0 or what it added itself, and the unit's setting is what counts.
    """
    said = on(host, f"systemctl show --property=MainPID,OOMScoreAdjust {unit}; grep CapEff /proc/1/status")
    setting, process = (re.search(rf"{name}=(-?\d+)", said) for name in ("OOMScoreAdjust", "MainPID"))
    capabilities = re.search(r"CapEff:\s*(\w+)", said)
    if not (setting and process and capabilities):
        raise AssertionError(said)
    found = int(on(host, f"cat /proc/{process[1]}/oom_score_adj"))
    may_be_lowered = int(capabilities[1], base=16) >> CAP_SYS_RESOURCE & 1
    return found if may_be_lowered else found + int(setting[1])


class Backend(PodmanBackend):  # type: ignore[misc]  # testinfra carries no types
    """What testinfra calls a connection: podman://NAME."""

    def run(self, command: str, *args: str, **_: Any) -> Any:
        """Run a command and return its result."""
        words = self.get_command(command, *args)
        result = self.run_local(f"{shlex.join(into(self.name))} /bin/sh -c %s", words)
        result.command = self.encode(words)
        return result
