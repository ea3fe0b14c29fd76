"""Ansible callback: releases the lock of the fleet when the run ends, and records the result and the reason.

A last play cannot do this, because Ansible starts no further play after a failure. A callback is called at every end
except a SIGKILL, and has the run's own inventory, variables and passwords (docs/adr/0007-lock-and-journal.md).
"""

from __future__ import annotations

import json
import os
from typing import Any

from ansible.executor.stats import AggregateStats
from ansible.executor.task_queue_manager import TaskQueueManager
from ansible.executor.task_result import CallbackTaskResult
from ansible.playbook.play import Play
from ansible.playbook.play_context import PlayContext
from ansible.plugins.callback import CallbackBase

DOCUMENTATION = r"""
name: operation
type: aggregate
short_description: Releases the lock of the fleet when a run ends
description:
  - The lock that playbooks/procedures/operation acquired, whether the run succeeded, failed or was interrupted.
"""


# Longest reason in the journal, which people read.
CHARACTERS = 300


def reason(result: CallbackTaskResult, item: dict[str, Any] | None = None) -> str:
    """Return in one line why a task, or its first failed item, failed; the message of a `no_log` task stays hidden."""
    found, where = result.result, f"{result.host.name}: {result.task.get_name()}: "
    if "censored" in found:
        said = f"{where}the message is hidden"
    else:
        # The task itself has nothing but "One or more items failed".
        found = item or found
        said = str(found.get("msg", ""))
        if found.get("stderr"):
            said += f": {found['stderr'].strip().splitlines()[-1]}"
        # Messages of these two are written for operators; that of a module needs the host and the task.
        if result.task.action.rpartition(".")[2] not in ("assert", "fail"):
            said = where + said
    said = " ".join("".join(each if each.isprintable() else " " for each in said).split())
    return said if len(said) <= CHARACTERS else said[: CHARACTERS - 1] + "…"


class CallbackModule(CallbackBase):  # type: ignore[misc]  # (Ansible has no types)
    """One run and the lock that it may have acquired."""

    CALLBACK_VERSION = 2.0
    CALLBACK_TYPE = "aggregate"
    CALLBACK_NAME = "operation"

    def __init__(self) -> None:
        """Begin without a lock."""
        super().__init__()
        self._command: list[str] | None = None
        self._reasons: dict[str, str] = {}
        self._items: dict[str, dict[str, Any]] = {}

    def set_play_context(self, play_context: PlayContext) -> None:
        """Keep the passwords that the operator has typed (-k, -K)."""
        self._passwords = {"conn_pass": play_context.password, "become_pass": play_context.become_pass}

    def v2_playbook_on_play_start(self, play: Play) -> None:
        """Keep what the play at the end needs."""
        self._manager, self._loader = play.get_variable_manager(), play.get_loader()

    def v2_runner_on_ok(self, result: CallbackTaskResult) -> None:
        """Keep the operation if this task began one."""
        # ansible-core before 2.21 has the name here, later ones a dict with the name as its key.
        registered = "__operation_begun" in (result.task.register or ())
        if not registered or not str(result.result.get("stdout", "")).startswith("{"):
            return
        program, number = result.result["cmd"][0], json.loads(result.result["stdout"])["number"]
        self._command = [program, "end", f"--number={number}"]
        self._host = result.task.delegate_to
        self._end_on_interrupt()

    def v2_runner_item_on_failed(self, result: CallbackTaskResult) -> None:
        """Keep the first item of a host's loop that failed."""
        self._items.setdefault(result.host.name, result.result)

    def v2_runner_on_failed(self, result: CallbackTaskResult, ignore_errors: bool = False) -> None:
        """Keep why a host failed: the last message, because a rescue may have failed after the first."""
        item = self._items.pop(result.host.name, None)
        if not ignore_errors:
            self._reasons.pop(result.host.name, None)
            self._reasons[result.host.name] = reason(result, item)

    def v2_runner_on_unreachable(self, result: CallbackTaskResult) -> None:
        """Keep why a host is unreachable."""
        self.v2_runner_on_failed(result)

    def _end_on_interrupt(self) -> None:
        """End the operation after a Ctrl-C, too: Ansible then calls no callback, but makes the loader clean up."""
        clean_up, process = self._loader.cleanup_all_tmp_files, os.getpid()

        def end_first() -> None:
            if os.getpid() == process:
                self._end("interrupted")
            clean_up()

        self._loader.cleanup_all_tmp_files = end_first

    def v2_playbook_on_stats(self, stats: AggregateStats) -> None:
        """Release the lock. The run failed if Ansible's exit status is a failure.

        The first failed host gives the reason, because later ones often fail as a consequence.
        """
        failed = [host for found in (stats.failures, stats.dark) for host, times in found.items() if times]
        why = [said for host, said in self._reasons.items() if host in failed]
        self._end("failed" if failed else "ok", *why[:1])

    def _end(self, result: str, why: str = "") -> None:
        if self._command is None:
            return
        command, self._command = [*self._command, f"--result={result}", f"--reason={why}"], None
        inventory = self._manager._inventory
        # The host of the lock may be outside of the run's limit.
        inventory.subset(None)
        inventory.remove_restriction()
        task: dict[str, Any] = {"name": "End | Release the lock", "ansible.builtin.command": {"argv": command}}
        play = {
            "name": "End",
            "hosts": self._host,
            "gather_facts": False,
            "become": True,
            "tags": "always",
            "tasks": [task | {"changed_when": False}],
        }
        if result == "interrupted":  # Ctrl-C ends the processes of other strategies as well.
            play["strategy"] = "ansible.builtin.linear"
        manager = TaskQueueManager(
            inventory=inventory,
            variable_manager=self._manager,
            loader=self._loader,
            passwords=self._passwords,
            stdout_callback_name="ansible.builtin.minimal",
            run_additional_callbacks=False,
        )
        try:
            if manager.run(Play.load(play, variable_manager=self._manager, loader=self._loader)) != manager.RUN_OK:
                self._display.error(
                    f"{self._host} still holds the lock for this run, unless a message above reports its release."
                )
        finally:
            manager.cleanup()
