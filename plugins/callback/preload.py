"""Ansible callback: loads the Jinja filters and tests once for the whole run.

Ansible forks for each task on each host, skipped ones included, and a process loads all filters when it needs the first
one. What is loaded before the fork, no process loads again (docs/benchmarks.md, "second run of site.yml").
"""

from ansible.plugins.callback import CallbackBase
from ansible.plugins.loader import filter_loader, test_loader

DOCUMENTATION = r"""
name: preload
type: aggregate
short_description: Loads filters and tests before Ansible forks
description:
  - Saves the time in which each process would load them again.
"""


class CallbackModule(CallbackBase):  # type: ignore[misc]  # (Ansible has no types)
    """Loads plugins when the run begins."""

    CALLBACK_VERSION = 2.0
    CALLBACK_TYPE = "aggregate"
    CALLBACK_NAME = "preload"

    def __init__(self) -> None:
        """Load all filters and tests."""
        super().__init__()
        for loader in (filter_loader, test_loader):
            list(loader.all())
