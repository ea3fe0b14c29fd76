"""A domain that exists in tests only: it uses everything that a domain may declare.

It imports itself relatively, since it is read here and runs below `tradefleet.domains` (test_recipe.py).
"""

from tradefleet.domains.orders.services import ACCEPTED
from tradefleet.platform.application import Application

from . import commands, models, services, settings, views


def register(app: Application) -> None:
    """Declare one of each kind."""
    app.add_models(models.Quote)
    app.add_views(views.blueprint, public=["list_quotes"])
    app.add_handler(ACCEPTED, services.note)
    app.add_command(commands.quotes)
    app.add_settings(settings.QuoteSettings)
