"""Does the lab's strategy use the whole machine, and leave it to those who measure on it?"""

import os

from repository import PROJECT, ansible


def test_a_process_has_every_cpu_after_all_others() -> None:
    """Upstream's strategy ties them all to what the first CPU leaves, with the priority of whoever started it."""
    module = ("--module-name", "ansible.builtin.shell", "--args", "nproc; nice")
    plugins = PROJECT / ".config/strategy"
    done = ansible("ansible", "localhost", *module, ANSIBLE_STRATEGY="lab_linear", ANSIBLE_STRATEGY_PLUGINS=plugins)
    assert done.returncode == 0, done.stderr
    assert done.stdout.splitlines()[-2:] == [str(len(os.sched_getaffinity(0))), str(min(os.nice(0) + 10, 19))]
