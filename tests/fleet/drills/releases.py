"""Operations in a row, counted: cutovers, canary steps and reloads, with clients of HTTP/1.1 and of HTTP/2."""

import re
import subprocess
from collections.abc import Iterator
from contextlib import contextmanager

from lab import ADDRESSES, BOTH, EDGES, LAB, Meter, measured, on, play, traffic, wait

ROUNDS = 20
# Over HTTP/2, to each load balancer; the meter sends the rest of the hundred thousand while these are on their way.
REQUESTS = 30_000
CLIENTS, PACE = 4, 12


@contextmanager
def http2(requests: int = REQUESTS) -> Iterator[list["subprocess.Popen[str]"]]:
    """Read over HTTP/2 from both load balancers during the block, and wait for the last answer: none may fail."""
    argv = ["h2load", f"--requests={requests}", f"--clients={CLIENTS}", f"--rps={PACE}"]
    loads = [
        subprocess.Popen(
            [*argv, f"--connect-to={ADDRESSES[edge]}:443", "https://tradefleet.test/version"],
            stdout=subprocess.PIPE,
            text=True,
        )
        for edge in EDGES
    ]
    try:
        yield loads
        outputs = [load.communicate(timeout=1200)[0] for load in loads]
    finally:
        for load in loads:
            load.kill()
    for edge, output in zip(EDGES, outputs, strict=True):
        assert re.search("Application protocol: h2", output), output
        counts = re.search(r"requests: .*", output)
        assert counts
        measured(f"HTTP/2 through {edge}: {counts[0]}")
        assert f" {requests} succeeded, 0 failed, 0 errored, 0 timeout" in counts[0]


def other_has_a_release() -> None:
    """Have the colour that does not serve ready for clients."""
    stated = traffic()
    if not stated["release_green"]:
        play("deploy", deploy_release=stated["release_blue"])


def cutovers(run: Meter) -> None:
    """Cut over twenty times, and on until a hundred thousand requests have been sent."""
    other_has_a_release()
    rounds = 0
    with http2() as loads:
        while rounds < ROUNDS or any(load.poll() is None for load in loads):
            play("cutover", cutover_soak_seconds="0")
            rounds += 1
    wait(lambda: run.state()["sent"] >= 100_000 - len(EDGES) * REQUESTS, 600, "a hundred thousand requests")
    measured(f"{rounds} cutovers in a row")
    if traffic()["traffic_live_color"] != "blue":
        play("cutover", cutover_to="blue", cutover_soak_seconds="0")


def canary_steps(_run: Meter) -> None:
    """Give the idle colour twenty different shares of the clients, one after the other, and take them back."""
    other_has_a_release()
    # Such that both colours soon have the judge's sample: on fewer requests a busy moment of one of them is a verdict.
    for percent in range(50 - ROUNDS, 50 + ROUNDS, 2):
        play("canary", percent=str(percent), canary_seconds="5")
    play("canary", percent="0")


def reloads(_run: Meter) -> None:
    """Reload both load balancers twenty times."""
    with _http2_kept():
        for _ in range(ROUNDS):
            for edge in EDGES:
                on(edge, "systemctl reload nginx && sleep 1")


@contextmanager
def _http2_kept(requests: int = 1500) -> Iterator[None]:
    """Read over HTTP/2 during the block, and connect anew where nginx says goodbye, as the protocol has it.

    None may fail. By curl, since h2load never connects a second time.
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
            assert (len(answers), bad) == (requests, [])
            assert connections > ROUNDS
    finally:
        for load in loads:
            load.kill()
