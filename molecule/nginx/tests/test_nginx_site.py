"""One of two sites: what an edge states about itself, and that a closed site serves nobody."""

import json

from edge import curl, inside_status
from testinfra.host import Host


def test_serving_edge_states_its_term() -> None:
    """The load balancers of the other site read it."""
    body, status = curl(path="/edge-site").stdout.rsplit("\n", 1)
    assert status.split()[0] == "200"
    assert json.loads(body) == {"site": "scenario", "term": 7}


def test_closed_site_serves_nobody(host: Host) -> None:
    """Not even the state of the application, a share of a canary, or an operator; nothing is reloaded."""
    host.check_output("touch /etc/nginx/standby")
    try:
        for path in ("/", "/readyz", "/version", "/edge-site", "/public-many"):
            assert curl(path=path).stdout.split()[-1] == "503", path
        assert inside_status("up1", "/")[0] == 503
        loopback = "curl -sk -o /dev/null -w '%{http_code}' https://127.0.0.1/"
        assert host.check_output(f"{loopback}edge-alive") == "200"
        assert host.check_output(f"{loopback}edge-serves") == "503"
    finally:
        host.check_output("rm /etc/nginx/standby")
    assert curl().stdout.split()[-2] == "200"


def test_watch_is_ready_although_the_other_site_is_unreachable(host: Host) -> None:
    """nginx starts after it."""
    assert host.service("tradefleet-fence").is_running
    assert "tradefleet-fence.service" in host.check_output("systemctl show --property=After --value nginx")
