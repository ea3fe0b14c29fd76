"""Filter: a table of what runs where, with a warning for each difference from the inventory."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from typing import Any

DOCUMENTATION = r"""
name: status_table
short_description: Renders the results of the procedure status
description:
  - Each host has a line that begins with its name, for scripts. Warnings follow, each with what to type.
  - A host or service that returned nothing is part of the answer, not an error.
positional: stated
options:
  _input:
    description: Variables of all hosts, with the registers of the procedure status and of the entry points status.
    type: dict
    required: true
  stated:
    description: What the inventory states (playbooks/procedures/status/vars/main.yml).
    type: dict
    required: true
"""
EXAMPLES = r"""
- name: Print the table
  ansible.builtin.debug:
    msg: "{{ hostvars | status_table(__status_stated) }}"
"""
RETURN = r"""
_value:
  description: The table.
  type: str
"""

Host = Mapping[str, Any]
# Groups that do not describe a host's services.
SILENT = ("app", "preflight_needed")
RENEWED_DAYS = 14  # a certificate with less time left should have been renewed
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
    lock_host: str = ""
    vip: str = ""


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
    cell = [f"live={answer.get('color', 'none')}", f"release={answer.get('release', 'none')}"]
    cell += [traffic] if "+" in traffic else []
    cell += [f"certificate={days}d" if isinstance(days, int) else "certificate=none", f"waf={waf}"]
    cell += ["vip"] if text(on, "__status_vip", "stdout") else []
    yield "cell", " ".join(cell)
    if nested(on, "nginx_status_maintenance", "stat", "exists"):
        yield "warning", f"{host} is closed for maintenance: `make maintenance STATE=off` opens it"
    if answer.get("color", "") != stated.live:
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


SERVICES: dict[str, Callable[[str, Host, Stated], Lines]] = {
    "edge": edge,
    "app": app,
    "postgres": postgres,
    "redis": redis,
}


def one(host: str, on: Host, stated: Stated) -> Lines:
    """Yield the cells of a host, and its warnings."""
    systemd = nested(on, "__status_systemd", "stdout")
    if systemd is None:
        yield "cell", "unreachable"
        yield "warning", f"{host} is unreachable over SSH"
        return
    for group, service in SERVICES.items():
        if group in on["group_names"]:
            yield from service(host, on, stated)
    if systemd != "running":
        yield "warning", f"{host}: systemd reports {systemd} (systemctl --failed)"


def fleet(hostvars: Mapping[str, Host], stated: Stated) -> Iterator[str]:
    """Yield the warnings about all hosts together: one has the virtual IP, and PostgreSQL has one leader."""
    vips = [host for host in stated.groups.get("edge") or [] if text(hostvars[host], "__status_vip", "stdout")]
    if len(vips) != 1:
        yield f"{stated.vip} is on {' and '.join(vips) or 'no load balancer'}"
    leaders = {
        member["name"]
        for host in stated.groups.get("postgres") or []
        for member in nested(hostvars[host], "postgresql_status", "json", "members") or []
        if member["role"] == "leader"
    }
    if len(leaders) != 1:
        yield f"PostgreSQL has {len(leaders)} leaders"


def status_table(hostvars: Mapping[str, Host], stated: Mapping[str, Any]) -> str:
    """Return the table, the lock with the last operations, and the warnings."""
    known = Stated(**stated)
    names, lines, warnings = known.groups["all"], [], []
    width = max(map(len, names))
    for host in names:
        on = hostvars[host]
        found = list(one(host, on, known))
        roles = ",".join(sorted(group for group in on["group_names"] if group not in SILENT))
        cells = "  ".join(line for kind, line in found if kind == "cell")
        lines.append(f"{host:<{width}}  {roles:<19}  {cells}")
        warnings += [line for kind, line in found if kind == "warning"]
    warnings += fleet(hostvars, known)
    if known.lock_host:
        operations = hostvars[known.lock_host].get("__status_operations") or {}
        said = text(operations, "stdout")
        lines += ["", said, ""] if "lock: " in said else []
        if operations.get("rc", 1) != 0:
            warnings.append(f"{known.lock_host}: {operations.get('stderr') or 'no lock and no journal'}")
    return "".join(f"{line}\n" for line in [*lines, *(f"warning: {warning}" for warning in warnings)])


class FilterModule:
    """The entry point for Ansible."""

    def filters(self) -> dict[str, Callable[..., Any]]:
        """Return the filters of this file."""
        return {"status_table": status_table}
