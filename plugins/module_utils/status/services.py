"""The cells and warnings of each service in the table of the fleet."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from typing import Any

Host = Mapping[str, Any]
RENEWED_DAYS = 14  # a certificate with less time left should have been renewed
UNITS = (("d", 86400), ("h", 3600), ("m", 60))
OUTBOX_SECONDS = 60  # events may wait there for this long


@dataclass(frozen=True)
class Stated:
    """What the inventory states: groups, traffic.yml, and where the lock is."""

    groups: Mapping[str, list[str]]
    live: str = ""
    canary: int = 0
    idle: str = ""
    releases: Mapping[str, str] | None = None
    acme: bool = False
    backup_host: str = ""
    lock_host: str = ""
    vip: str = ""
    standby: bool = False


def nested(value: Any, *names: str | int) -> Any:
    """Return what a register contains below these names, or None."""
    for name in names:
        if isinstance(value, Mapping):
            value = value.get(name)
        elif isinstance(name, int) and isinstance(value, list) and name < len(value):
            value = value[name]
        else:
            return None
    return value


def text(value: Any, *names: str | int) -> str:
    """Return the text that a register contains below these names, or an empty string."""
    found = nested(value, *names)
    return "" if found is None else str(found)


Lines = Iterator[tuple[str, str]]


def edge(host: str, on: Host, stated: Stated) -> Lines:
    """Yield the cell of a load balancer, and its warnings."""
    answer = nested(on, "__status_edge", "json") or {}
    days = nested(on, "__status_edge", "certificate_days")
    traffic = text(on, "nginx_status_traffic", "stdout").rpartition("/")[2]
    waf = {"On": "block", "DetectionOnly": "detect"}.get(text(on, "nginx_status_waf", "stdout"), "off")
    closed = bool(nested(on, "nginx_status_standby", "stat", "exists"))
    cell = (
        ["standby"] if closed else [f"live={answer.get('color', 'none')}", f"release={answer.get('release', 'none')}"]
    )
    cell += [traffic] if "+" in traffic else []
    cell += [f"certificate={days}d" if isinstance(days, int) else "certificate=none", f"waf={waf}"]
    cell += ["vip"] if text(on, "__status_vip", "stdout") else []
    yield "cell", " ".join(cell)
    if nested(on, "nginx_status_maintenance", "stat", "exists"):
        yield "warning", f"{host} is closed for maintenance: `make maintenance STATE=off` opens it"
    if closed != stated.standby:
        now, then = ("is closed", "serves") if closed else ("serves", "is a standby")
        yield "warning", f"{host} {now}, sites.yml states that this site {then}: docs/second-site.md"
    elif not closed and answer.get("color", "") != stated.live:
        error = text(on, "__status_edge", "msg")
        yield (
            "warning",
            f"{host} serves {answer.get('color', 'nothing')}, traffic.yml states {stated.live}: `make cutover TO=…` or "
            f"`make site`{f' ({error})' if error else ''}",
        )
    wanted = f"{stated.live}+{stated.idle}-{stated.canary}" if stated.canary else stated.live
    if traffic != wanted:
        yield (
            "warning",
            f'{host} has the traffic "{traffic}", traffic.yml states "{wanted}": unless a playbook is running, '
            "`make site` repairs it",
        )
    if isinstance(days, int) and days < RENEWED_DAYS:
        internal = "`make site` renews the fleet's own; one of yours in nginx_tls_certificate_file is yours to renew"
        issued = (
            f"`journalctl --unit acme-renew` on {(stated.groups.get('ops') or [''])[0]} tells why it was not renewed"
        )
        remedy = issued if stated.acme else internal
        yield "warning", f"{host} serves a certificate that is valid for another {days} days: {remedy}"


def app(host: str, on: Host, stated: Stated) -> Lines:
    """Yield the cell of an application host, and its warnings."""
    version = nested(on, "app_status", "results", 0, "json") or {}
    ready = nested(on, "app_status", "results", 1, "json") or {}
    wanted = (stated.releases or {})[on["app_color"]]
    live = on["app_color"] == stated.live
    worker = {"active": "running", "inactive": "idle"}.get(text(on, "app_status_worker", "stdout"), "down")
    release, state = version.get("release"), ready.get("status", "down")
    if stated.standby:
        yield "cell", f"release={release or 'none'} worker={worker}"
        if release or worker == "running":
            yield "warning", f"{host} runs the application, sites.yml states that this site is a standby: `site.yml`"
        return
    yield "cell", f"release={release or 'none'} commit={version.get('commit', 'none')} {state} worker={worker}"
    if (worker == "running") != (live and wanted != ""):
        yield (
            "warning",
            f"{host}: its worker is {worker}, and its color {'serves' if live else 'does not serve'}: `make site`",
        )
    if (waiting := ready.get("outbox_seconds") or 0) > OUTBOX_SECONDS:
        yield (
            "warning",
            f"{host} finds that events have been waiting in the outbox for {int(waiting)} s: journalctl --unit "
            "tradefleet-worker, on the hosts that serve",
        )
    if (failed := ready.get("outbox_failed") or 0) > 0:
        yield (
            "warning",
            f"{host} finds that {failed} events failed and were set aside: list them with playbooks/failed_events.yml",
        )
    if (release or "") != wanted:
        command = f"rolling VERSION={wanted}" if live and release is not None else "site"
        yield (
            "warning",
            f"{host} runs {release or 'nothing'}, traffic.yml states {wanted or 'nothing'}: `make {command}`",
        )
    if state == "draining":
        yield (
            "warning",
            f"{host} is out of service (draining): a roll was interrupted, `make rolling VERSION=…` finishes it",
        )
    elif wanted and state != "ready":
        dependencies = sorted((ready.get("dependencies") or {}).items(), key=lambda item: str(item[0]).lower())
        yield "warning", f"{host} is {state}: {', '.join(f'{name} {found}' for name, found in dependencies)}"
    running, written = (text(on, "app_status_settings", "results", number, "stat", "checksum") for number in (0, 1))
    if running and running != written:
        yield (
            "warning",
            f"{host} runs with settings older than those on its disk: they take effect when its color is idle "
            "(`make site`) or deployed to",
        )


def postgres(host: str, on: Host, stated: Stated) -> Lines:
    """Yield the cell of a member of PostgreSQL, and its warning."""
    members = nested(on, "postgresql_status", "json", "members") or []
    member: Host = next((each for each in members if each["name"] == host), {})
    state = member.get("state", "")
    lag = f" lag={member['lag']}" if "lag" in member else ""
    yield "cell", f"postgresql={member.get('role', 'down')} {state}{lag}"
    if state not in ("running", "streaming"):
        yield "warning", f"{host}: PostgreSQL is {member.get('state', 'down')}"


def ago(now: float, moment: float | None) -> str:
    """Return the time since a moment in the largest unit of which at least two have passed."""
    if not moment:
        return "none"
    seconds = max(0, int(now - moment))
    return next((f"{seconds // size}{unit}" for unit, size in UNITS if seconds >= 2 * size), f"{seconds}s")


def archives(host: str, on: Host, stated: Stated) -> Lines:
    """Yield the age of the last archive run, on the server of the newest archives, and a warning for each problem."""
    if not stated.backup_host:
        return
    try:
        state = json.loads(text(on, "archive_status", "stdout"))
    except ValueError:
        yield "cell", "archive=unknown"
        yield "warning", f"{host} cannot report its archives: {text(on, 'archive_status', 'stderr') or 'no program'}"
        return
    yield "cell", f"archive={ago(state['now'], state['stored'])}"
    if "copied" in state:
        yield "cell", f"archive-copy={ago(state['now'], state['copied'])}"
    for name, moment in state["arrived"].items():
        yield "cell", f"{name}-archive={ago(state['now'], moment)}"
    for problem in state["problems"]:
        yield "warning", f"{host}: archives: {problem} (docs/backups.md)"


def redis(host: str, on: Host, stated: Stated) -> Lines:
    """Yield the cells of a Redis host, one for each service, and their warnings."""
    for asked in nested(on, "redis_status", "results") or []:
        instance = asked[asked.get("ansible_loop_var", "item")]
        role = (asked.get("stdout_lines") or [""])[0]
        name = "redis" if instance == "state" else instance
        shown = {"master": "primary", "slave": "replica"}.get(role, "down")
        yield "cell", f"{name}={shown}"
        if shown == "down":
            yield "warning", f"{host}: Redis ({instance}) is down"
    yield from archives(host, on, stated)


def backups(host: str, on: Host, stated: Stated) -> Lines:
    """Yield the cell of the host with the backups of PostgreSQL, and a warning for each of their problems."""
    if stated.standby:
        yield "cell", "backup=standby"
        return
    try:
        state = json.loads(text(on, "pgbackrest_status", "stdout"))
    except ValueError:
        yield "cell", "backup=unknown"
        yield "warning", f"{host} cannot report its backups: {text(on, 'pgbackrest_status', 'stderr') or 'no program'}"
        return
    cells = {"backup": state["newest"], "full": state["full"], "wal": state["wal"], "drill": state["drill"]}
    if state.get("second"):
        cells |= {"second": state["second"]["newest"], "second-drill": state["second"]["drill"]}
    shown = [f"{name}={ago(state['now'], moment)}" for name, moment in cells.items()]
    shown += [f"running={state['running_percent']:.0f}%"] if state.get("running_percent") is not None else []
    yield "cell", " ".join(shown)
    for problem in state["problems"]:
        yield "warning", f"{host}: backups of PostgreSQL: {problem} (docs/backups.md)"


def ops(host: str, on: Host, stated: Stated) -> Lines:
    """Yield the cells of the host with the backups and archives, and their warnings."""
    if host == stated.backup_host:
        yield from backups(host, on, stated)
        yield from archives(host, on, stated)


SERVICES: dict[str, Callable[[str, Host, Stated], Lines]] = {
    "edge": edge,
    "app": app,
    "postgres": postgres,
    "redis": redis,
    "ops": ops,
}
