"""Every part of `make test` has a time budget, and all budgets together fit the limit."""

import re

from repository import PROJECT, read

from tools.suite.table import budgets

ALONE = {"lint", "fleet"}
LANES = 3  # of the others, which wait for a fifth of their time
MINUTES = 45


def test_every_part_has_a_budget() -> None:
    """The scenarios that the Makefile leaves out have none."""
    left_out = re.search(r"filter-out fleet (.*?) \$\(SHORT\)", read("Makefile"))
    assert left_out
    scenarios = {path.parent.name for path in PROJECT.glob("molecule/*/molecule.yml")}
    assert budgets().keys() == {"lint", "units", "fleet-hosts"} | scenarios - set(left_out[1].split())


def test_all_parts_fit() -> None:
    """Several parts run at a time, and then the fleet alone."""
    seconds = sum(budget if part in ALONE else budget / LANES for part, budget in budgets().items())
    assert seconds <= 60 * MINUTES, (
        f"the budgets come to {seconds / 60:.0f} minutes: make a part of tests/budgets.yml cheaper"
    )
