"""Files that the playbooks write on the controller."""

import yaml
from render import PROJECT, render_file

TEMPLATES = PROJECT / "playbooks/procedures/traffic/templates"


def test_traffic_yml_contains_the_recorded_values() -> None:
    """They are strings, even if a version looks like a number."""
    recorded = {"live": "green", "releases": {"blue": "1.10", "green": ""}}
    text = render_file(TEMPLATES / "traffic.yml.j2", traffic_record=recorded)
    stated = {"traffic_live_color": "green", "release_blue": "1.10", "release_green": ""}
    assert yaml.safe_load(text) == stated | {"traffic_canary_percent": 0}
