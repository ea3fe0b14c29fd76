"""The cost of the edge: nginx compared with gunicorn called directly, the WAF by mode and by rules, a reload.

Prints rows for docs/benchmarks.md (`make bench` calls it with a running lab):

    PYTHONPATH=.:tests/fleet:molecule/shared:tests/fleet/drills python tests/fleet/edge_price.py

It changes only nginx on lb1, and restores the configuration of site.yml.
"""

import json
import tempfile
from functools import cache
from pathlib import Path
from statistics import median

from clients import api_key
from edge_load import APPS, EDGE, REQUESTS, both, held, load, memory, price, reload_seconds, settle
from inside import on
from lab import play

COMMAND = "`tests/fleet/edge_price.py`"
ROUNDS = 5
# Families of the Core Rule Set's rules, by the numbers in their file names: all that the edge loads.
FAMILIES = {
    "methods": (911,),
    "scanners": (913,),
    "protocol": (920, 921, 922),
    "files of the host and of others": (930, 931),
    "commands": (932,),
    "PHP": (933,),
    "JavaScript on the server": (934,),
    "cross-site scripting": (941,),
    "SQL injection": (942,),
    "sessions": (943,),
    "Java": (944,),
    "the sum of all that matched": (949,),
}


def row(what: str, target: str, measured: str) -> None:
    """Print a row of the page."""
    print(f"| {what} | {COMMAND} | {target} | {measured} |", flush=True)


def converge(**settings: str) -> None:
    """Configure nginx on lb1 with these settings."""
    play("site", "--limit", "lb1", "--tags", "nginx", *(f"-e{name}={value}" for name, value in settings.items()))
    settle()


def against_gunicorn(path: str, *options: str) -> None:
    """Print what nginx adds to gunicorn's own time, in turn, because the load of this machine varies."""
    direct: list[tuple[float, float]] = []
    through: list[tuple[float, float]] = []
    for _ in range(ROUNDS):
        direct.append((both(path, *options), load(APPS[0], path, 1000, 1, *options)[1]))
        through.append((load(EDGE, path, REQUESTS, 16, *options)[0], load(EDGE, path, 1000, 1, *options)[1]))
    rates, latencies = zip(
        *([median(column) for column in zip(*found, strict=True)] for found in (direct, through)), strict=True
    )
    what = "gunicorn on two hosts, called directly by 8 clients each"
    row(f"GET {path} from {what}: requests a second", "", f"{rates[0]:.0f}")
    share = f"{100 * rates[1] / rates[0]:.0f} %"
    row(f"the same through nginx, 16 clients, WAF off: {share} of it", "90 %", f"{rates[1]:.0f}")
    row(f"GET {path}: p50 that nginx adds for one client, milliseconds", "2", f"{latencies[1] - latencies[0]:.2f}")


def key() -> str:
    """Return the arguments of h2load that authenticate a trader."""
    return f"--header=Authorization: Bearer {api_key()}"


@cache
def order() -> tuple[str, ...]:
    """Return the arguments of h2load that place an order, always the same one."""
    body = Path(tempfile.gettempdir()) / "tradefleet-order.json"
    body.write_text(
        json.dumps({"symbol": "AAPL", "side": "buy", "type": "limit", "quantity": "1.5", "limit_price": "180.25"})
    )
    headers = {"Content-Type": "application/json", "Idempotency-Key": "what-an-order-costs"}
    return (f"--data={body}", key(), *(f"--header={name}: {value}" for name, value in headers.items()))


def prices() -> tuple[float, float]:
    """Return the price of a read that nginx answers itself, and of an order."""
    return price("/v1/instruments"), price("/v1/orders", *order(), requests=500)


def firewall(mode: str) -> tuple[float, float]:
    """Print the cost of the WAF in this mode; return the price of a read and of an order."""
    rate = median(load(EDGE, "/v1/instruments", 5000, 16)[0] for _ in range(ROUNDS))
    target = "3000" if mode == "block" else ""
    row(f"WAF {mode}: reads a second that nginx answers itself, clients on the same cores", target, f"{rate:.0f}")
    found = prices()
    row(
        f"WAF {mode}: milliseconds of a core in nginx for such a read, and for an order",
        "",
        "{:.2f}, {:.2f}".format(*found),
    )
    row(f"WAF {mode}: memory of nginx, MiB", "", f"{memory():.0f}")
    return found


def reload_memory() -> None:
    """Print the highest memory use of nginx while former and new workers exist."""
    settle()
    with held():
        reload_seconds()
        found = max(memory() for _ in range(10))
        former = int(on("lb1", "pgrep --count --full '^nginx: worker process is shutting down'"))
    settle()
    row(f"the same, memory of nginx while {former} former workers are there, MiB", "", f"{found:.0f}")


def families(off: tuple[float, float], whole: tuple[float, float]) -> None:
    """Print the cost of ModSecurity and of each family of rules for a read and an order.

    Without rules it is the difference to nginx without ModSecurity; for a family it is the saving without that family.
    """
    on("lb1", "cp /etc/nginx/nginx.conf /root/")

    def added(what: str, minuend: tuple[float, float], subtrahend: tuple[float, float]) -> None:
        differences = (a - b for a, b in zip(minuend, subtrahend, strict=True))
        row(f"WAF block, of these two (± 0.1): {what}", "", "{:.2f}, {:.2f}".format(*differences))

    added("ModSecurity without a rule of the Core Rule Set", only(), off)
    for name, numbers in FAMILIES.items():
        others = (number for family in FAMILIES.values() if family != numbers for number in family)
        added(f"rules about {name} ({', '.join(map(str, numbers))})", whole, only(*others))


def only(*numbers: int) -> tuple[float, float]:
    """Return the price of a read and of an order with only these rule files."""
    files = "\\n".join(f"Include /usr/share/modsecurity-crs/rules/REQUEST-{number}*.conf" for number in numbers)
    these = f"-e '/modsecurity-crs.rules/{{/REQUEST-911/!d}}' -e 's|^.*modsecurity-crs.rules.*$|{files}|'"
    on("lb1", f"sed {these} /root/nginx.conf > /etc/nginx/nginx.conf")
    reload_seconds()
    settle()
    return prices()


def main() -> None:
    """Print all rows."""
    try:
        converge(nginx_waf_mode="off")
        against_gunicorn("/version")
        against_gunicorn("/v1/orders", key())
        off = firewall("off")
        converge(nginx_waf_mode="detect")
        firewall("detect")
        converge(nginx_waf_mode="block")
        whole = firewall("block")
        row("reload with the Core Rule Set, seconds until the new workers are there", "", f"{reload_seconds():.2f}")
        reload_memory()
        families(off, whole)
    finally:
        converge()


if __name__ == "__main__":
    main()
