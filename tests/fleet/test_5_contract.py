"""The API conforms to its OpenAPI document through the VIP, the edge and a WAF in blocking mode."""

from collections.abc import Iterator

import pytest
from clients import api_key
from contract import findings
from lab import LAB, VIP, play

NAME = "tradefleet.test"


@pytest.fixture
def _blocks() -> Iterator[None]:
    """Set the WAF to blocking mode on both load balancers, and afterward restore the inventory's mode."""
    play("site", "--limit", "edge", "--tags", "nginx", nginx_waf_mode="block")
    yield
    play("site", "--limit", "edge", "--tags", "nginx")


@pytest.mark.usefixtures("_blocks")
def test_every_response_conforms_to_the_document() -> None:
    """All checks and phases of schemathesis run with a fixed seed; responses of the edge count as well."""
    authority = ("--tls-verify", str(LAB / "ca.crt"))
    found = findings(f"https://{NAME}", api_key(), *authority, seconds=180, examples=20, resolve=f"{NAME}={VIP}")
    assert found == ""
