"""Filter: which site serves, how far the standby is behind, and what a promotion now would lose."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from datetime import UTC, datetime
from typing import Any

DOCUMENTATION = r"""
name: site_report
short_description: Renders the state of two sites
options:
  _input:
    description: >-
      What the procedure site found - the names of both sites, what the members of PostgreSQL of each report (own,
      others), and the versions that the load balancers serve.
    type: dict
    required: true
"""
EXAMPLES = r"""
- name: Show both sites
  ansible.builtin.debug:
    msg: "{{ __site_facts | site_report }}"
"""
RETURN = r"""
_value:
  description: One sentence for each fact.
  type: list
  elements: str
"""

Member = Mapping[str, Any]


def leader(members: list[Member], *roles: str) -> Member | None:
    """Return the member that leads in one of these roles."""
    return next((each for each in members if each.get("role") in roles), None)


def replayed(standby: Member, now: datetime) -> str:
    """Return the time of the last commit that a standby leader has, and how long ago that was."""
    stamp = standby.get("xlog", {}).get("replayed_timestamp")
    if not stamp:
        return "no commit yet"
    moment = datetime.fromisoformat(stamp)
    return f"{moment:%Y-%m-%d %H:%M:%S} UTC, {max(0, (now - moment).total_seconds()):.0f} s ago"


def lag(site: str, primary: Member | None, standby: Member, now: datetime) -> Iterator[str]:
    """Yield how far a standby is behind, and what its promotion would lose."""
    received = int(standby.get("xlog", {}).get("received_location") or 0)
    last = replayed(standby, now)
    if primary is None:
        yield (
            f"{site} has no primary that answers: what was committed there after {last}, is lost if this standby is "
            "promoted now."
        )
        return
    behind = max(0, int(primary.get("xlog", {}).get("location") or 0) - received)
    state = standby.get("replication_state", "not streaming")
    yield f"The standby is {state}, {behind} bytes behind; its last commit is of {last}."
    timelines = primary.get("timeline"), standby.get("timeline")
    if timelines[0] != timelines[1]:
        yield (
            f"warning: the primary is on timeline {timelines[0]}, the standby on {timelines[1]}: if that stays, "
            "replace its data (`dr_standby.yml -e overwrite=postgresql`)."
        )


def site_report(facts: Mapping[str, Any], now: datetime | None = None) -> list[str]:
    """Return one sentence for each fact."""
    now = now or datetime.now(UTC)
    serving, standing = (facts["peer"], facts["name"]) if facts["standby"] else (facts["name"], facts["peer"])
    served, stood = (facts["others"], facts["own"]) if facts["standby"] else (facts["own"], facts["others"])
    lines = [f"{serving} serves, according to sites.yml; {standing} is its standby."]
    primary, standby = leader(served, "primary"), leader(stood, "standby_leader")
    if rival := leader(stood, "primary"):
        timeline = rival.get("timeline")
        lines.append(f"warning: PostgreSQL of {standing} accepts writes, too (timeline {timeline}): `dr_standby.yml`.")
    elif standby is None:
        lines.append(f"warning: {standing} has no standby leader that answers: nothing would take over from {serving}.")
    else:
        lines += lag(serving, primary, standby, now)
    own = set(facts["addresses"])
    sites = {address: facts["name"] if address in own else facts["peer"] for address in facts["versions"]}
    for address, version in facts["versions"].items():
        lines.append(f"{sites[address]} answers clients at {address} with release {version['release']}.")
        if sites[address] != standing and facts["standby"] and version["release"] != facts["release"]:
            lines.append(
                f"warning: {standing} has release {facts['release']}: correct its traffic.yml and run site.yml there."
            )
    if len(set(sites.values())) > 1:
        lines.append("warning: both sites answer clients.")
    return lines


class FilterModule:
    """The entry point for Ansible."""

    def filters(self) -> dict[str, Callable[..., Any]]:
        """Return the filters of this file."""
        return {"site_report": site_report}
