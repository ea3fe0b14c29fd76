"""The metrics of a host: only the certificate for metrics gets them, and they add up over processes and restarts."""

import json
import uuid
from collections.abc import Callable

import pytest
import testinfra
from locks import wait
from scenario import converge
from testinfra.host import Host

LIVE = testinfra.get_host("podman://tf-app2")
TLS = "/etc/ssl/tradefleet"
CURL = f"curl -sS --max-time 10 --cacert {TLS}/ca.crt"
KEY = "-H 'Authorization: Bearer molecule-molecule-molecule-molecule-1'"
ORDER = """{"symbol":"AAPL","side":"buy","type":"market","quantity":"1"}"""
URL = "https://10.203.0.108:9464/metrics"
LIVE_URL = "https://10.203.0.109:9465/metrics"
REQUESTS = "tradefleet_http_request_duration_seconds_count"
READS = f'{REQUESTS}{{method="GET",process="api",route="/v1/instruments",status="2xx"}}'
POOL = 'tradefleet_database_pool_size_connections{process="api",server="primary"}'


def certificate(name: str) -> str:
    """Return curl's options for this certificate and its key."""
    return f"--cert {TLS}/{name}.crt --key {TLS}/{name}.key"


def metrics(host: Host, url: str = LIVE_URL) -> dict[str, float]:
    """Return each series with its value."""
    text = host.check_output(f"{CURL} -f {certificate('metrics')} {url}")
    lines = [line.rpartition(" ") for line in text.splitlines() if not line.startswith("#")]
    return {name: float(value) for name, _, value in lines}


def pid(host: Host, service: str) -> str:
    """Return the process ID of a service."""
    return str(host.check_output(f"systemctl show -p MainPID --value tradefleet-{service}"))


def workers() -> list[str]:
    """Return the process IDs of the API's workers on the live host."""
    return str(LIVE.check_output(f"pgrep -P {pid(LIVE, 'api')}")).split()


def read(host: Host, count: int) -> None:
    """Send this many requests to the live host, each on a connection of its own."""
    each = f"{CURL} -o /dev/null -w '%{{http_code}}\\n' https://10.203.0.109:9443/v1/instruments"
    assert host.check_output(f"seq {count} | xargs -P 4 -I NUMBER {each}").split() == ["200"] * count


def answers(get: Callable[[], object]) -> bool:
    """Return whether something can be read at all."""
    try:
        get()
    except AssertionError:
        return False
    return True


def test_host_states_release_color_and_services(host: Host) -> None:
    """Only the live host has a worker; it has no Redis."""
    idle, live = metrics(host, URL), metrics(host)
    assert idle['tradefleet_process_up{process="worker"}'] == 0
    assert live['tradefleet_process_up{process="worker"}'] == 1
    for found, color, process in ((idle, "green", "api"), (live, "blue", "api"), (live, "blue", "worker")):
        (build,) = [name for name in found if name.startswith("tradefleet_build_info") and f'"{process}"' in name]
        assert f'color="{color}"' in build
        assert 'release="0.1.0"' in build
    assert idle['tradefleet_dependency_up{dependency="redis"}'] == 1
    assert 'tradefleet_dependency_up{dependency="redis"}' not in live
    assert live["tradefleet_outbox_failed_events"] == 0


@pytest.mark.parametrize(("options", "result"), [(certificate("metrics"), "200"), (certificate("host"), "403")])
def test_host_certificate_is_not_enough(host: Host, options: str, result: str) -> None:
    """The same host has both."""
    assert host.check_output(f"{CURL} -o /dev/null -w '%{{http_code}}' {options} {URL}") == result


def test_certificate_for_metrics_of_another_host_is_refused(host: Host) -> None:
    """Also by the other host's own listener."""
    for url in (URL, LIVE_URL):
        code = LIVE.check_output(f"{CURL} -o /dev/null -w '%{{http_code}}' {certificate('metrics')} {url}")
        assert code == "403"


def test_clients_without_a_certificate_of_the_fleet_are_refused(host: Host) -> None:
    """None, one of another CA with the right name, an old TLS, and no TLS."""
    subject = "-subj /CN=x -addext subjectAltName=DNS:metrics.app1.scenario.test"
    host.check_output(f"openssl req -x509 -newkey rsa:2048 -nodes {subject} -keyout /root/x.key -out /root/x.crt")
    for options in ("", "--cert /root/x.crt --key /root/x.key", f"--tls-max 1.2 {certificate('metrics')}"):
        refused = host.run(f"{CURL} {options} {URL}")
        assert refused.rc in (35, 56), options
        assert "tradefleet" not in refused.stdout
    assert "tradefleet" not in host.run(f"curl -sS --max-time 5 {URL.replace('https', 'http')}").stdout


def test_api_does_not_serve_metrics(host: Host) -> None:
    """So clients of the load balancer cannot reach them."""
    assert (
        host.check_output(f"{CURL} -o /dev/null -w '%{{http_code}}' {KEY} https://10.203.0.108:8443/metrics") == "404"
    )


def test_requests_of_all_processes_add_up_while_one_is_replaced(host: Host) -> None:
    """A killed worker's requests stay, its share of a gauge does not."""
    before = metrics(host)
    assert before[POOL] == 16
    read(host, 40)
    assert metrics(host)[READS] == before.get(READS, 0) + 40
    former = workers()
    LIVE.check_output(f"kill -9 {former[0]}")
    wait(lambda: len(workers()) == 2 and workers() != former, 20)
    wait(lambda: metrics(host).get(POOL) == 16, 20)
    read(host, 20)
    after = metrics(host)
    assert (after[READS], after[POOL]) == (before.get(READS, 0) + 60, 16)
    assert after['tradefleet_http_requests_in_flight{process="api"}'] <= 1  # the listener's own /readyz


def test_restart_of_the_api_starts_at_zero_and_restarts_the_listener(host: Host) -> None:
    """Its folder is empty then, so no value of a former process is left."""
    read(host, 3)
    listener, former = pid(LIVE, "metrics"), metrics(host)[READS]
    LIVE.check_output("systemctl restart tradefleet-api")
    wait(lambda: answers(lambda: metrics(host)) and metrics(host).get(POOL) == 16, 20)
    assert pid(LIVE, "metrics") not in (listener, "0")
    read(host, 1)
    found = metrics(host)
    assert found[READS] == 1 < former
    pids = {name.removesuffix(".db").rpartition("_")[2] for name in LIVE.file("/run/tradefleet/metrics").listdir()}
    assert pids <= {pid(LIVE, "api"), *workers()}


def test_worker_and_orders_are_counted(host: Host) -> None:
    """One host accepts the order, and the other one's worker applies its event."""
    order = 'tradefleet_orders_total{outcome="accepted",process="api",type="market"}'
    event = 'tradefleet_worker_events_total{process="worker",result="applied"}'
    accepted, applied = metrics(host, URL)[order], metrics(host)[event]
    headers = f"{KEY} -H 'Idempotency-Key: {uuid.uuid4()}'"
    host.check_output(f"{CURL} -f {headers} --json '{ORDER}' https://10.203.0.108:8443/v1/orders")
    assert metrics(host, URL)[order] == accepted + 1
    wait(lambda: metrics(host)[event] >= applied + 1, 10)
    assert metrics(host)["tradefleet_outbox_events"] == 0


def test_listener_reports_a_database_that_is_down(host: Host) -> None:
    """What it cannot know is absent."""
    host.check_output("systemctl stop pgbouncer")
    try:
        found = metrics(host, URL)
        assert (found["tradefleet_api_up"], found['tradefleet_dependency_up{dependency="database"}']) == (1, 0)
        assert not [name for name in found if name.startswith("tradefleet_outbox")]
    finally:
        host.check_output("systemctl start pgbouncer")
    wait(lambda: metrics(host, URL).get("tradefleet_outbox_events") == 0, 10)


def test_listener_that_fails_does_not_affect_the_api(host: Host) -> None:
    """systemd restarts it alone. Without the API it stops, and starts with it again."""
    api, listener = pid(host, "api"), pid(host, "metrics")
    host.check_output(f"kill -9 {listener}")
    wait(lambda: answers(lambda: metrics(host, URL)), 10)
    assert pid(host, "api") == api
    assert pid(host, "metrics") != listener
    host.check_output("systemctl stop tradefleet-api")
    assert pid(host, "metrics") == "0"
    host.check_output("systemctl start tradefleet-api")
    wait(lambda: answers(lambda: metrics(host, URL)), 10)


def test_its_sandbox_is_that_of_the_api_and_it_is_small(host: Host) -> None:
    """Its system calls are filtered, its only secret is the host's key, and it has 40 MB at most."""
    read(host, 1)
    metrics(host)
    status = LIVE.check_output(f"cat /proc/{pid(LIVE, 'metrics')}/status")
    for line in ("CapEff:\t0000000000000000", "CapBnd:\t0000000000000000", "NoNewPrivs:\t1", "Seccomp:\t2"):
        assert line in status
    assert LIVE.file("/run/credentials/tradefleet-metrics.service").listdir() == ["tls_key"]
    (size,) = [int(line.split()[1]) for line in status.splitlines() if line.startswith("VmRSS")]
    began = LIVE.check_output(f"cat /proc/{pid(LIVE, 'metrics')}/stat").split()[13:15]
    for _ in range(20):
        metrics(host)
    ended = LIVE.check_output(f"cat /proc/{pid(LIVE, 'metrics')}/stat").split()[13:15]
    spent = (sum(map(int, ended)) - sum(map(int, began))) * 10 / 20
    print(f"metrics listener: {size // 1024} MB, {spent:.1f} ms of a core for a scrape")
    assert size < 40 * 1024


@pytest.mark.thorough  # runs the role twice; the state of the listener is rarely changed so
def test_without_clients_there_is_no_listener(host: Host) -> None:
    """It stops on a live host, and starts again, without a restart of the API."""
    api = pid(LIVE, "api")
    converge("--limit", "app2", "-e", json.dumps({"app_metrics_clients": []}))
    assert (pid(LIVE, "api"), pid(LIVE, "metrics")) == (api, "0")
    assert LIVE.run("systemctl is-enabled tradefleet-metrics").stdout.strip() == "disabled"
    converge("--limit", "app2")
    assert answers(lambda: metrics(host))
    assert pid(LIVE, "api") == api
