"""Cost of the tests: phases, tests and tasks of a part are recorded, and a table compares them with the budget."""

import json
import os
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import pytest
from repository import PROJECT

from tools.suite import records, run, table
from tools.suite.cost import Cost, Meter

# Writes the output of molecule for two phases.
MOLECULE = """
import sys
def announce(phase, state):
    colors = f"\\x1b[36mINFO\\x1b[0m redis \\u279c \\x1b[33m{phase}\\x1b[0m: {state}\\x1b[0m"
    print(colors if phase == "create" else f"INFO     [redis > {phase}] {state}", flush=True)
for phase in ("create", "converge"):
    announce(phase, "Executing")
    announce(phase, "Executed: Successful")
announce("create", "Executed: Successful")
print("  \\u2502 fatal: [redis1]: FAILED!")
sys.exit(int(sys.argv[1]))
"""


@pytest.fixture(autouse=True)
def _folders(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(records, "LOGS", tmp_path / "log")
    monkeypatch.setattr(records, "FOLDER", tmp_path / "timing")


def test_each_phase_of_a_scenario_is_recorded() -> None:
    """The record has wall time, CPU time and idle share of each phase that molecule announces."""
    assert run.run("nothing", [sys.executable, "-c", MOLECULE, "0"]) == 0
    phases = records.everything()
    assert [row["phase"] for row in phases] == ["create", "converge"]
    assert all(row["seconds"] >= 0 and row["cpu_seconds"] >= 0 and 0 <= row["idle"] <= 1 for row in phases)


def test_cost_counts_the_processors_of_a_process_and_its_children() -> None:
    """Each uses a tenth of a second; the kernel counts in hundredths."""
    spin = "import time\nwhile time.process_time() < 0.1: pass"
    meter = Meter(os.getpid())
    end = time.process_time() + 0.1
    while time.process_time() < end:
        pass
    assert 0.07 < meter.lap().cpu_seconds < 0.3
    subprocess.run([sys.executable, "-c", spin], check=True)
    assert 0.07 < meter.lap().cpu_seconds < 0.5


def test_a_part_without_phases_is_one_row() -> None:
    """Lint and the unit tests have no phases."""
    assert run.run("nothing", ["true"]) == 0
    assert [row["phase"] for row in records.everything()] == ["run"]


def test_a_failed_part_repeats_its_faults(capsys: pytest.CaptureFixture[str]) -> None:
    """The faults are at the end of the output, and in a file until the next run."""
    assert run.run("nothing", [sys.executable, "-c", MOLECULE, "3"]) == 3
    kept = (records.LOGS / "nothing.failed").read_text()
    assert kept.splitlines()[1:] == ["fatal: [redis1]: FAILED!"]
    assert kept in capsys.readouterr().err
    run.run("nothing", ["true"])
    assert not (records.LOGS / "nothing.failed").exists()


def test_each_test_is_recorded_but_not_the_programs_that_it_runs(tmp_path: Path) -> None:
    """A test that runs pytest or Python itself gets the environment without the plugin."""
    (tmp_path / "test_it.py").write_text(
        "import os\ndef test_it():\n    assert not {'PYTHONPATH', 'SUITE_PART'} & os.environ.keys()\n"
        "    assert os.environ['PYTEST_ADDOPTS'] == '-q'\n"
    )
    own = {
        "PYTEST_ADDOPTS": "-p tools.suite.stopwatch -q",
        "PYTHONPATH": str(PROJECT),
        "SUITE_PART": "x",
        "SUITE_HOSTS": "",
    }
    script = f"import pathlib, sys; from tools.suite import records; records.FOLDER = pathlib.Path({str(tmp_path)!r})"
    command = [sys.executable, "-c", f"{script}; import pytest; sys.exit(pytest.main(['--rootdir=.', 'test_it.py']))"]
    done = subprocess.run(command, cwd=tmp_path, env=os.environ | own, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stdout + done.stderr
    assert json.loads((tmp_path / "x.jsonl").read_text())["test"] == "test_it.py::test_it"


def test_hosts_are_those_of_the_inventory() -> None:
    """The CPU time of a host counts for its scenario."""
    assert run.hosts("redis") == ["redis1", "redis2", "redis3"]
    assert run.hosts("fleet")[:2] == ["lb1", "lb2"]
    assert run.hosts("units") == []


def test_a_restarted_host_costs_no_negative_time(tmp_path: Path) -> None:
    """The counter of a restarted container begins at zero."""
    counter = tmp_path / "cpuacct.usage"
    counter.write_text("5000000000\n")
    meter = Meter(os.getpid())
    meter._counters = {"redis1": counter}
    meter.lap()
    counter.write_text("1000000000\n")
    assert 0 <= meter.lap().cpu_seconds < 0.5
    counter.write_text("3000000000\n")
    assert 2 <= meter.lap().cpu_seconds < 2.5


def test_table_compares_every_part_with_its_budget(monkeypatch: pytest.MonkeyPatch) -> None:
    """The longest part is first; a part over its budget is marked."""
    monkeypatch.setattr(table, "budgets", lambda: {"redis": 100, "fleet": 900})
    for part, seconds in (("redis", 120.0), ("fleet", 800.0)):
        records.start(part)
        records.add(part, Cost(seconds - 20, 10, 0.5), phase="converge")
        records.add(part, Cost(10, 1, 0.25), test="tests/fleet/test_2_cutover.py::test_cutover")
        records.add(part, Cost(20, 10, 0.25), phase="verify")
        (records.LOGS / f"{part}.txt").write_text(f"  │ {part} : Install | Install it ------- {seconds / 10:.2f}s\n")
    found: dict[str, Any] = table.summary()
    shown = list(table.lines(found))
    assert [part["seconds"] for part in found["parts"]] == [120, 800]
    assert [line.split()[0] for line in shown[1:7]] == ["fleet", "converge", "verify", "redis", "converge", "verify"]
    assert [line.endswith("over") for line in shown[1:7]] == [False, False, False, True, False, False]
    assert [(task["part"], task["seconds"]) for task in found["tasks"]] == [("fleet", 80), ("redis", 12)]
    assert sum("test_cutover" in line for line in shown) == 2
