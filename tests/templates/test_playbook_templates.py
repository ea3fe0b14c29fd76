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


def test_the_vault_keeps_what_it_has_and_adds_what_it_lacks() -> None:
    """New secrets are long and differ from each other."""
    text = render_file(
        TEMPLATES / "vault.yml.j2", secrets_names=["vault_a", "vault_b", "vault_c"], vault_b="kept as it is"
    )
    vault = yaml.safe_load(text)
    assert vault["vault_b"] == "kept as it is"
    assert len(vault["vault_a"]) == len(vault["vault_c"]) == 40
    assert vault["vault_a"] != vault["vault_c"]
