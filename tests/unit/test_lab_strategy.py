"""Does the lab's strategy use the whole machine, with a lower priority than measurements?"""

import os
from pathlib import Path

from repository import PROJECT, ansible

STRATEGY: dict[str, str | Path] = {
    "ANSIBLE_STRATEGY": "lab_linear",
    "ANSIBLE_STRATEGY_PLUGINS": PROJECT / ".config/strategy",
}


def test_processes_have_every_cpu_and_a_low_priority() -> None:
    """Upstream's strategy binds them all to the first CPU, with the caller's priority."""
    module = ("--module-name", "ansible.builtin.shell", "--args", "nproc; nice")
    done = ansible("ansible", "localhost", *module, **STRATEGY)
    assert done.returncode == 0, done.stderr
    assert done.stdout.splitlines()[-2:] == [str(len(os.sched_getaffinity(0))), str(min(os.nice(0) + 10, 19))]


def test_hosts_are_created_with_the_callers_priority(tmp_path: Path) -> None:
    """They keep it for as long as they run."""
    playbook = tmp_path / "molecule/shared/create.yml"
    playbook.parent.mkdir(parents=True)
    tasks = "{ansible.builtin.command: nice, register: found}, {ansible.builtin.debug: {msg: '{{ found.stdout }}'}}"
    playbook.write_text(f"- {{hosts: localhost, connection: local, gather_facts: false, tasks: [{tasks}]}}\n")
    done = ansible("ansible-playbook", playbook, **STRATEGY)
    assert done.returncode == 0, done.stderr
    assert f"msg: '{os.nice(0)}'" in done.stdout
