"""The routes that need no key are listed in one place for the author of the firewall."""

import re
from pathlib import Path

from repository import PROJECT, read
from tradefleet import create_app
from tradefleet.platform.http.guard import public_endpoints
from tradefleet.platform.settings import Settings


def test_each_public_route_is_listed_in_the_installation_guide(tmp_path: Path) -> None:
    """The guide lists no route that needs a key."""
    text = read(PROJECT / "docs/install.md")
    (section,) = re.findall(r"### What answers without a key\n(.*?)\n#", text, re.DOTALL)
    app = create_app({"SETTINGS": Settings(), "INSTANCE_PATH": str(tmp_path)})
    app.extensions["database"].dispose()
    rules = list(app.url_map.iter_rules())
    listed = {rule.rule for rule in rules if f"`{re.sub('<.*', '…', rule.rule)}`" in section}
    assert listed == {rule.rule for rule in rules if rule.endpoint in public_endpoints(app)}
