"""Load on the edge of the lab, and the resources that nginx on lb1 uses for it."""

import os
import re
import ssl
import subprocess
import tempfile
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack, contextmanager
from http.client import HTTPSConnection
from pathlib import Path
from statistics import quantiles

from inside import on
from lab import ADDRESSES, wait

EDGE = f"{ADDRESSES['lb1']}:443"
APPS = tuple(f"{ADDRESSES[host]}:8443" for host in ("blue1", "blue2"))
# Through nginx, and to both hosts together.
REQUESTS = 6000


def settle() -> None:
    """Wait until the workers of the former configuration are gone: they count as nginx, in memory and in time."""
    wait(
        lambda: not on("lb1", "pgrep -f '^nginx: worker process is shutting down'", check=False),
        90,
        "former workers end",
    )


def load(where: str, path: str, requests: int, clients: int, *options: str) -> tuple[float, float]:
    """Send these requests over HTTP/1.1, one after the other for each client.

    Returns:
        Requests a second, and the median of the milliseconds of one.

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
    """Return the milliseconds of CPU time that the processes of nginx on lb1 have used."""
    ticks = "cat $(printf '/proc/%s/stat ' $(pidof nginx)) | awk '{ n += $14 + $15 } END { print n }'"
    return int(on("lb1", ticks)) * 1000 // os.sysconf("SC_CLK_TCK")


def price(path: str, *options: str, requests: int = 2000) -> float:
    """Return the milliseconds of CPU time that nginx on lb1 needs for a request: the least of three attempts."""
    found = []
    for _ in range(3):
        before = nginx_milliseconds()
        load(EDGE, path, requests, 4, *options)
        found.append((nginx_milliseconds() - before) / requests)
    return min(found)


def both(path: str, *options: str) -> float:
    """Return the requests a second of both hosts, each called directly by half of the clients at the same time.

    The time is that of the slower host, as through nginx: the faster one leaves it the cores when it ends, and
    the sum of both rates would exceed what was ever answered.
    """
    with ThreadPoolExecutor(len(APPS)) as pool:
        return len(APPS) * min(pool.map(lambda app: load(app, path, REQUESTS // len(APPS), 8, *options)[0], APPS))


def memory() -> float:
    """Return the MiB that the processes of nginx on lb1 use, with shared memory counted once."""
    sizes = "cat $(printf '/proc/%s/smaps_rollup ' $(pidof nginx))"
    return float(on("lb1", f"{sizes} | awk '/^Pss:/ {{ n += $2 }} END {{ print n / 1024 }}'"))


def reload_seconds() -> float:
    """Return the seconds from a reload to a new worker."""
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


@contextmanager
def held() -> Iterator[None]:
    """Hold requests in flight, and with them their workers: the bodies never arrive."""
    context = ssl.create_default_context()
    context.check_hostname, context.verify_mode = False, ssl.CERT_NONE
    with ExitStack() as opened:
        for _ in range(32):
            client = HTTPSConnection(EDGE, timeout=5, context=context)
            opened.callback(client.close)
            client.putrequest("POST", "/v1/orders")
            client.putheader("Content-Length", "10")
            client.endheaders()
        yield
