"""The API keeps its OpenAPI document's word: through the address of the fleet, the edge and a WAF that refuses."""

from collections.abc import Iterator

import pytest
from clients import api_key
from contract import findings
from lab import LAB, VIP, play

NAME = "tradefleet.test"


@pytest.fixture
def _blocks() -> Iterator[None]:
    """A WAF that refuses on both load balancers, and afterwards what the inventory states."""
    play("site", "--limit", "edge", "--tags", "nginx", nginx_waf_mode="block")
    yield
    play("site", "--limit", "edge", "--tags", "nginx")


@pytest.mark.usefixtures("_blocks")
def test_every_answer_is_as_the_document_states() -> None:
    """All checks of schemathesis and all its phases, with a fixed seed: an answer of the edge counts as well."""
    authority = ("--tls-verify", str(LAB / "ca.crt"))
    found = findings(f"https://{NAME}", api_key(), *authority, seconds=180, examples=20, resolve=f"{NAME}={VIP}")
    assert found == ""
