"""TradeFleet's trading application: `flask --app tradefleet run`, or gunicorn with `tradefleet:create_app()`.

What a host's files name stands here, and stays: gunicorn's unit names `create_app`, gunicorn's configuration `logs`.
These files outlive a release, and start an older or a newer one.
"""

from tradefleet.entrypoints.wsgi import create_app
from tradefleet.platform import logs

__all__ = ["create_app", "logs"]
