"""Does the lab's strategy use the whole machine, with a lower priority than measurements, and change no result?"""

import os
import re
from pathlib import Path

from repository import LAB_STRATEGY, ansible

# Every way to skip, to loop, to include and to fail, by actions that need no host and by modules; hosts differ.
HOSTS = """
all:
  hosts: {one: {number: 1}, two: {number: 2}}
  vars: {ansible_connection: local, ansible_python_interpreter: "{{ ansible_playbook_python }}"}
"""
INCLUDED = """
- debug: {msg: "{{ item }} {{ given }} {{ number }}"}
- include_tasks: nowhere.yml
  when: number == 3
"""
VARIABLES = r"""
path: "a\\b {{ fact }}"
"""
PLAYBOOK = r"""
- hosts: all
  gather_facts: false
  handlers:
    - name: Handle
      debug: {msg: "handled {{ fact }}"}
  tasks:
    - set_fact: {fact: "{{ number * 10 }}", other: "{{ fact | default('none') }}"}
    - command: echo {{ fact }}
      when: number == 2
      register: echoed
      changed_when: true
      notify: Handle
    - command: /nonexistent
      when: [fact is defined, number > 2]
      register: skipped
    - debug: {msg: "{{ echoed.stdout | default('skipped') }} {{ skipped.skip_reason }} {{ other }}"}
    - debug: {msg: "{{ item }} of {{ fact }}"}
      loop: [a, b, c]
      when: item != 'b' or number == 1
    - command: /nonexistent
      loop: []
    - include_tasks: included.yml
      loop: [x, y]
      vars: {given: "given {{ fact }}"}
      when: number == 1
    - include_vars: {file: more.yml, name: more}
    - debug: {msg: "{{ more.path }}"}
    - debug: {msg: "{{ 'a\\tb' | length }}"}
      when: "'a\\tb' | length == 3"
    - debug: {msg: "{{ lookup('template', 'length.j2') }}"}
    - debug: {msg: "{{ inventory_hostname }} {{ number }}"}
      delegate_to: two
    - set_fact: {delegated: "{{ number }}"}
      delegate_to: two
      delegate_facts: true
      when: number == 1
    - set_fact: {once: "{{ number }}"}
      run_once: true
    - debug: {msg: "{{ once }} {{ hostvars.two.delegated }} {{ hostvars.two.fact }}"}
    - debug: {msg: "{{ number }}"}
      no_log: true
    - command: "true"
      loop: [1, 2]
      loop_control: {extended: true}
      changed_when: ansible_loop.first
    - block:
        - assert: {that: number == 1, fail_msg: "not on {{ inventory_hostname }}"}
        - name: Fail
          command: "false"
      rescue:
        - debug: {msg: "{{ ansible_failed_task.name }}: {{ ansible_failed_result.msg }}"}
      always:
        - debug: {var: fact}
    - command: "true"
      when: number == 1 and nowhere.at_all
      ignore_errors: true
    - debug: {msg: never}
      when: "number =="
      ignore_errors: true
    - debug: {msg: "{{ nowhere | mandatory('it is missing') }}"}
      ignore_errors: true
    - fail: {msg: "{{ inventory_hostname }} fails"}
      when: number == 2
- hosts: all
  gather_facts: false
  tasks:
    - debug: {msg: "{{ fact }} {{ once }} {{ more.path }}"}
"""


def test_processes_have_every_cpu_and_a_low_priority() -> None:
    """Upstream's strategy binds them all to the first CPU, with the caller's priority."""
    module = ("--module-name", "ansible.builtin.shell", "--args", "nproc; nice")
    done = ansible("ansible", "localhost", *module, **LAB_STRATEGY)
    assert done.returncode == 0, done.stderr
    assert done.stdout.splitlines()[-2:] == [str(len(os.sched_getaffinity(0))), str(min(os.nice(0) + 10, 19))]


def test_hosts_are_created_with_the_callers_priority(tmp_path: Path) -> None:
    """They keep it for as long as they run."""
    playbook = tmp_path / "molecule/shared/create.yml"
    playbook.parent.mkdir(parents=True)
    tasks = "{ansible.builtin.command: nice, register: found}, {ansible.builtin.debug: {msg: '{{ found.stdout }}'}}"
    playbook.write_text(f"- {{hosts: localhost, connection: local, gather_facts: false, tasks: [{tasks}]}}\n")
    done = ansible("ansible-playbook", playbook, **LAB_STRATEGY)
    assert done.returncode == 0, done.stderr
    assert f"msg: '{os.nice(0)}'" in done.stdout


def test_results_are_those_of_the_stock_strategy(tmp_path: Path) -> None:
    """It skips tasks, and runs actions that need no host, without the process that the stock one starts for each."""
    for name, text in {"hosts": HOSTS, "included": INCLUDED, "more": VARIABLES, "play": PLAYBOOK}.items():
        (tmp_path / f"{name}.yml").write_text(text)
    # Four characters in a playbook, and three in a template file, where backslashes escape.
    (tmp_path / "length.j2").write_text(r"{{ 'a\tb' | length }}")
    stock, lab = (
        ansible("ansible-playbook", "-i", tmp_path / "hosts.yml", tmp_path / "play.yml", ANSIBLE_FORKS="1", **own)
        for own in ({}, LAB_STRATEGY)
    )
    assert without_times(lab.stdout) == without_times(stock.stdout)
    assert lab.returncode == stock.returncode == 2
    for words in ("handled 20", "c of 20", "y given 10 1", "non-zero return code", "it is missing", "10 1 a"):
        assert words in stock.stdout, stock.stdout + stock.stderr


def without_times(text: str) -> list[str]:
    """Return the lines of an output up to the table of durations, without times, process ids and random numbers."""
    lines = text.partition("TASKS RECAP")[0].splitlines()
    return [line for line in lines if not re.search(r"\d\d:\d\d:\d\d|\b(delta|start|end|pid):", line)]
