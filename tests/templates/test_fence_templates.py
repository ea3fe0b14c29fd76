"""The watch that closes a site: whom it asks, and what it may write."""

import json

from inputs import INPUTS
from render import lines, render

FENCE = INPUTS["fence"]


def test_program_asks_all_load_balancers_of_the_other_site() -> None:
    """It verifies their name with the fleet's CA."""
    settings = json.loads(render("fence", "tradefleet-fence.json.j2", **FENCE))
    assert (settings["peers"], settings["port"], settings["name"]) == (["10.1.0.11", "10.1.0.12"], 443, "trade.example")
    assert settings["ca"] == "/etc/ssl/tradefleet/ca.crt"
    assert settings["flag"] == "/x/standby"


def test_nginx_starts_after_the_first_round() -> None:
    """The unit writes the flag and its own statement, and nothing else."""
    unit = lines(render("fence", "tradefleet-fence.service.j2", **FENCE))
    assert {"Before=nginx.service", "Type=notify", "CapabilityBoundingSet=", "ProtectSystem=strict"} <= set(unit)
    assert "ReadWritePaths=/x /var/lib/tradefleet-fence" in unit
