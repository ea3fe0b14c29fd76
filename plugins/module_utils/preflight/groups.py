"""Rules about groups and hosts: their number, and what excludes what."""

from __future__ import annotations

import re
from collections.abc import Iterator

from .fleet import Fleet, listed, number

# In milliseconds. An election takes up to twice this time, and must end within four fifths of the time for which
# Patroni waits for etcd, the plan's retry_timeout.
LONGEST_ELECTIONS = {"fast": 2000, "normal": 4000, "wide": 6000}
NEEDED = ("edge", "etcd", "postgres", "redis")


def one_color(fleet: Fleet) -> Iterator[str]:
    """A host has one color."""
    both = [host for host in fleet.of("app_blue") if host in fleet.of("app_green")]
    if both:
        yield (
            f"{listed(both)} belongs to app_blue and to app_green. A host has one color: take it out of one group in "
            f"{fleet.inventory}/hosts.yml."
        )


def addresses(fleet: Fleet) -> Iterator[str]:
    """Each host has its own address, and no host has the virtual IP."""
    found = list(filter(None, map(fleet.address, fleet.of("all"))))
    if len(set(found)) < len(found):
        yield f"Two hosts share an address ({listed(found)}). Correct ansible_host in {fleet.inventory}/hosts.yml."
    if not re.fullmatch(r"([0-9]+\.){3}[0-9]+", str(fleet.vip)) or fleet.vip in found:
        yield (
            f'fleet_vip is "{fleet.vip}"; it must be an IPv4 address of the load balancers\' network that no host has. '
            f"Correct it in {fleet.variables}/fleet.yml."
        )


def members(fleet: Fleet) -> Iterator[str]:
    """Each group has as many hosts as it needs; a site that may fail with any of its hosts needs one of each."""
    where = f"{fleet.inventory}/hosts.yml"
    edge, etcd, postgres, redis = (len(fleet.of(group)) for group in NEEDED)
    if edge < 2 and fleet.redundant:
        yield (f"An address can only move between two: group edge needs two hosts or more (have {edge}) in {where}.")
    if not all((edge, etcd, postgres, redis)):
        yield f"Each of the groups edge, etcd, postgres and redis needs a host in {where}."
    if etcd % 2 == 0 or (redis < 3 and fleet.redundant):
        yield (
            f"A quorum needs an odd number of etcd hosts (have {etcd}) and at least three redis hosts (have {redis}). "
            "A host that only has a replica of PostgreSQL is in group postgres and not in group etcd."
        )
    if postgres < 2 and fleet.redundant:
        yield f"A commit waits for a second host: group postgres needs two or more (have {postgres})."
    retired = [host for host in fleet.of("postgres_retired") if host in fleet.of("postgres")]
    if retired:
        yield (f"{listed(retired)} cannot be in postgres and in postgres_retired. Take it out of one group in {where}.")


def failover_plan(fleet: Fleet) -> Iterator[str]:
    """All members of PostgreSQL have one plan, and an election of etcd is over before a primary gives up."""
    plans = list(dict.fromkeys(map(str, fleet.values("postgres", "postgresql_failover_plan", "fast"))))
    if len(plans) > 1 or set(plans) - LONGEST_ELECTIONS.keys():
        yield (
            f'postgresql_failover_plan is "{listed(plans)}"; it must be fast, normal or wide, the same for all '
            f"members. Correct it in {fleet.variables.parent}/postgres/."
        )
    election = max(map(number, fleet.values("etcd", "etcd_election_milliseconds", 1000)), default=0)
    longest = [LONGEST_ELECTIONS[plan] for plan in plans if plan in LONGEST_ELECTIONS]
    if longest and election > min(longest):
        yield (
            f"etcd_election_milliseconds is {election}: when a host dies, etcd may have no leader for longer than a "
            f'primary with postgresql_failover_plan "{listed(plans)}" waits for etcd, and it steps down. Take '
            f"{min(longest)} at most, or a slower plan: {fleet.variables.parent}/."
        )


RULES = (one_color, addresses, members, failover_plan)
