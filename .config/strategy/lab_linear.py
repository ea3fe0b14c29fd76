"""Mitogen's linear strategy for a controller with few cores; docs/lab.md, "Speed", lists what each part saves."""

import gc
import os
import sys
from typing import Any

import ansible_mitogen.affinity
import ansible_mitogen.strategy
from ansible.plugins.loader import filter_loader, strategy_loader, test_loader

# Mitogen reserves the first core for its connections and pins everything else that Ansible does, SSH included, to the
# others: on a machine with two cores, to one. The kernel schedules better.
ansible_mitogen.affinity.policy = ansible_mitogen.affinity.Policy()

# Elsewhere the controller is a separate machine. Here it must not disturb what measures the effect on clients. The
# playbook that creates hosts is an exception: a container keeps the priority of the process that started it.
if not any(argument.endswith("molecule/shared/create.yml") for argument in sys.argv):
    os.nice(10)

# Ansible forks for each task on each host, and a process loads all filters when it needs the first one. Load them once,
# before the fork.
for loader in (filter_loader, test_loader):
    list(loader.all())


class StrategyModule(ansible_mitogen.strategy.StrategyMixin, strategy_loader.get("linear", class_only=True)):
    """Upstream's `mitogen_linear`, with less garbage collection."""

    def run(self, *arguments: Any, **options: Any) -> Any:
        """Run a play without garbage collection of objects from before the fork, which would copy their memory."""
        gc.freeze()
        return super().run(*arguments, **options)
