"""What the edge costs: nginx against gunicorn called directly, the WAF by mode and by rules, a reload.

Prints rows for docs/benchmarks.md (`make bench` calls it on a lab that serves):

    python tests/fleet/edge_price.py

It changes nginx on lb1 alone, and leaves it as site.yml wants it.
"""

import json
import os
import re
import subprocess
import tempfile
from functools import cache
from pathlib import Path
from statistics import median, quantiles

from lab import ADDRESSES, api_key, on, play, wait

COMMAND = "`tests/fleet/edge_price.py`"
EDGE, APP = f"{ADDRESSES['lb1']}:443", f"{ADDRESSES['blue1']}:8443"
ROUNDS = 5
# Families of the Core Rule Set's rules, by the first three digits of their ids.
FAMILIES = {
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
}


def row(what: str, target: str, measured: str) -> None:
    """Print a row of the page."""
    print(f"| {what} | {COMMAND} | {target} | {measured} |", flush=True)


def converge(**settings: str) -> None:
    """Have nginx on lb1 with these settings."""
    play("site", "--limit", "lb1", "--tags", "nginx", *(f"-e{name}={value}" for name, value in settings.items()))
    settle()


def settle() -> None:
    """Wait until the workers from before a reload are gone: they count as nginx, in memory and in time."""
    wait(
        lambda: not on("lb1", "pgrep -f '^nginx: worker process is shutting down'", check=False),
        90,
        "former workers end",
    )


def load(where: str, path: str, requests: int, clients: int, *options: str) -> tuple[float, float]:
    """Send so many requests, one after the other for each client, over HTTP/1.1.

    Returns:
        Requests a second, and the median of the milliseconds that one took.

    """
    with tempfile.TemporaryDirectory() as folder:
        log = Path(folder) / "log"
        argv = ["h2load", "--h1", f"--requests={requests}", f"--clients={clients}", f"--log-file={log}"]
        argv += [f"--connect-to={where}", *options, f"https://tradefleet.test{path}"]
        done = subprocess.run(argv, capture_output=True, text=True, check=True, timeout=300)
        assert f"{requests} 2xx" in done.stdout, done.stdout
        rate = re.search(r"([\d.]+) req/s", done.stdout)
        assert rate
        took = [int(line.split()[2]) for line in log.read_text().splitlines()]
        return float(rate[1]), quantiles(took, n=2)[0] / 1000


def nginx_milliseconds() -> int:
    """Return the milliseconds that both cores have worked so far for the processes of nginx on lb1."""
    ticks = "cat $(printf '/proc/%s/stat ' $(pidof nginx)) | awk '{ n += $14 + $15 } END { print n }'"
    return int(on("lb1", ticks)) * 1000 // os.sysconf("SC_CLK_TCK")


def price(path: str, *options: str, requests: int = 2000) -> float:
    """Return the milliseconds of a core that nginx on lb1 needs for a request: the least of three times."""
    found = []
    for _ in range(3):
        before = nginx_milliseconds()
        load(EDGE, path, requests, 4, *options)
        found.append((nginx_milliseconds() - before) / requests)
    return min(found)


def against_gunicorn() -> None:
    """Print what nginx adds to gunicorn's own answer, in turn, since what else this machine does varies."""
    direct: list[tuple[float, float]] = []
    through: list[tuple[float, float]] = []
    for _ in range(ROUNDS):
        for where, found in ((APP, direct), (EDGE, through)):
            rate = load(where, "/version", 3000, 16)[0]
            found.append((rate, load(where, "/version", 1000, 1)[1]))
    rates, latencies = zip(
        *([median(column) for column in zip(*found, strict=True)] for found in (direct, through)), strict=True
    )
    row("GET /version from gunicorn on one host: requests a second, 16 clients", "", f"{rates[0]:.0f}")
    share = f"{100 * rates[1] / rates[0]:.0f} %"
    row(f"the same through nginx, which has two hosts, WAF off: {share} of it", "90 %", f"{rates[1]:.0f}")
    row("p50 that nginx adds for one client, milliseconds", "2", f"{latencies[1] - latencies[0]:.2f}")


@cache
def order() -> tuple[str, ...]:
    """Return what h2load says to place an order, the same one each time."""
    body = Path(tempfile.gettempdir()) / "tradefleet-order.json"
    body.write_text(
        json.dumps({"symbol": "AAPL", "side": "buy", "type": "limit", "quantity": "1.5", "limit_price": "180.25"})
    )
    headers = {
        "Authorization": f"Bearer {api_key()}",
        "Content-Type": "application/json",
        "Idempotency-Key": "what-an-order-costs",
    }
    return (f"--data={body}", *(f"--header={name}: {value}" for name, value in headers.items()))


def firewall(mode: str) -> tuple[float, float]:
    """Print what the WAF costs in this mode; return the price of a read and of an order."""
    rate = median(load(EDGE, "/v1/instruments", 5000, 16)[0] for _ in range(ROUNDS))
    target = "3000" if mode == "block" else ""
    row(f"WAF {mode}: reads a second that nginx answers itself, clients on the same cores", target, f"{rate:.0f}")
    prices = price("/v1/instruments"), price("/v1/orders", *order(), requests=500)
    row(
        f"WAF {mode}: milliseconds of a core in nginx for such a read, and for an order",
        "",
        "{:.2f}, {:.2f}".format(*prices),
    )
    memory = on(
        "lb1",
        "cat $(printf '/proc/%s/smaps_rollup ' $(pidof nginx)) | awk '/^Pss:/ { n += $2 } END { print n / 1024 }'",
    )
    row(f"WAF {mode}: memory of nginx, MiB", "", f"{float(memory):.0f}")
    return prices


def reload_seconds() -> float:
    """Return how long a reload takes until there is a new worker."""
    newest = "pgrep --newest --full '^nginx: worker process'"
    return (
        float(
            on(
                "lb1",
                f"before=$({newest}); start=$(date +%s%N); systemctl reload nginx; "
                f"while [ $({newest}) = $before ]; do sleep 0.01; done; echo $((($(date +%s%N) - start) / 1000000))",
            )
        )
        / 1000
    )


def families(whole: tuple[float, float]) -> None:
    """Print what each family of rules adds to a read and to an order: without it, nginx is that much quicker."""
    for name, numbers in FAMILIES.items():
        ids = " ".join(f"{number}000-{number}999" for number in numbers)
        on(
            "lb1",
            "sed -i -e '/SecRuleRemoveById/d' "
            f"-e 's/.*RESPONSE-980.*/&\\n        SecRuleRemoveById {ids}/' /etc/nginx/nginx.conf",
        )
        reload_seconds()
        settle()
        prices = price("/v1/instruments"), price("/v1/orders", *order(), requests=500)
        found = "{:.2f}, {:.2f}".format(*(a - b for a, b in zip(whole, prices, strict=True)))
        row(f"WAF block, of these two (± 0.1): rules about {name} ({', '.join(map(str, numbers))})", "", found)


def main() -> None:
    """Print all rows."""
    try:
        converge(nginx_waf_mode="off")
        against_gunicorn()
        firewall("off")
        converge(nginx_waf_mode="detect")
        firewall("detect")
        converge(nginx_waf_mode="block")
        whole = firewall("block")
        families(whole)
        row("reload with the Core Rule Set, seconds until the new workers are there", "", f"{reload_seconds():.2f}")
    finally:
        converge()


if __name__ == "__main__":
    main()
