"""Rules that the inputs of a playbook must fulfill before any change.

A rule is a function that yields a sentence for each mistake: the variable, the file, and what to type. Rules take a
`Fleet` and nothing else, so tests call them with dictionaries (tests/repo/test_preflight.py).
"""

from __future__ import annotations

from . import archive, credentials, groups, traffic, values
from .fleet import Fleet, Variables

__all__ = ["Fleet", "Variables", "mistakes"]

RULES = (*traffic.RULES, *credentials.RULES, *groups.RULES, *archive.RULES)


def mistakes(fleet: Fleet) -> list[str]:
    """Return a sentence for each mistake, those in single values last."""
    found = [sentence for rule in RULES for sentence in rule(fleet)]
    return found + ([] if fleet.scenario else values.mistakes(fleet))
