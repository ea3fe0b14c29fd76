"""`make bench` takes half an hour and is run rarely: what it calls and looks for exists."""

import re
import subprocess

from repository import PROJECT, environment, read

BENCH = read("scripts/bench")


def test_timed_tasks_exist() -> None:
    """A renamed task would leave its row empty."""
    timed = re.findall(r"\$\(task \w+ '(\w+) : ([^']+)'\)", BENCH)
    assert timed
    for role, name in timed:
        tasks = "".join(read(path) for path in PROJECT.glob(f"roles/{role}/tasks/*.yml"))
        assert f"- name: {name}\n" in tasks


def test_called_programs_find_their_modules() -> None:
    """Bench gives them the folders of the modules that they import."""
    called = re.findall(r"PYTHONPATH=(\S+) \.venv/bin/python (\S+)\.py", BENCH)
    assert len(called) == len(re.findall(r"bin/python tests/", BENCH)) > 0
    for folders, program in called:
        module = program.rpartition("/")[2]
        own = environment(PYTHONPATH=folders)
        subprocess.run([PROJECT / ".venv/bin/python", "-c", f"import {module}"], cwd=PROJECT, env=own, check=True)


def test_duration_of_a_task_is_read_from_the_log() -> None:
    """Ansible prints it after the header of the next task."""
    [function] = re.findall(r"^task\(\) \{.*?^\}", BENCH, re.MULTILINE | re.DOTALL)
    lines = ["TASK [nginx : A] ***", "Monday (0:00:00.115)  0:00:04.471 ***", "changed: [lb1]"]
    lines += [
        "TASK [nginx : B] ***",
        "Monday (0:01:00.071)  0:00:04.542 ***",
        "TASK [nginx : C] ***",
        "Monday (0:00:09.000)",
    ]
    command = ["bash", "-euc", f'log=$(mktemp -d); cat > "$log/cutover"; {function}\ntask cutover "nginx : A"']
    done = subprocess.run(command, input="\n".join(lines), capture_output=True, text=True, check=True)
    assert float(done.stdout) == 60.071
