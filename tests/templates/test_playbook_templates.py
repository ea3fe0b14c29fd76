"""What the playbooks write on the controller."""

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
