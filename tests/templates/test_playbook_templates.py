"""What the playbooks write on the controller."""

from typing import Any

import yaml
from render import PROJECT, render_file

TEMPLATES = PROJECT / "playbooks/templates"


def test_traffic_says_what_it_was_told() -> None:
    """As strings, even where a version looks like a number."""
    text = render_file(
        TEMPLATES / "traffic.yml.j2", traffic={"live": "green", "releases": {"blue": "1.10", "green": ""}}
    )
    stated = {"traffic_live_color": "green", "release_blue": "1.10", "release_green": ""}
    assert yaml.safe_load(text) == stated | {"traffic_canary_percent": 0}


def test_status_ends_with_the_lock_and_the_last_operations() -> None:
    """And warns where there is none, or where the journal was changed."""

    def rendered(**answer: object) -> str:
        host = {"group_names": ["ops"], "status_systemd": {"stdout": "running"}, "status_operations": answer}
        variables = {"groups": {"all": ["ops1"], "edge": [], "postgres": []}, "hostvars": {"ops1": host}}
        return render_file(TEMPLATES / "status.txt.j2", fleet_lock_host="ops1", fleet_vip="10.0.0.10", **variables)

    said = "lock: alex@desk for 0 min 2 s: site\n\ntime  who"
    whole = rendered(rc=0, stdout=said, stderr="")
    assert whole.startswith(f"ops1  ops                  \n\n{said}\n\nwarning: ")
    assert "ops1: " not in whole
    broken = rendered(rc=1, stdout=said, stderr="The journal is broken: line 4 does not follow the one before it.")
    assert said in broken
    assert "\nwarning: ops1: The journal is broken: line 4" in broken
    assert "\nwarning: ops1: no lock and no journal\n" in rendered(rc=2, stdout="", stderr="", msg="No such file")


def edge_status(traffic: str, canary: int = 0, **asked: Any) -> str:
    """Return what status says of one load balancer; blue is live."""
    host = {
        "inventory_hostname": "lb1",
        "group_names": ["edge"],
        "status_systemd": {"stdout": "running"},
        "status_edge": {"json": {"color": "blue", "release": "0.1.0"}, "certificate_days": 390} | asked,
        "status_traffic": {"stdout": f"traffic-sets/{traffic}" if traffic else ""},
        "status_waf": {"stdout": "On"},
        "status_maintenance": {"stat": {"exists": False}},
        "status_vip": {"stdout": "eth0 UP 10.0.0.10/32"},
    }
    variables = {
        "groups": {"all": ["lb1"], "edge": ["lb1"], "postgres": [], "ops": ["ops1"]},
        "hostvars": {"lb1": host},
    }
    stated = {"traffic_live_color": "blue", "traffic_canary_percent": canary, "fleet_idle_color": "green"}
    plain = {"fleet_lock_host": "", "fleet_vip": "10.0.0.10", "fleet_acme": False}
    return render_file(TEMPLATES / "status.txt.j2", **variables, **stated, **plain)


def test_status_compares_the_traffic_of_each_load_balancer() -> None:
    """Live colour, canary's share and shadow's share with traffic.yml; both as they should be is no warning."""
    assert "warning: lb1" not in edge_status("blue")
    same = edge_status("blue+green-10", canary=10)
    assert "lb1  edge                 live=blue release=0.1.0 blue+green-10 certificate=390d waf=block vip\n" in same
    assert "warning: lb1" not in same
    for traffic, canary, stated in (
        ("blue+green-10", 0, "blue"),
        ("blue", 10, "blue+green-10"),
        ("blue+green-50", 10, "blue+green-10"),
        ("blue+shadow-green-5", 0, "blue"),
        ("green", 0, "blue"),
        ("", 0, "blue"),
    ):
        warned = f"warning: lb1 has the traffic «{traffic}», traffic.yml says «{stated}»: unless a verb is at work, "
        assert f"{warned}«make site» puts it right" in edge_status(traffic, canary)


def test_status_tells_of_a_certificate_that_ends_soon() -> None:
    """In time, and who has one that has ended."""
    assert "certificate that is valid" not in edge_status("blue", certificate_days=14)
    assert "warning: lb1 serves a certificate that is valid for 13 days yet: «make site»" in edge_status(
        "blue", certificate_days=13
    )
    ended = edge_status("blue", json={}, certificate_days="none", msg="10.0.0.11: certificate has expired")
    assert "live=none release=none certificate=none" in ended
    assert "warning: lb1 serves nothing, traffic.yml says blue" in ended
    assert "(10.0.0.11: certificate has expired)" in ended


def test_status_names_a_host_that_a_roll_has_left_out() -> None:
    """And says what to type where a live host runs another release than traffic.yml names."""

    def rendered(readiness: str, release: str) -> str:
        answers = [{"json": {"release": release, "commit": "abc"}}, {"json": {"status": readiness, "dependencies": {}}}]
        host = {
            "group_names": ["app", "app_blue"],
            "app_color": "blue",
            "status_systemd": {"stdout": "running"},
            "status_app": {"results": answers},
            "status_worker": {"stdout": "active"},
            "status_settings": {"results": [{"stat": {"checksum": "1"}}, {"stat": {"checksum": "1"}}]},
        }
        variables = {"groups": {"all": ["blue1"], "edge": [], "postgres": []}, "hostvars": {"blue1": host}}
        stated = {"fleet_releases": {"blue": "0.1.0", "green": ""}, "traffic_live_color": "blue"}
        plain = {"fleet_lock_host": "", "fleet_vip": "10.0.0.10"}
        return render_file(TEMPLATES / "status.txt.j2", **variables, **stated, **plain)

    left = rendered("draining", "0.2.0")
    assert (
        "warning: blue1 is out of service (draining): a roll was interrupted, «make rolling VERSION=…» finishes it"
        in left
    )
    assert "warning: blue1 runs 0.2.0, traffic.yml says 0.1.0: «make rolling VERSION=0.1.0»" in left
    assert "blue1" not in rendered("ready", "0.1.0").partition("warning:")[2]


def test_status_names_a_worker_that_does_not_follow_its_colour() -> None:
    """One that should be at work, one that should not, and events that nobody takes."""

    def rendered(color: str, state: str, waiting: float = 0, failed: int | None = 0) -> str:
        ready = {"status": "ready", "dependencies": {}, "outbox_seconds": waiting, "outbox_failed": failed}
        host = {
            "group_names": ["app"],
            "app_color": color,
            "status_systemd": {"stdout": "running"},
            "status_app": {"results": [{"json": {"release": "0.1.0", "commit": "abc"}}, {"json": ready}]},
            "status_settings": {"results": [{"stat": {"checksum": "1"}}, {"stat": {"checksum": "1"}}]},
            "status_worker": {"stdout": state},
        }
        variables = {"groups": {"all": ["app1"], "edge": [], "postgres": []}, "hostvars": {"app1": host}}
        stated = {"fleet_releases": {"blue": "0.1.0", "green": "0.1.0"}, "traffic_live_color": "blue"}
        plain = {"fleet_lock_host": "", "fleet_vip": "10.0.0.10"}
        return render_file(TEMPLATES / "status.txt.j2", **variables, **stated, **plain)

    for color, state, word in (("blue", "active", "running"), ("green", "inactive", "idle")):
        assert f" ready worker={word}\n" in rendered(color, state)
        assert "warning: app1" not in rendered(color, state, waiting=60)
    assert "warning: app1: its worker is down, and its colour serves: «make site»" in rendered("blue", "failed")
    assert "warning: app1: its worker is running, and its colour does not serve" in rendered("green", "active")
    assert "warning: app1 finds that events have been waiting in the outbox for 61 s" in rendered("blue", "active", 61)
    assert "warning: app1 finds that 3 events failed and were set aside" in rendered("blue", "active", failed=3)
    assert "warning: app1" not in rendered("blue", "active", failed=None)
