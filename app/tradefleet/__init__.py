"""TradeFleet's trading application: `flask --app tradefleet run`, or gunicorn with `tradefleet:create_app()`.

This module keeps the names that files on hosts use: gunicorn's unit names `create_app`, its configuration `logs`.
These files outlive a release, and start an older or a newer one.
"""

from tradefleet.entrypoints.wsgi import create_app
from tradefleet.platform import logs

__all__ = ["create_app", "logs"]
