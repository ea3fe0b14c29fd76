"""The metrics listener, `tradefleet-metrics`: one process on each host, apart from the API and its threads."""

import logging
import os
from collections.abc import Mapping
from pathlib import Path

from gunicorn.systemd import sd_notify  # type: ignore[import-untyped]  # gunicorn says nothing of its types
from prometheus_client import CollectorRegistry

from tradefleet.platform.metrics.listener import Identity, Listener
from tradefleet.platform.metrics.processes import Processes
from tradefleet.platform.metrics.readiness import Readiness

log = logging.getLogger(__name__)


def main() -> None:
    """Serve until SIGTERM, with what the unit sets."""
    logging.basicConfig(level="INFO", format="%(levelname)s %(message)s")
    with make(os.environ) as listener:
        sd_notify("READY=1", log)
        listener.serve_forever()


def make(environment: Mapping[str, str]) -> Listener:
    """Return the listener. These variables are no settings: the unit also starts an older or a newer release.

    METRICS_ADDRESS and METRICS_API are "address:port", METRICS_CLIENTS are names with a space between them.
    """
    host, _, port = environment["METRICS_ADDRESS"].rpartition(":")
    authority = environment["METRICS_CA_FILE"]
    identity = Identity(
        certificate=Path(environment["METRICS_CERTIFICATE_FILE"]),
        key=Path(environment["CREDENTIALS_DIRECTORY"], "tls_key"),
        authority=Path(authority),
        clients=environment["METRICS_CLIENTS"].split(),
    )
    registry = CollectorRegistry()
    folders = {name: Path(environment[f"METRICS_{name.upper()}_DIR"]) for name in ("api", "worker")}
    registry.register(Processes(folders))
    registry.register(Readiness(environment["METRICS_API"], authority))
    return Listener((host, int(port)), identity, registry)
