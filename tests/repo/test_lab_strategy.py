"""Does the lab's strategy use the whole machine?"""

import os

from repository import PROJECT, ansible


def test_no_process_is_tied_to_a_cpu() -> None:
    """Upstream's strategy ties them all to what the first CPU leaves."""
    module = ("--module-name", "ansible.builtin.command", "--args", "nproc")
    plugins = PROJECT / ".config/strategy"
    done = ansible("ansible", "localhost", *module, ANSIBLE_STRATEGY="lab_linear", ANSIBLE_STRATEGY_PLUGINS=plugins)
    assert done.returncode == 0, done.stderr
    assert done.stdout.splitlines()[-1] == str(len(os.sched_getaffinity(0)))
