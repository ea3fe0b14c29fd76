"""Can another project use a role of the collection, without this repository's settings?"""

import os
import re
import subprocess
from pathlib import Path

from scenario import PROJECT, SCENARIO

PLAYBOOK = """
- hosts: all
  become: true
  gather_facts: false
  roles: [tradefleet.fleet.operations]
"""


def test_role_converges_by_its_full_name_in_an_empty_environment(tmp_path: Path) -> None:
    """Built, installed elsewhere and run from there, it finds the hosts as the scenario's own playbook left them."""
    environment = {"HOME": str(tmp_path), "PATH": os.environ["PATH"], "LC_ALL": "C.UTF-8"}

    def run(*argv: str | Path) -> str:
        done = subprocess.run(argv, cwd=tmp_path, env=environment, capture_output=True, text=True, check=False)
        assert done.returncode == 0, done.stdout + done.stderr
        return done.stdout

    run("ansible-galaxy", "collection", "build", f"--output-path={tmp_path}", PROJECT)
    # The dependencies are in the virtualenv.
    run(
        "ansible-galaxy", "collection", "install", "--offline", "--no-deps", *tmp_path.glob("tradefleet-fleet-*.tar.gz")
    )
    (tmp_path / "playbook.yml").write_text(PLAYBOOK)
    inventories = [f"--inventory={path}" for path in (PROJECT / "molecule/shared/inventory", SCENARIO / "inventory")]
    # The shared inventory reads the lab's folder from molecule's environment, which this one does not have.
    lab = f"--extra-vars=lab_dir={PROJECT / '.lab'}"
    recap = run("ansible-playbook", *inventories, lab, "playbook.yml").split("PLAY RECAP")[1]
    assert re.findall(r"^(\S+) .*changed=(\d+) .*failed=0", recap, re.MULTILINE) == [
        ("operations1", "0"),
        ("operations2", "0"),
    ]
