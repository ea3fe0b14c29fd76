"""Enter a host through its namespaces, in 11 ms; `podman exec` takes 130, and tests do this some thousand times."""

import re
import shlex
import subprocess
from functools import cache
from pathlib import Path
from typing import Any

from testinfra.backend.podman import PodmanBackend

# The environment of a login, not that of the user who runs the tests.
ENVIRONMENT = ("env", "-i", "HOME=/root", "PATH=/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin")

CAP_SYS_RESOURCE = 24


@cache
def _container(name: str) -> tuple[str, Path]:
    argv = ["podman", "inspect", "--format", "{{.Id}} {{.PidFile}}", name]
    output = subprocess.run(argv, check=True, capture_output=True, text=True, timeout=60).stdout.split()
    return output[0], Path(output[1])


def into(name: str) -> list[str]:
    """Return the prefix of a command that runs as root in a container; if that is down, one that fails with that error.

    Root has the capabilities of the container's root. For podman the process is not part of the container: `podman
    pause` does not stop it.
    """
    identity, pidfile = _container(name)
    try:
        process = pidfile.read_text()
        # A stopped host leaves the ID of its process behind, and another process may have that ID by now.
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
    """Run a shell command as root on a lab host, without SSH, and return its output."""
    argv = [*into(f"tf-{host}"), "sh", "-c", command]
    return subprocess.run(argv, capture_output=True, text=True, timeout=seconds, check=check).stdout


def process(host: str, unit: str) -> int:
    """Return the process ID of a unit's main process on this machine, where a signal takes a microsecond."""
    identity, _ = _container(f"tf-{host}")
    inner = on(host, f"systemctl show --property=MainPID --value {unit}").strip()
    for status in Path("/proc").glob("[0-9]*/status"):
        try:
            if (
                f"\t{inner}\n" in re.findall(r"NSpid:.*\n", status.read_text())[0]
                and identity in (status.parent / "cgroup").read_text()
            ):
                return int(status.parent.name)
        except OSError:
            continue
    raise AssertionError(f"{unit} does not run on {host}")


def oom_score_adjust(host: str, unit: str) -> int:
    """Return the OOM score adjustment of a unit's main process, where -1000 means that the kernel never kills it.

    A container without CAP_SYS_RESOURCE may not lower the value of its processes, and systemd then ignores the setting.
    The process has 0 or a value that it added itself, and the unit's setting is what counts.
    """
    output = on(host, f"systemctl show --property=MainPID,OOMScoreAdjust {unit}; grep CapEff /proc/1/status")
    setting, process = (re.search(rf"{name}=(-?\d+)", output) for name in ("OOMScoreAdjust", "MainPID"))
    capabilities = re.search(r"CapEff:\s*(\w+)", output)
    if not (setting and process and capabilities):
        raise AssertionError(output)
    found = int(on(host, f"cat /proc/{process[1]}/oom_score_adj"))
    may_be_lowered = int(capabilities[1], base=16) >> CAP_SYS_RESOURCE & 1
    return found if may_be_lowered else found + int(setting[1])


class Backend(PodmanBackend):  # type: ignore[misc]  # testinfra carries no types
    """Connection of testinfra for podman://NAME."""

    def run(self, command: str, *args: str, **_: Any) -> Any:
        """Run a command and return its result."""
        words = self.get_command(command, *args)
        result = self.run_local(f"{shlex.join(into(self.name))} /bin/sh -c %s", words)
        result.command = self.encode(words)
        return result
