"""Counted series of operations: cutovers, canary steps and reloads, with clients of HTTP/1.1 and HTTP/2."""

import json
import re
import subprocess
import time
import uuid
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from tempfile import TemporaryDirectory

from clients import Meter, api_key, reader_key
from inside import on
from lab import ADDRESSES, BOTH, EDGES, LAB, measured, play, traffic, wait

ROUNDS = 20
# These use HTTP/2, through each load balancer. During cutovers the meter sends the rest of the hundred thousand.
CUTOVER_REQUESTS, CANARY_REQUESTS = 30_000, 20_000
CLIENTS, PACE = 2, 12
ORDER = {"symbol": "AAPL", "side": "buy", "type": "limit", "quantity": "1", "limit_price": "1.25"}
# Cookies, which nginx assigns to buckets 43, 50, 7 and 93 of a hundred: each canary step below moves both clients of
# lb1, and of lb2 the one that reads, so that the canary never has more than half of the slower orders.
COOKIES = ("h2-3", "h2-5", "h2-0", "h2-7")


@contextmanager
def http2(requests: int) -> Iterator[list["subprocess.Popen[str]"]]:
    """Send this number of requests through each load balancer over HTTP/2 during the block, and wait for all responses.

    Half of them read the list of orders, and half repeat one order. None may fail, and both colors must
    respond.
    """
    began = time.time()
    ways = [(edge, method) for edge in EDGES for method in ("GET", "POST")]
    with TemporaryDirectory() as folder:
        body = Path(folder) / "order.json"
        body.write_text(json.dumps(ORDER))
        loads = [
            _load(edge, method, requests // 2, cookie, body)
            for (edge, method), cookie in zip(ways, COOKIES, strict=True)
        ]
        try:
            yield loads
            outputs = [load.communicate(timeout=1200)[0] for load in loads]
        finally:
            for load in loads:
                load.kill()
    for (edge, method), output in zip(ways, outputs, strict=True):
        assert re.search("Application protocol: h2", output), output
        counts = re.search(r"requests: .*", output)
        assert counts
        measured(f"HTTP/2, {method} through {edge}: {counts[0]}")
        assert f" {requests // 2} succeeded, 0 failed, 0 errored, 0 timeout" in counts[0]
    time.sleep(2)  # nginx writes its log once a second
    for edge in EDGES:
        answered = _answered(edge, began)
        measured(f"HTTP/2 through {edge}, by color: {', '.join(answered)}")
        assert len(answered) == 2


def _load(edge: str, method: str, requests: int, cookie: str, body: Path) -> "subprocess.Popen[str]":
    argv = ["h2load", f"--requests={requests}", f"--clients={CLIENTS}", f"--rps={PACE}"]
    argv += [f"--connect-to={ADDRESSES[edge]}:443", f"--header=Cookie: tradefleet_client={cookie}"]
    if method == "POST":
        argv += [f"--data={body}", "--header=Content-Type: application/json"]
        argv += [f"--header=Idempotency-Key: {uuid.uuid4()}", f"--header=Authorization: Bearer {api_key()}"]
    else:
        argv += [f"--header=Authorization: Bearer {reader_key()}"]
    return subprocess.Popen([*argv, "https://tradefleet.test/v1/orders"], stdout=subprocess.PIPE, text=True)


def _answered(edge: str, since: float) -> list[str]:
    """Return how many requests over HTTP/2 each color has answered, according to the load balancer's log: "12 blue"."""
    wanted = f"""/"protocol":"HTTP.2.0"/ && /"uri":".v1.orders"/ && $2 + 0 >= {since:.0f}"""
    colors = """grep -o '"color":"[a-z]*"' | cut -d '"' -f 4 | sort | uniq -c"""
    log = on(edge, f"""awk -F '"epoch":' '{wanted}' /var/log/nginx/access.log | {colors}""")
    return [" ".join(line.split()) for line in log.splitlines()]


def other_has_a_release() -> None:
    """Make the idle color ready for clients."""
    stated = traffic()
    if not stated["release_green"]:
        play("deploy", deploy_release=stated["release_blue"])


def cutovers(run: Meter) -> None:
    """Cut over twenty times, and continue until a hundred thousand requests have been sent."""
    other_has_a_release()
    apart: list[float] = []
    with http2(CUTOVER_REQUESTS) as loads:
        while len(apart) < ROUNDS or any(load.poll() is None for load in loads):
            play("cutover", cutover_soak_seconds="0")
            # A renamed link is a finished flip, and all hosts of the lab have one clock.
            flips = [float(on(edge, "stat --format=%.Z /etc/nginx/traffic")) for edge in EDGES]
            apart.append(max(flips) - min(flips))
    wait(lambda: run.state()["sent"] >= 100_000 - len(EDGES) * CUTOVER_REQUESTS, 600, "a hundred thousand requests")
    measured(f"{len(apart)} cutovers in a row; the load balancers disagreed for {max(apart):.2f} s at most")
    assert max(apart) <= 2
    if traffic()["traffic_live_color"] != "blue":
        play("cutover", cutover_to="blue", cutover_soak_seconds="0")


def canary_steps(_run: Meter) -> None:
    """Give the idle color twenty different shares of the clients in turn, and then withdraw them."""
    other_has_a_release()
    # At each step a quarter of the clients moves to the other color, and both have enough requests for the judge.
    shares = [share for few in range(20, 20 + ROUNDS, 2) for share in (few, 100 - few)]
    steps = 0
    with http2(CANARY_REQUESTS) as loads:
        while steps < ROUNDS or any(load.poll() is None for load in loads):
            play("canary", percent=str(shares[steps % ROUNDS]), canary_seconds="5")
            steps += 1
        play("canary", percent="0")
    measured(f"{steps} canary steps in a row")


def reloads(_run: Meter) -> None:
    """Reload both load balancers twenty times."""
    with _http2_kept():
        for _ in range(ROUNDS):
            for edge in EDGES:
                on(edge, "systemctl reload nginx && sleep 1")


@contextmanager
def _http2_kept(requests: int = 1500) -> Iterator[None]:
    """Read over HTTP/2 during the block, and reconnect after a GOAWAY of nginx, as the protocol requires.

    None may fail. This uses curl, because h2load never reconnects.
    """
    argv = ["curl", "--silent", "--http2", "--rate", "25/s", "--cacert", str(LAB / "ca.crt"), "--output", "/dev/null"]
    argv += ["--write-out", "%{http_version} %{http_code} %{num_connects} %{errormsg}\\n"]
    loads = [
        subprocess.Popen(
            [*argv, "--resolve", f"tradefleet.test:443:{address}", f"https://tradefleet.test/version?[1-{requests}]"],
            stdout=subprocess.PIPE,
            text=True,
        )
        for address in BOTH
    ]
    try:
        yield
        for edge, load in zip(EDGES, loads, strict=True):
            answers = [line.split(maxsplit=3) for line in load.communicate(timeout=300)[0].splitlines()]
            bad = [answer for answer in answers if answer[:2] != ["2", "200"]]
            connections = sum(int(answer[2]) for answer in answers)
            measured(f"HTTP/2 through {edge}: {len(bad)} of {requests} requests failed, over {connections} connections")
            assert bad == [], bad
            assert len(answers) == requests
            assert connections > ROUNDS
    finally:
        for load in loads:
            load.kill()
