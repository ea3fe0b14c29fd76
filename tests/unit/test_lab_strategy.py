"""Does the lab's strategy use the whole machine, with a lower priority than measurements?"""

import os

from repository import PROJECT, ansible


def test_processes_have_every_cpu_and_a_low_priority() -> None:
    """Upstream's strategy binds them all to the first CPU, with the caller's priority."""
    module = ("--module-name", "ansible.builtin.shell", "--args", "nproc; nice")
    plugins = PROJECT / ".config/strategy"
    done = ansible("ansible", "localhost", *module, ANSIBLE_STRATEGY="lab_linear", ANSIBLE_STRATEGY_PLUGINS=plugins)
    assert done.returncode == 0, done.stderr
    assert done.stdout.splitlines()[-2:] == [str(len(os.sched_getaffinity(0))), str(min(os.nice(0) + 10, 19))]
