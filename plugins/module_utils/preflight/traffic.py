"""Rules about traffic and releases: colors, shares, versions, and the inputs of each playbook."""

from __future__ import annotations

import re
from collections.abc import Iterator
from typing import Any

from .fleet import Fleet, listed, number


def versions(fleet: Fleet) -> Iterator[str]:
    """The name of a release is also that of files, folders and a version of a Python package on every host."""
    named = dict.fromkeys(str(each) for each in (fleet.release, *fleet.releases.values()) if each)
    bad = [each for each in named if not re.match(fleet.release_pattern, each)]
    if bad:
        yield (
            f'Release "{listed(bad)}" has a name that no release can have; it must look like 1.2.3 or 1.2.3-rc1: a '
            "digit, then up to 63 digits, letters, dots and hyphens. Type another one, or correct release_* in "
            f"{fleet.variables}/traffic.yml."
        )


def live_color(fleet: Fleet) -> Iterator[str]:
    """One of the colors serves."""
    if fleet.live not in fleet.colors:
        yield (
            f'traffic_live_color is "{fleet.live}"; it must be one of {listed(fleet.colors)}. '
            f"Correct it in {fleet.variables}/traffic.yml."
        )


def canary_share(fleet: Fleet) -> Iterator[str]:
    """The idle color has a share that it can serve."""
    where, idle = f"{fleet.variables}/traffic.yml", fleet.idle
    if not re.fullmatch("[1-9]?[0-9]", str(fleet.canary)):
        yield (
            f'traffic_canary_percent is "{fleet.canary}"; it must be the share of the clients that color {idle} has, '
            f"0 to 99. Correct it in {where}."
        )
    if number(fleet.canary) and not fleet.releases.get(idle):
        yield (
            f"traffic_canary_percent is {fleet.canary}, and color {idle} has no release (release_{idle} is empty): "
            f"correct one of them in {where}."
        )


def used_color(fleet: Fleet) -> Iterator[str]:
    """The color that the playbook uses exists and has hosts."""
    if fleet.color not in fleet.colors:
        yield f'"{fleet.color}" is no color. Type one of {listed(fleet.colors)}, as in `make cutover TO=green`.'
    elif not fleet.of(f"app_{fleet.color}"):
        yield (
            f"Color {fleet.color} has no hosts. Put some into group app_{fleet.color} in {fleet.inventory}/hosts.yml."
        )


def batch(fleet: Fleet) -> Iterator[str]:
    """While a batch of hosts is drained, others serve."""
    if not re.fullmatch("([1-9][0-9]*)?", str(fleet.batch)):
        yield (
            f'rolling_batch is "{fleet.batch}"; it must be the number of hosts that are drained at a time, 1 or more. '
            f"Correct it in {fleet.variables}/releases.yml."
        )
    hosts = fleet.of(f"app_{fleet.color}")
    if number(fleet.batch) and number(fleet.batch) >= len(hosts):
        yield (
            f"Color {fleet.color} has {listed(hosts) or 'no hosts'}, and rolling_batch is {fleet.batch}: no host would "
            f"serve during the roll. Put another host into group app_{fleet.color} in {fleet.inventory}/hosts.yml, "
            f"make rolling_batch in {fleet.variables}/releases.yml smaller, or put the release on the other color and "
            f"cut over (`make deploy VERSION={fleet.release}`, `make cutover`)."
        )


def deployed(fleet: Fleet) -> Iterator[str]:
    """Traffic goes to a color that has a release; finalizing needs one release on both colors."""
    idle, where = fleet.idle, f"{fleet.variables}/traffic.yml"
    idle_release, live_release = fleet.releases.get(idle, ""), fleet.releases.get(fleet.live, "")
    if fleet.needs_release and not fleet.release:
        yield (
            f"Nothing was deployed to color {fleet.color} yet (release_{fleet.color} in {where} is empty). "
            "Type `make deploy` first."
        )
    if fleet.one_release and idle_release not in ("", live_release):
        yield (
            f"Color {idle} still has release {idle_release} (release_{idle} in {where}): a rollback would go there, "
            "and finalizing removes what it needs. Put the live release there too "
            f"(`make deploy VERSION={live_release}`), then finalize."
        )


def canary(fleet: Fleet) -> Iterator[str]:
    """A canary gives a share, or has steps above the share that the idle color has already."""
    if fleet.playbook != "canary":
        return
    if fleet.percent is not None:
        if not re.fullmatch("[1-9]?[0-9]", str(fleet.percent)):
            yield (
                f'percent is "{fleet.percent}"; it must be a share of the clients, 0 to 99, as in '
                "`make canary PERCENT=10` (`-e percent=10`). Everybody is a cutover: `make cutover`."
            )
        return
    steps = fleet.canary_steps
    if not _shares(steps):
        shown = listed(steps) if isinstance(steps, list) else steps
        yield (
            f'canary_steps is "{shown}"; it must be shares of the clients, 1 to 100, as in [1, 10, 50, 100]. '
            f"Correct it in {fleet.variables}/releases.yml."
        )
    elif all(number(step) <= number(fleet.canary) for step in steps):
        yield (
            f"Color {fleet.idle} has {fleet.canary} % of the clients already, and canary_steps ({listed(steps)}) ends "
            "there. Type another share (`make canary PERCENT=…`), or give it everybody (`make cutover`)."
        )


def _shares(steps: Any) -> bool:
    """Return whether these are shares of the clients."""
    return isinstance(steps, list) and bool(steps) and all(re.fullmatch("[1-9][0-9]?|100", str(step)) for step in steps)


def shadow(fleet: Fleet) -> Iterator[str]:
    """A shadow gets a share of the reads."""
    if fleet.playbook == "shadow" and not re.fullmatch("[1-9]?[0-9]|100", str(fleet.percent)):
        typed = "" if fleet.percent is None else fleet.percent
        yield (
            f'percent is "{typed}"; it must be a share of the reads, 0 to 100, as in `make shadow PERCENT=5` '
            "(`-e percent=5`)."
        )


def maintenance(fleet: Fleet) -> Iterator[str]:
    """Maintenance is on or off."""
    if fleet.playbook == "maintenance" and fleet.maintenance not in ("on", "off"):
        yield (
            f'maintenance is "{fleet.maintenance}"; it must be on or off, as in `make maintenance STATE=on` '
            "(`-e maintenance=on`)."
        )


def typed_release(fleet: Fleet) -> Iterator[str]:
    """A deploy and a roll need the name of a release."""
    if fleet.playbook in ("deploy", "rolling") and not fleet.release:
        yield (
            f'{fleet.playbook}_release is ""; it must name a release, as in `make {fleet.playbook} VERSION=1.2.3` '
            f"(`-e {fleet.playbook}_release=1.2.3`)."
        )


RULES = (
    canary,
    typed_release,
    shadow,
    maintenance,
    versions,
    live_color,
    canary_share,
    used_color,
    batch,
    deployed,
)
