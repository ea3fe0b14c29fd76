"""What the playbooks write on the controller."""

import yaml
from render import PROJECT, render_file

TEMPLATES = PROJECT / "playbooks/procedures/traffic/templates"


def test_traffic_states_what_was_recorded() -> None:
    """As strings, even where a version looks like a number."""
    recorded = {"live": "green", "releases": {"blue": "1.10", "green": ""}}
    text = render_file(TEMPLATES / "traffic.yml.j2", traffic_record=recorded)
    stated = {"traffic_live_color": "green", "release_blue": "1.10", "release_green": ""}
    assert yaml.safe_load(text) == stated | {"traffic_canary_percent": 0}
