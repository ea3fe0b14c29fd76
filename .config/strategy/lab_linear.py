"""Mitogen's linear strategy for a controller with few cores; docs/lab.md, "Speed", lists what each part saves."""

import functools
import gc
import os
import sys
from types import CodeType
from typing import Any

import ansible.plugins.strategy
import ansible_mitogen.affinity
import ansible_mitogen.strategy
import mitogen.core
from ansible._internal import _task
from ansible._internal._templating._jinja_bits import AnsibleEnvironment, _TemplateCompileContext
from ansible.executor import task_result
from ansible.executor.process.worker import WorkerProcess
from ansible.executor.task_executor import TaskExecutor
from ansible.plugins.loader import strategy_loader
from ansible.release import __version__
from ansible_mitogen.services import ContextService
from jinja2.environment import TemplateExpression

# Mitogen reserves the first core for its connections and pins everything else that Ansible does, SSH included, to the
# others: on a machine with two cores, to one. The kernel schedules better.
ansible_mitogen.affinity.policy = ansible_mitogen.affinity.Policy()

# Elsewhere the controller is a separate machine. Here it must not disturb what measures the effect on clients. The
# playbook that creates hosts is an exception: a container keeps the priority of the process that started it.
if not any(argument.endswith("molecule/shared/create.yml") for argument in sys.argv):
    os.nice(10)

# Actions that change nothing but variables, and need no host.
ACTIONS = (
    "assert",
    "debug",
    "fail",
    "include_role",
    "include_tasks",
    "include_vars",
    "set_fact",
    "validate_argument_spec",
)
HERE = {prefix + name for prefix in ("", "ansible.builtin.", "ansible.legacy.") for name in ACTIONS}


class Worker(WorkerProcess):
    """Runs a task in a process of its own only if it needs a host: the fork costs ten times as much as the others."""

    def start(self) -> None:
        """Run the task, or start the process that runs it."""
        if not (self._is_action() or self._is_skipped()):
            super().start()
            return
        # A process would change its own copies.
        task = self._task.copy(exclude_parent=True, exclude_tasks=True)
        task._parent = self._task._parent
        with _task.TaskContext(task):
            result = TaskExecutor(
                self._host,
                task,
                self._task_vars.copy(),
                self._play_context.copy(),
                self._loader,
                self._shared_loader_obj,
                self._final_q,
                self._variable_manager,
            ).run()
        self._final_q.send_task_result(
            task_result._RawTaskResult(host=self._host, task=task, return_data=result, task_fields=task.dump_attrs())
        )

    def _is_action(self) -> bool:
        return self._task.action in HERE and not self._task.delegate_to and not self._task.until

    def _is_skipped(self) -> bool:
        if not self._task.when or self._task.loop is not None:
            return False
        try:
            with _task.TaskContext(self._task):
                return not self._task._resolve_conditional(self._task.when, self._task_vars.copy())
        except Exception:  # whatever it is, the process will report it
            return False


# Later cores (for Python 3.12 and up) run a task in another way. There, each has its process.
if __version__.startswith("2.19."):
    ansible.plugins.strategy.WorkerProcess = Worker

# Ansible compiles a template each time it needs its value: for each host, task and variable. Here a process compiles it
# once, and what the parent has compiled, all processes have.
compiled: dict[tuple[str, bool, str], CodeType] = {}
compile_template = AnsibleEnvironment.compile
compile_expression = AnsibleEnvironment.compile_expression


def key(environment: AnsibleEnvironment, kind: str, source: str) -> tuple[str, bool, str] | None:
    """Return what the code of a template depends on, or None if it depends on settings of that template alone."""
    context = _TemplateCompileContext.current(optional=True)
    return None if environment.overlayed else (kind, bool(context and context.escape_backslashes), str(source))


def compile_template_once(self: AnsibleEnvironment, source: Any, *names: Any, **options: Any) -> Any:
    """Compile a template from a string; one from a file, or a tree that has been parsed, as always."""
    known = key(self, "template", source) if isinstance(source, str) and not any(names) and not options else None
    code = compiled.get(known) if known else None
    if code is None:
        code = self.last_compiled = compile_template(self, source, *names, **options)
        if known:
            compiled[known] = code
    return code


def compile_expression_once(self: AnsibleEnvironment, source: str, undefined_to_none: bool = True) -> Any:
    """Compile a condition."""
    known = key(self, "expression", source)
    if known in compiled:
        template = self.template_class.from_code(self, compiled[known], self.make_globals(None), None)
        return TemplateExpression(template, undefined_to_none)
    expression = compile_expression(self, source, undefined_to_none)
    if known:
        compiled[known] = self.last_compiled
    return expression


AnsibleEnvironment.compile = compile_template_once
AnsibleEnvironment.compile_expression = compile_expression_once

# A task with sudo passes through the Python of the SSH user. Mitogen prepares that one for tasks as well, which is a
# third of what the connection costs. Here it does not, and a task without sudo gets a connection of its own.
connect = ContextService._connect
get_context = ContextService.get
reset = ContextService.reset


def connect_passage(self: Any, key: Any, spec: dict[str, Any], via: Any = None) -> dict[str, Any]:
    """Connect to a host or user; if it is only on the way to another user, no more."""
    if "passage" not in spec:
        answer: dict[str, Any] = connect(self, key, spec, via)
        return answer
    context = getattr(self.router, spec["method"])(via=via, unidirectional=True, **spec["kwargs"])
    mitogen.core.listen(context, "disconnect", lambda: self._on_context_disconnect(context))
    self._key_by_context[context] = key
    self._refs_by_context[context] = 0
    return {"context": context, "via": via, "init_child_result": None, "msg": None}


@functools.wraps(get_context)
def get_context_by_passages(self: Any, stack: list[dict[str, Any]]) -> Any:
    """Return the last context of a stack of connections."""
    for spec in stack[:-1]:
        spec["passage"] = True
    return get_context(self, stack)


@functools.wraps(reset)
def reset_passage_too(self: Any, stack: list[dict[str, Any]]) -> bool:
    """Close a connection, whether it is the last one or on the way to another user; return whether there was one."""
    if not stack:
        return False
    for spec in stack[:-1]:
        spec["passage"] = True
    return any([reset(self, stack), reset(self, [*stack[:-1], stack[-1] | {"passage": True}])])


ContextService._connect = connect_passage
ContextService.get = get_context_by_passages
ContextService.reset = reset_passage_too


class StrategyModule(ansible_mitogen.strategy.StrategyMixin, strategy_loader.get("linear", class_only=True)):
    """Upstream's `mitogen_linear`, with less garbage collection."""

    def run(self, *arguments: Any, **options: Any) -> Any:
        """Run a play without garbage collection of objects from before the fork, which would copy their memory."""
        gc.freeze()
        return super().run(*arguments, **options)
