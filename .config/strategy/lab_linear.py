"""Mitogen's linear strategy for a controller with few cores; see docs/lab.md, «Speed», for what each part saves."""

import gc
import os
from typing import Any

import ansible_mitogen.affinity
import ansible_mitogen.strategy
from ansible.plugins.loader import filter_loader, strategy_loader, test_loader

# Mitogen keeps the first core for its connections and pins all else that Ansible does, SSH included, to the others: on
# a machine of two cores, to one. The kernel shares them out better.
ansible_mitogen.affinity.policy = ansible_mitogen.affinity.Policy()

# Elsewhere the controller is a machine of its own. Here it comes after whoever measures what clients notice of it.
os.nice(10)

# Ansible forks for each task on each host, and a process that meets its first filter loads them all. Those that are
# loaded before the fork are there.
for loader in (filter_loader, test_loader):
    list(loader.all())


class StrategyModule(ansible_mitogen.strategy.StrategyMixin, strategy_loader.get("linear", class_only=True)):
    """As upstream's `mitogen_linear`."""

    def run(self, *arguments: Any, **options: Any) -> Any:
        """Run a play; no process looks for garbage in what it has from before the fork, and copies it by looking."""
        gc.freeze()
        return super().run(*arguments, **options)
