"""The worker, `tradefleet-worker`: applies the effects of events until SIGTERM."""

import logging
import signal

from gunicorn.systemd import sd_notify  # type: ignore[import-untyped]  # gunicorn says nothing of its types

from tradefleet.entrypoints.wsgi import create_app
from tradefleet.platform.events.worker import Worker

log = logging.getLogger(__name__)


def main() -> None:
    """Run a worker with the application's settings."""
    app = create_app()
    worker = Worker(app.extensions["database"], app.extensions["handlers"])
    signal.signal(signal.SIGTERM, worker.stop)
    sd_notify("READY=1", log)
    # Handlers read the settings of their domain from it.
    with app.app_context():
        worker.work()
